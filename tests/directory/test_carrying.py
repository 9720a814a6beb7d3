"""A process that loads another copy of the directory keeps what only it has heard."""

from __future__ import annotations

from openred_central.clock import Now
from openred_central.directory.carrying import later_signs
from tests.support.building import beat, make_directory, register


def now(seconds: float) -> Now:
    return Now(seconds, 1_700_000_000.0 + seconds, seconds)


def test_only_later_signs_of_life_of_one_registration_are_carried() -> None:
    former, loaded = make_directory(), make_directory()
    # The slots differ in both copies.
    register(loaded, "new", now(0.0))
    for name in ("later", "earlier", "gone", "anew"):
        register(former, name, now(1.0))
    for name in ("later", "earlier"):
        register(loaded, name, now(1.0))
    register(loaded, "anew", now(2.0))
    for name in ("later", "gone", "anew"):
        beat(former, name, now(50.0))
    beat(loaded, "earlier", now(50.0))
    carried = later_signs(former.nodes.registry, loaded.nodes.registry)
    slot = loaded.nodes.registry.slot_of("later")
    assert list(carried.slots) == [slot]
    assert list(carried.last_seen_s) == [50.0]
    assert list(carried.last_seen_at) == [1_700_000_050.0]

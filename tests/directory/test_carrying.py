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


def test_signs_of_life_in_the_same_slot_are_carried_whatever_else_changed() -> None:
    former, loaded = make_directory(), make_directory()
    for directory in (former, loaded):
        for name in ("later", "same", "changed", "left"):
            register(directory, name, now(1.0))
    for name in ("later", "changed", "left"):
        beat(former, name, now(50.0))
    changed = loaded.nodes.registry.slot_of("changed")
    assert changed is not None
    loaded.nodes.rewrite(loaded.nodes.registry.record(changed)._replace(profile=b"[]"))
    for directory in (former, loaded):
        left = directory.nodes.registry.slot_of("left")
        assert left is not None
        directory.nodes.discard(left)
    # One copy has more slots than the other.
    register(loaded, "behind", now(2.0))
    register(loaded, "last", now(2.0))
    carried = later_signs(former.nodes.registry, loaded.nodes.registry)
    assert list(carried.slots) == [0, changed]
    beat(loaded, "last", now(60.0))
    carried = later_signs(loaded.nodes.registry, former.nodes.registry)
    assert not carried.slots, "nodes that only one copy has are left out"

"""What is read of many nodes at once is what is read of each."""

from __future__ import annotations

import random

from openred_central.directory.lifecycle import LIVE_STATES
from openred_central.directory.state.node import DISCOVERABLE, HELD, LEFT, Record
from openred_central.directory.state.registry import Registry

from ..building import record


def test_what_is_shown_of_many_is_what_is_known_of_each() -> None:
    registry = Registry(4)
    for slot, node_id in enumerate("abc"):
        registry.insert(record(slot, node_id, services=node_id, last_seen_at=float(slot)))
    assert list(registry.shown([2, 0])) == [
        (
            registry.node_id(slot),
            registry.state(slot),
            registry.flags(slot),
            registry.last_seen_at[slot],
            registry.set_id(slot),
            registry.profile(slot),
        )
        for slot in (2, 0)
    ]


def test_many_records_are_those_of_each(seed: int) -> None:
    chance = random.Random(seed)
    registry = Registry(4)
    for slot in range(60):
        services, away_until_s = chance.choice(("", "chat", "chat,mail")), chance.choice((0.0, 9.5))
        generation, next_key = chance.choice([(0, ""), (0, ""), (2, "key")])
        registry.insert(
            record(
                slot,
                f"n{slot}",
                state=chance.choice(LIVE_STATES),
                services=services,
                region=chance.choice(("", "eu")),
                since_s=chance.random(),
                profile=b"[%d]" % slot,
                away_from_s=away_until_s and 1.5,
                away_until_s=away_until_s,
                history=f"{slot}",
                generation=generation,
                next_key=next_key,
            )
        )
    slots = chance.sample(range(60), 40)
    assert registry.records(slots) == [registry.record(slot) for slot in slots]
    assert all(type(each) is Record for each in registry.records(slots))
    assert registry.records([]) == []


def test_flags_of_many_are_looked_at_together() -> None:
    registry = Registry(4)
    for slot, flags in enumerate((0, DISCOVERABLE, DISCOVERABLE | LEFT, DISCOVERABLE | HELD)):
        registry.insert(record(slot, f"n{slot}", flags=flags))
    assert registry.discoverable([3, 2, 1, 0]) == bytes([1, 0, 1, 0])
    assert registry.any_held([0, 3])
    assert not registry.any_held([0, 1, 2])
    assert not registry.any_held([])

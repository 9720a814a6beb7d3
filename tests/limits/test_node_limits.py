"""Limits of single nodes: each has its own, and nobody can push it out."""

from __future__ import annotations

from openred_central.limits.gcra import Policy
from openred_central.limits.node_limits import NodeLimit

BEAT = Policy("heartbeat", 1, 60, 2)


def test_each_node_has_its_own() -> None:
    limit = NodeLimit(BEAT)
    for slot in (5, 0, 3):
        assert [limit.charge(slot, 1.0, 10.0).allowed for _ in range(3)] == [True, True, False]
    assert limit.charge(3, 1.0, 70.0).allowed


def test_nobody_else_can_make_a_node_forgotten() -> None:
    limit = NodeLimit(BEAT)
    for _ in range(2):
        limit.charge(0, 1.0, 0.0)
    for slot in range(1, 100_000):
        limit.charge(slot, 1.0, 0.0)
    assert not limit.charge(0, 1.0, 0.0).allowed
    assert len(limit) == 100_000


def test_a_new_node_in_the_slot_of_another_begins_with_nothing_used() -> None:
    limit = NodeLimit(BEAT)
    for _ in range(3):
        limit.charge(7, 100.0, 0.0)
    assert limit.charge(7, 200.0, 0.0).remaining == 1
    # Slots in between that were never charged belong to nobody yet.
    assert limit.charge(6, 100.0, 0.0).remaining == 1

"""The heap of deadlines: every slot is looked at once, in time, and postponing costs nothing."""

from __future__ import annotations

import random

from openred_central.directory.state.deadlines import STALE_SLACK, SWEPT_PER_CALL, Deadlines


def popped(deadlines: Deadlines, now_s: float) -> list[int]:
    found, taken = list[int](), 1
    while taken:
        slots, taken = deadlines.pop_due(now_s, 7)
        assert len(slots) <= taken <= 7
        found += slots
    return found


def test_slots_come_in_order_and_never_early() -> None:
    deadlines = Deadlines()
    for slot, at_s in enumerate([5.0, 1.0, 3.0]):
        deadlines.arm(slot, at_s)
    assert popped(deadlines, 1.0 - 1 / 1_024) == []
    assert popped(deadlines, 4.0) == [1, 2]
    assert popped(deadlines, 5.0) == [0]
    assert len(deadlines) == 0


def test_postponing_leaves_the_heap_alone() -> None:
    deadlines = Deadlines()
    deadlines.arm(0, 10.0)
    for later in range(11, 100):
        deadlines.arm(0, float(later))
    assert deadlines.armed_s(0) == 10.0
    assert deadlines.pop_due(1_000.0, 100) == ([0], 1)


def test_an_earlier_deadline_replaces_the_older_entry() -> None:
    deadlines = Deadlines()
    deadlines.arm(0, 10.0)
    deadlines.arm(0, 4.0)
    assert (len(deadlines), deadlines.armed_s(0), deadlines.next_s()) == (1, 4.0, 4.0)
    assert popped(deadlines, 100.0) == [0]


def test_a_slot_with_two_equal_entries_is_looked_at_once() -> None:
    deadlines = Deadlines()
    deadlines.arm(0, 10.0)
    deadlines.disarm(0)
    deadlines.arm(0, 10.0)
    assert (len(deadlines), deadlines.live_slots()) == (1, {0})
    assert popped(deadlines, 10.0) == [0]


def test_a_disarmed_slot_is_not_looked_at() -> None:
    deadlines = Deadlines()
    deadlines.arm(3, 1.0)
    deadlines.disarm(3)
    deadlines.disarm(3)
    deadlines.disarm(7)
    assert (len(deadlines), deadlines.armed_s(3), deadlines.armed_s(7)) == (0, None, None)
    assert popped(deadlines, 100.0) == []
    assert deadlines.next_s() is None


def test_stale_entries_never_outgrow_the_live_ones_by_much() -> None:
    deadlines = Deadlines()
    for _ in range(5 * STALE_SLACK):
        deadlines.arm(0, 50.0)
        deadlines.disarm(0)
        deadlines.arm(1, 60.0)
        deadlines.disarm(1)
    deadlines.arm(0, 50.0)
    slots, taken = deadlines.pop_due(100.0, 10 * STALE_SLACK)
    assert slots == [0]
    assert taken <= STALE_SLACK + 2


def test_a_century_ahead_is_exact() -> None:
    deadlines = Deadlines()
    far_s = 6_311_520_000.0 + 1 / 1_024
    deadlines.arm(4_000, far_s)
    assert deadlines.armed_s(4_000) == far_s
    assert popped(deadlines, far_s - 1 / 1_024) == []
    assert popped(deadlines, far_s) == [4_000]


def test_deadlines_do_what_a_plain_dictionary_would(seed: int) -> None:
    chance = random.Random(seed)
    deadlines, plain, now_s = Deadlines(), dict[int, float](), 0.0
    for _ in range(5_000):
        slot, at_s = chance.randrange(50), now_s + chance.randrange(200) / 8
        match chance.randrange(4):
            case 0 | 1:
                deadlines.arm(slot, at_s)
                plain[slot] = min(at_s, plain.get(slot, at_s))
            case 2:
                deadlines.disarm(slot)
                plain.pop(slot, None)
            case 3:
                now_s += chance.randrange(8) / 8
                due = {slot for slot, at_s in plain.items() if at_s <= now_s}
                found = popped(deadlines, now_s)
                assert len(found) == len(set(found))
                assert set(found) == due
                for slot in due:
                    del plain[slot]
        assert len(deadlines) == len(plain)
        assert deadlines.live_slots() == plain.keys()
        assert all(deadlines.armed_s(slot) == at_s for slot, at_s in plain.items())


def test_many_armed_at_once_are_like_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    slots = sorted(chance.sample(range(500), 200))
    times_s = [chance.randrange(1_000) / 8 for _ in slots]
    together, single = Deadlines(), Deadlines()
    together.arm_all(slots, [int(at_s * 1_024) for at_s in times_s])
    for slot, at_s in zip(slots, times_s, strict=True):
        single.arm(slot, at_s)
    assert len(together) == len(single)
    assert together.live_slots() == set(slots)
    assert popped(together, 60.0) == popped(single, 60.0)
    assert together.next_s() == single.next_s()
    assert popped(together, 1_000.0) == popped(single, 1_000.0)
    Deadlines().arm_all([], [])


def test_taken_slots_can_be_armed_again_together() -> None:
    deadlines = Deadlines()
    deadlines.arm_all(range(10), [1_024] * 10)
    slots, _ = deadlines.pop_due(1.0, 100)
    deadlines.arm_again(slots[:6], [2_048, 3_072, 2_048, 2_047, 4_096, 2_048])
    assert len(deadlines) == 6
    assert deadlines.live_slots() == set(range(6))
    assert popped(deadlines, 2.0) == [3, 0, 2, 5]
    assert deadlines.armed_s(1) == 3.0


def test_stale_entries_are_dropped_in_pieces_and_live_ones_kept() -> None:
    deadlines = Deadlines()
    for slot in range(10):
        deadlines.arm(slot, 5.0)
        deadlines.arm(slot, 1.0)
        deadlines.arm(slot, 0.5)
    assert popped(deadlines, 0.5) == list(range(10))
    assert deadlines.pop_due(1.0, 4) == ([], 4)
    assert deadlines.pop_due(1.0, 100) == ([], 6)
    assert deadlines.pop_due(4.9, 100) == ([], 0)
    deadlines.arm(0, 5.0)
    # Slot 0 comes first of those at 5.0, twice: its old entry counts again.
    assert deadlines.pop_due(5.0, 1) == ([0], 1)
    assert deadlines.pop_due(5.0, 100) == ([], 10)
    assert deadlines.next_s() is None


def test_a_sweep_is_small_and_loses_no_deadline(seed: int) -> None:
    chance = random.Random(seed)
    deadlines, nodes, sweeps = Deadlines(), 3_000, 0
    state = vars(deadlines)
    plain = {slot: 1_000.0 - slot % 7 for slot in range(nodes)}
    for slot, at_s in plain.items():
        deadlines.arm(slot, at_s)
    for _ in range(5 * nodes):
        slot = chance.randrange(nodes)
        # Everybody comes back again and again, each time to an earlier deadline: all that was is stale.
        plain[slot] -= 1.0
        before = len(state["_old"])
        deadlines.arm(slot, plain[slot])
        if before:
            sweeps += 1
            assert before - len(state["_old"]) <= SWEPT_PER_CALL
            # Live entries may come first in a sweep: they only move.
            moved_max = nodes // SWEPT_PER_CALL
            assert len(state["_heap"]) + len(state["_old"]) <= 2 * nodes + STALE_SLACK + 2 + moved_max
        assert len(deadlines) == nodes
    assert sweeps > nodes / SWEPT_PER_CALL
    assert deadlines.live_slots() == plain.keys()
    for slot in popped(deadlines, 500.0) + popped(deadlines, 990.0) + popped(deadlines, 1_000.0):
        assert plain.pop(slot) <= 1_000.0
    assert not plain

"""The heap of deadlines: every slot is looked at once, in time, and postponing costs nothing."""

from __future__ import annotations

import random

from openred_central.directory.deadlines import STALE_SLACK, Deadlines


def popped(deadlines: Deadlines, now_s: float) -> list[int]:
    found = []
    while (slot := deadlines.pop_due(now_s)) is not None:
        found.append(slot)
    return found


def test_slots_come_in_the_order_of_their_deadlines_and_never_early() -> None:
    deadlines = Deadlines()
    for slot, at_s in enumerate([5.0, 1.0, 3.0]):
        deadlines.arm(slot, at_s)
    assert deadlines.pop_due(1.0 - 1 / 1_024) is None
    assert popped(deadlines, 4.0) == [1, 2]
    assert popped(deadlines, 5.0) == [0]
    assert len(deadlines) == 0


def test_postponing_leaves_the_heap_alone() -> None:
    deadlines = Deadlines()
    deadlines.arm(0, 10.0)
    before = list(deadlines._heap)
    for later in range(11, 100):
        deadlines.arm(0, float(later))
    assert deadlines._heap == before
    assert deadlines.armed_s(0) == 10.0


def test_a_deadline_that_comes_earlier_is_kept_and_the_older_entry_is_dropped() -> None:
    deadlines = Deadlines()
    deadlines.arm(0, 10.0)
    deadlines.arm(0, 4.0)
    assert (len(deadlines), deadlines.armed_s(0), deadlines.next_s()) == (1, 4.0, 4.0)
    assert popped(deadlines, 100.0) == [0]


def test_a_slot_armed_again_at_the_time_of_a_stale_entry_is_still_looked_at_once() -> None:
    deadlines = Deadlines()
    deadlines.arm(0, 10.0)
    deadlines.disarm(0)
    deadlines.arm(0, 10.0)
    assert (len(deadlines), deadlines.live_slots()) == (1, {0})
    assert popped(deadlines, 10.0) == [0]


def test_a_disarmed_slot_is_not_looked_at_and_disarming_twice_is_harmless() -> None:
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
        assert len(deadlines._heap) <= STALE_SLACK + 2
    deadlines.arm(0, 50.0)
    assert popped(deadlines, 100.0) == [0]


def test_a_century_ahead_is_exact() -> None:
    deadlines = Deadlines()
    far_s = 6_311_520_000.0 + 1 / 1_024
    deadlines.arm(4_000, far_s)
    assert deadlines.armed_s(4_000) == far_s
    assert deadlines.pop_due(far_s - 1 / 1_024) is None
    assert deadlines.pop_due(far_s) == 4_000


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

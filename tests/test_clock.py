"""Time as the directory keeps it: what it follows, and what it does not."""

from __future__ import annotations

import random
import runpy
import time

import pytest

from openred_central import clock as clock_module
from openred_central.clock import CLOCK_JUMPS_KEPT, AttendedTime, SystemClock
from tests.support.clock import VirtualClock

YEAR_S = 365 * 86_400.0


def test_clocks_give_seconds_and_the_monotonic_one_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.wall_s() > 1_700_000_000
    readings = [clock.monotonic_s() for _ in range(100)]
    assert readings == sorted(readings)


def test_wall_clock_counts_suspends_where_no_other_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SystemClock().elapsed_s() >= SystemClock().monotonic_s() - 1
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    elsewhere = runpy.run_path(clock_module.__file__)
    assert elsewhere["SystemClock"]().elapsed_s() == pytest.approx(time.time(), abs=60)


def test_a_virtual_clock_moves_only_by_calls() -> None:
    clock = VirtualClock(wall_s=100.0, monotonic_s=7.0)
    assert (clock.wall_s(), clock.monotonic_s()) == (100.0, 7.0)
    clock.advance(2.5)
    assert (clock.wall_s(), clock.monotonic_s()) == (102.5, 9.5)
    clock.jump_wall(-50.0)
    assert (clock.wall_s(), clock.monotonic_s()) == (52.5, 9.5)


def test_attended_time_goes_on_from_where_it_was_persisted() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, attended_s=5_000.0)
    clock.advance(0.5)
    assert attended.now() == (5_000.5, clock.wall_s(), clock.monotonic_s())


def test_attended_time_runs_smoothly_between_two_ticks() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, tick_s=1.0)
    for _ in range(10):
        clock.advance(0.25)
        before_s = attended.now().attended_s
        attended.tick(attending=True)
        assert attended.now().attended_s == before_s
    assert attended.now().attended_s == 2.5


def test_a_suspended_process_ages_nodes_by_two_ticks_at_most() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, tick_s=1.0)
    clock.advance(30 * 86_400.0)
    assert attended.now().attended_s == 2.0
    attended.tick(attending=True)
    clock.advance(1.0)
    attended.tick(attending=True)
    assert attended.now().attended_s == 3.0


@pytest.mark.parametrize("jump_s", [2 * YEAR_S, -2 * YEAR_S, 5.0, -5.0])
def test_a_wall_clock_jump_is_reported_and_moves_no_deadline(jump_s: float) -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, tick_s=1.0)
    clock.advance(1.0)
    clock.jump_wall(jump_s)
    jump = attended.tick(attending=True)
    assert jump == (clock.wall_s(), jump_s)
    assert attended.jumps == [jump]
    assert attended.now().attended_s == 1.0
    clock.advance(1.0)
    assert attended.tick(attending=True) is None


def test_a_wall_clock_that_is_slewed_has_not_jumped() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock)
    clock.advance(1.0)
    clock.jump_wall(0.4)
    assert attended.tick(attending=True) is None
    assert attended.jumps == []


def test_sleep_of_the_machine_is_a_jump_of_the_wall_clock() -> None:
    """The monotonic clock stands still while the machine is suspended, the wall clock does not."""
    clock = VirtualClock()
    attended = AttendedTime(clock)
    clock.jump_wall(8 * 3_600.0)
    jump = attended.tick(attending=True)
    assert jump is not None
    assert jump.jump_s == 8 * 3_600.0


def test_only_the_last_jumps_are_kept() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock)
    for number in range(1, 2 * CLOCK_JUMPS_KEPT + 1):
        clock.jump_wall(10.0 * number)
        attended.tick(attending=True)
    assert len(attended.jumps) == CLOCK_JUMPS_KEPT
    assert attended.jumps[-1].jump_s == 20.0 * CLOCK_JUMPS_KEPT


def test_time_stands_still_while_not_attending() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, tick_s=1.0)
    clock.advance(1.0)
    attended.tick(attending=False)
    assert not attended.attending
    for _ in range(100):
        clock.advance(1.0)
        attended.tick(attending=False)
    assert attended.now().attended_s == 1.0
    attended.tick(attending=True)
    clock.advance(1.0)
    assert attended.now().attended_s == 2.0


def test_attended_time_neither_goes_back_nor_runs_ahead(seed: int) -> None:
    chance = random.Random(seed)
    clock = VirtualClock()
    attended = AttendedTime(clock, tick_s=1.0)
    began_s, last_s = clock.monotonic_s(), 0.0
    for _ in range(2_000):
        clock.advance(chance.choice((0.0, 0.125, 1.0, 1.5, 100.0)))
        clock.jump_wall(chance.choice((0.0, 0.0, YEAR_S, -YEAR_S)))
        if chance.random() < 0.7:
            attended.tick(attending=chance.random() < 0.8)
        now = attended.now()
        assert last_s <= now.attended_s <= now.monotonic_s - began_s
        last_s = now.attended_s


def test_a_follower_tells_what_it_was_told_and_two_ticks_more() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, tick_s=0.5)
    attended.follow(100.0, attending=True)
    assert attended.now().attended_s == 100.0
    clock.advance(0.75)
    assert attended.now().attended_s == 100.75
    clock.advance(50.0)
    assert attended.now().attended_s == 101.0
    attended.follow(150.0, attending=False)
    clock.advance(0.75)
    assert attended.now().attended_s == 150.0


def test_a_follower_that_is_ahead_stands_until_the_leader_has_caught_up() -> None:
    clock = VirtualClock()
    attended = AttendedTime(clock, tick_s=0.5)
    attended.follow(100.0, attending=True)
    clock.advance(1.0)
    for _ in range(3):
        # The leader stood for a while; however often it does, the lead of a follower does not add up.
        attended.follow(100.0, attending=True)
        clock.advance(0.75)
        assert attended.now().attended_s == 101.0
    clock.advance(0.25)
    attended.follow(101.5, attending=True)
    assert attended.now().attended_s == 101.5


def test_a_follower_never_goes_back(seed: int) -> None:
    clock, chance = VirtualClock(), random.Random(seed)
    attended, told_s, leader_s = AttendedTime(clock, tick_s=0.5), [0.0], 0.0
    for _ in range(1_000):
        passed_s = chance.random()
        clock.advance(passed_s)
        leader_s += passed_s * chance.choice((0, 1, 1))
        if chance.random() < 0.7:
            attended.follow(leader_s - chance.random(), attending=chance.random() < 0.8)
        told_s.append(attended.now().attended_s)
        assert told_s[-1] <= leader_s + 1.0 or told_s[-1] == told_s[-2]
    assert told_s == sorted(told_s)

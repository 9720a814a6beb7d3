"""An open loop asks for every request at its time, whatever the server and the generator do."""

from __future__ import annotations

import random

import pytest

from benchmarks.load.schedule import Schedule


def test_requests_are_due_evenly_from_the_start_on() -> None:
    schedule = Schedule(10.0, rate=4)
    assert schedule.take_due(9.99, 100) == []
    assert schedule.take_due(10.0, 100) == [10.0]
    assert schedule.next_s() == 10.25
    assert schedule.take_due(11.0, 100) == [10.25, 10.5, 10.75, 11.0]


def test_who_comes_late_is_told_when_each_request_was_due_and_none_is_left_out() -> None:
    schedule = Schedule(0.0, rate=10)
    assert schedule.take_due(5.0, 3) == [0.0, 0.1, 0.2]
    assert len(schedule.take_due(5.0, 1_000)) == 48


def test_generators_share_the_rate_and_take_turns() -> None:
    schedules = [Schedule(0.0, 10, generator, 3) for generator in range(3)]
    due = sorted(due_s for schedule in schedules for due_s in schedule.take_due(2.95, 1_000))
    assert due == pytest.approx([number / 10 for number in range(30)])


def test_however_it_is_asked_it_gives_the_same_times(seed: int) -> None:
    chance, schedule = random.Random(seed), Schedule(3.0, rate=70)
    now_s, taken = 3.0, []
    while now_s < 8:
        taken += schedule.take_due(now_s, chance.randrange(1, 10))
        now_s += chance.random() / 5
    rest = schedule.take_due(8, 10_000)
    assert taken + rest == Schedule(3.0, rate=70).take_due(8, 10_000)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a rate of 0 is not above 0"):
        Schedule(0.0, rate=0)

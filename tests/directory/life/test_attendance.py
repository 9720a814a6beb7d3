"""Attended time stands still while nobody at all is heard."""

from __future__ import annotations

import pytest

from openred_central.directory.life.attendance import FIRST_SILENT_S, GAPS, HOLD_S_MAX, Attendance
from openred_central.directory.lifecycle import DAY_S
from tests.support.building import HOUR_S, at


def heard_every(gap_s: float, days: float = 30) -> tuple[Attendance, float]:
    """Return what judges a directory in which some node is heard so often, and the time of the last one."""
    attendance, times = Attendance(HOUR_S), int(days * DAY_S / gap_s)
    for number in range(1, times + 1):
        attendance.look(heard=True, active=9, now=at(number * gap_s))
    return attendance, times * gap_s


def silent(attendance: Attendance, at_s: float, *, active: int = 9) -> bool:
    attendance.look(heard=False, active=active, now=at(at_s))
    return attendance.hold is not None


def test_clock_stands_after_an_hour_in_a_busy_directory() -> None:
    attendance, last_s = heard_every(30.0)
    assert not silent(attendance, last_s + HOUR_S - 1)
    assert silent(attendance, last_s + HOUR_S)
    assert attendance.hold is not None
    assert attendance.hold.reason == ("none of 9 active nodes was heard for 3600 s; usual are 30 s")
    attendance.look(heard=True, active=9, now=at(last_s + HOUR_S))
    assert attendance.hold is None
    assert not silent(attendance, last_s + 2 * HOUR_S - 1)


def test_clock_stands_after_ten_usual_gaps_in_a_quiet_directory() -> None:
    attendance, last_s = heard_every(6 * HOUR_S)
    assert not silent(attendance, last_s + GAPS * 5.99 * HOUR_S)
    assert silent(attendance, last_s + GAPS * 6.01 * HOUR_S)


def test_clock_runs_where_no_node_is_expected() -> None:
    attendance, last_s = heard_every(30.0)
    assert not silent(attendance, last_s + DAY_S, active=0)
    assert silent(attendance, last_s + DAY_S, active=1)


def test_clock_never_stands_if_an_operator_wants_so() -> None:
    attendance = Attendance(0.0)
    attendance.resume([5.0] * 1_000)
    assert not silent(attendance, 10_000 * DAY_S)


def test_clock_goes_on_after_half_a_year_until_the_next_silence() -> None:
    attendance, last_s = heard_every(30.0)
    began_s = last_s + HOUR_S
    assert silent(attendance, began_s)
    assert silent(attendance, began_s + HOLD_S_MAX - 1)
    assert not silent(attendance, began_s + HOLD_S_MAX)
    assert attendance.released
    assert not silent(attendance, began_s + 2 * HOLD_S_MAX)
    attendance.look(heard=True, active=9, now=at(began_s + 2 * HOLD_S_MAX))
    # The long gap counts as no more than the silence that begins a hold.
    assert attendance.usual_gap_s < HOUR_S / GAPS
    assert silent(attendance, began_s + 2 * HOLD_S_MAX + HOUR_S)


def test_operator_lets_the_clock_go_on() -> None:
    attendance, last_s = heard_every(30.0)
    assert not attendance.release()
    assert silent(attendance, last_s + DAY_S)
    assert attendance.release()
    assert not silent(attendance, last_s + 2 * DAY_S)


def test_restart_does_not_begin_the_silence_anew() -> None:
    """Without the records' times, each start would let all nodes age by another hour."""
    seen_s = [90 * DAY_S - second for second in range(1_000)] + [5.0] * 1_000
    for _ in range(3):
        attendance = Attendance(HOUR_S)
        attendance.resume(seen_s)
        assert not silent(attendance, 90 * DAY_S + FIRST_SILENT_S - 1)
        assert silent(attendance, 90 * DAY_S + FIRST_SILENT_S)


@pytest.mark.parametrize(("seen", "days"), [(0, 20), (1, 20), (10, 2), (480, 1)])
def test_directory_of_few_nodes_is_doubted_late(seen: int, days: float) -> None:
    attendance = Attendance(HOUR_S)
    attendance.resume([90 * DAY_S] * seen)
    assert attendance.silent_s == pytest.approx(days * DAY_S)


def test_hours_that_are_always_quiet_stop_no_clock() -> None:
    """Each day all nodes are heard within five hours."""
    attendance = Attendance(HOUR_S)
    attendance.resume([10 * DAY_S + second for second in range(2_000)])
    for number in range(20):
        for minute in range(301):
            attendance.look(heard=True, active=9, now=at((10 + number) * DAY_S + 60 * minute))
        for hour in range(5, 24):
            assert not silent(attendance, (10 + number) * DAY_S + hour * HOUR_S)


def test_burst_of_signs_of_life_changes_little() -> None:
    """A caller that sends without a pause for an hour makes no directory patient."""
    attendance, last_s = heard_every(DAY_S)
    before_s = attendance.silent_s
    for second in range(3_600):
        attendance.look(heard=True, active=9, now=at(last_s + second))
    assert attendance.silent_s > 0.97 * before_s


def test_long_burst_wears_off() -> None:
    attendance, attended_s = heard_every(30.0)
    assert attendance.silent_s == HOUR_S
    for _ in range(21):
        # One true node a day: time stands still in between.
        attended_s += min(DAY_S, attendance.silent_s)
        attendance.look(heard=True, active=9, now=at(attended_s))
    assert attendance.silent_s > 2 * DAY_S

"""The dues of heartbeats: one in each cell of a grid of attended time, whatever is heard in between."""

from __future__ import annotations

from itertools import accumulate, pairwise, repeat

from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.life.pace import ADVICE_MAX, AHEAD_MIN, CELL, Pace

DAY_S = 86_400.0
HOUR_S = 3_600.0
SLOTS = st.integers(0, 2**31)
TIMES = st.floats(0, 1e10)


def dues_s(pace: Pace, slot: int, count: int, start_s: float = 0.0) -> list[float]:
    """Return the times at which a node that follows the advice is heard."""
    steps = repeat(None, count)
    return list(accumulate(steps, lambda at_s, _: at_s + pace.advice_s(slot, at_s), initial=start_s))[1:]


@given(SLOTS, TIMES, st.floats(10.0, 1e8))
def test_advice_leads_neither_too_near_nor_too_far(slot: int, now_s: float, pace_s: float) -> None:
    advice_s = Pace(pace_s).advice_s(slot, now_s)
    assert AHEAD_MIN * CELL * pace_s - 1 <= advice_s <= ADVICE_MAX * pace_s + 1


@given(SLOTS, TIMES)
def test_daily_node_is_due_every_20_to_30_hours(slot: int, start_s: float) -> None:
    first, *later = dues_s(Pace(DAY_S), slot, 200, start_s)
    gaps_s = [after - before for before, after in pairwise([first, *later])]
    assert all(20 * HOUR_S - 1 <= gap_s <= 30 * HOUR_S + 1 for gap_s in gaps_s)


def test_daily_node_is_heard_at_every_hour_of_the_day() -> None:
    hours = [int(due_s // HOUR_S) % 24 for due_s in dues_s(Pace(DAY_S), 7, 2_400)]
    assert all(60 <= hours.count(hour) <= 150 for hour in range(24))


@given(SLOTS, st.lists(st.floats(0, 5 * DAY_S), min_size=1, max_size=20))
def test_what_is_heard_in_between_moves_no_due(slot: int, gaps_s: list[float]) -> None:
    """Also where a node starts at any time and sleeps past its dues."""
    pace, grid_s = Pace(DAY_S), [0.0, *dues_s(Pace(DAY_S), slot, 130)]
    for now_s in accumulate(gaps_s):
        told_s = now_s + pace.advice_s(slot, now_s)
        assert min(abs(told_s - due_s) for due_s in grid_s) <= 2


@given(SLOTS, st.floats(3 * DAY_S, 1e9))
def test_last_due_is_told_and_none_is_between_it_and_then(slot: int, then_s: float) -> None:
    pace = Pace(DAY_S)
    last_due_s = pace.last_due_s(slot, then_s)
    assert last_due_s <= then_s <= last_due_s + pace.advice_s(slot, last_due_s) + 1
    before_s = last_due_s - DAY_S / 2
    assert abs(before_s + pace.advice_s(slot, before_s) - last_due_s) <= 1


def test_nodes_do_not_send_in_step() -> None:
    advice_h = [int(Pace(DAY_S).advice_s(slot, 0.0) // HOUR_S) for slot in range(5_000)]
    # From 0.15 of a cell on, in each hour of a day about as many.
    assert min(advice_h) == 3
    assert all(130 <= advice_h.count(hour) <= 270 for hour in range(4, 27))


def test_short_advice_has_milliseconds() -> None:
    assert all(0 < Pace(0.001).advice_s(slot, 5.0) <= 0.002 for slot in range(100))
    assert any(Pace(1.0).advice_s(slot, 5.0) % 1 for slot in range(10))
    assert isinstance(Pace(DAY_S).advice_s(1, 5.0), int)

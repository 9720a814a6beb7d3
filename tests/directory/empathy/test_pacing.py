"""The paces that nodes are told: by need, and within what the directory can bear."""

from __future__ import annotations

import pytest

from openred_central.directory.empathy.paces import Paces
from openred_central.directory.empathy.pacing import QUICK, STEADY, Pacing, need_of
from openred_central.directory.state.habits import DAYS_KNOWN, SLOWEST
from tests.directory.empathy.diary import HOUR_S, Diary
from tests.support.building import DAY_S

PACES = Paces(HOUR_S, DAY_S)


@pytest.mark.parametrize(
    ("need", "days", "share", "expected"),
    [
        (STEADY, DAYS_KNOWN - 1, 1.0, QUICK),
        (QUICK, 100, 0.99, STEADY),
        (QUICK, 100, 0.96, QUICK),
        (STEADY, 100, 0.96, STEADY),
        (STEADY, 100, 0.9, QUICK),
        (QUICK, 100, 0.01, STEADY),
    ],
)
def test_the_need_of_a_node(need: int, days: int, share: float, expected: int) -> None:
    assert need_of(need, days, round(255 * share), discoverable=True) == expected
    assert need_of(need, days, round(255 * share), discoverable=False) == SLOWEST


def test_all_paces_slow_down_together_to_keep_the_budget() -> None:
    pacing = Pacing(PACES, 100.0)
    pacing.count(QUICK, 1_000_000)
    pacing.end_round()
    assert 50.0 < pacing.advised_per_s <= 100.0
    assert pacing.code(STEADY) == SLOWEST
    # A few nodes fewer do not quicken it again.
    shifted = pacing.code(QUICK)
    pacing.count(QUICK, 950_000)
    pacing.end_round()
    assert pacing.code(QUICK) == shifted
    pacing.count(QUICK, 10)
    pacing.end_round()
    assert pacing.code(QUICK) == QUICK


def test_paces_lie_between_the_bounds() -> None:
    assert PACES.seconds[0] == pytest.approx(HOUR_S)
    assert PACES.seconds[SLOWEST] == pytest.approx(DAY_S)
    assert sorted(PACES.seconds) == list(PACES.seconds)


def test_a_steady_node_is_told_a_slower_pace_once_it_is_known() -> None:
    diary = Diary(None)
    slot = diary.register("a")
    diary.live(slot, DAYS_KNOWN - 1)
    assert diary.habits.paces[slot] == QUICK
    diary.live(slot, 60)
    assert diary.habits.paces[slot] == STEADY
    assert diary.habits.read(slot).absences == 0
    assert not diary.forecast.is_late(slot, diary.now_s)


def test_a_node_that_hides_is_told_the_slowest_pace() -> None:
    diary = Diary(None)
    slot = diary.register("a", discoverable=False)
    diary.live(slot, 3)
    assert diary.habits.paces[slot] == SLOWEST

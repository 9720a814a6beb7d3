"""Expectations of nodes, and the part of them that strangers are told."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.empathy.forecast import GRADES, TOLD
from openred_central.directory.empathy.returns import COHORTS, EDGES_S, Returns
from openred_central.directory.lifecycle import DAY_S, State
from tests.directory.empathy.diary import HOUR_S, Diary

# Before a due, and far beyond it.
SILENCES_S = st.floats(0.0, 2 * HOUR_S) | st.floats(0.0, 40 * DAY_S)


def test_each_grade_is_told_as_a_value_within_it() -> None:
    for low, told, high in zip((0.0, *GRADES), TOLD, (*GRADES, 1.0), strict=True):
        assert low < told < high


@given(
    st.integers(-127, 127),
    st.integers(0, 255),
    SILENCES_S,
    SILENCES_S,
)
def test_silence_never_makes_a_node_likelier_to_answer(
    odds: int, obeys: int, silent_s: float, more_s: float
) -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    diary.pass_s(2 * HOUR_S)
    diary.habits.odds[slot], diary.habits.obeys[slot] = odds, obeys
    now_s = diary.now_s + silent_s
    chances = [diary.forecast.chance(slot, now_s + added_s) for added_s in (0.0, more_s)]
    late = [diary.forecast.is_late(slot, now_s + added_s) for added_s in (0.0, more_s)]
    assert late[0] <= late[1]
    # Late nodes have one chance, which does not depend on the profile.
    assert chances[1] <= chances[0] or (late[1] and not late[0])


@given(st.lists(st.tuples(st.integers(-127, 127), st.floats(0, 5 * DAY_S)), min_size=1, max_size=6))
def test_the_scores_of_many_agree_with_the_chance_of_each(nodes: list[tuple[int, float]]) -> None:
    diary = Diary(DAY_S)
    slots = [diary.register(f"n{number}") for number in range(len(nodes))]
    diary.pass_s(2 * HOUR_S)
    registry = diary.directory.nodes.registry
    for slot, (odds, silent_s) in zip(slots, nodes, strict=True):
        diary.habits.odds[slot] = odds
        registry.last_seen_s[slot] = max(0.0, diary.now_s - silent_s)
        diary.habits.due_s[slot] = int(registry.last_seen_s[slot] + DAY_S)
    for slot, score in zip(slots, diary.forecast.scores(slots, diary.now_s), strict=True):
        told = orjson.loads(f"{{{diary.forecast.told(score)}}}")
        assert told["late"] == diary.forecast.is_late(slot, diary.now_s)
        if not told["late"]:
            assert abs(told["availability"] - diary.forecast.chance(slot, diary.now_s)) < 0.13
        else:
            assert 0.0 <= told["back_within_day"] <= 1.0


def test_a_node_that_moved_on_is_late() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    diary.directory.nodes.registry.states[slot] = State.COMA
    assert diary.forecast.is_late(slot, diary.now_s)


def test_returns_are_learned_by_cohort() -> None:
    returns = Returns()
    first = returns.chance(0, 2 * DAY_S, 7 * DAY_S)
    # Nobody of the first cohort ever returns, all of the last one do within a day.
    for _ in range(200):
        returns.expose(0, 0.0, 30 * DAY_S, returned=False)
        returns.expose(COHORTS - 1, 0.0, 0.9 * DAY_S, returned=True)
    returns.refresh()
    assert returns.chance(0, 0.0, 7 * DAY_S) < 0.1 < first
    assert returns.chance(COHORTS - 1, 0.0, DAY_S) > 0.5


@given(
    st.lists(
        st.tuples(st.integers(0, COHORTS - 1), st.floats(0, 1e8), st.floats(0, 1e8), st.booleans()),
        max_size=9,
    ),
    st.floats(0, 1e8),
    st.floats(0, 1e8),
    st.floats(0, 1e8),
)
def test_chances_of_a_return_are_chances_and_grow_with_the_horizon(
    exposures: list[tuple[int, float, float, bool]], late_s: float, horizon_s: float, more_s: float
) -> None:
    returns, exposed_s = Returns(), 0.0
    for cohort, one_s, other_s, returned in exposures:
        from_s, to_s = sorted((one_s, other_s))
        returns.expose(cohort, from_s, to_s, returned=returned)
        exposed_s += to_s - from_s
    returns.refresh()
    assert abs(sum(map(sum, returns.exposure_s)) - exposed_s) <= 1e-6 * max(1.0, exposed_s)
    for cohort in range(COHORTS):
        chance = returns.chance(cohort, late_s, horizon_s)
        assert 0.0 <= chance <= returns.chance(cohort, late_s, horizon_s + more_s) <= 1.0
    copy = Returns()
    copy.unpack(returns.packed())
    assert (copy.events, copy.exposure_s) == (returns.events, returns.exposure_s)


def test_the_bins_are_octaves() -> None:
    assert EDGES_S[:3] == (0.0, 600.0, 1_200.0)
    assert len(EDGES_S) == 18

"""The directory predicts better than simpler rules, by so much, in generated populations of three seeds.

The populations are small, so that the tests are short; `benchmarks/prediction` replays larger ones.
"""

from __future__ import annotations

from functools import cache
from random import Random

import pytest

from benchmarks.prediction.baselines import BASELINES, FORMER
from benchmarks.prediction.command import ALL_KINDS
from benchmarks.prediction.evaluation import BASE, CURVE, DIRECTORY, LAST_SEEN, NOW, Case, Result, evaluate
from benchmarks.prediction.replay import HOUR_S, Options
from benchmarks.prediction.traces import WEEK_S
from openred_central.directory.lifecycle import DAY_S
from openred_central.simulation.clients import Kind
from openred_central.simulation.population import YEAR_S, generated

SEEDS = (1, 2, 3)
COMPARED = [baseline for baseline in BASELINES if baseline.name == FORMER]
QUICK, SLOW = (HOUR_S, Kind.OFFLINE), (DAY_S, Kind.OFFLINE)
BOOTING, SUSPENDING = (DAY_S, Kind.BOOTING), (DAY_S, Kind.SUSPENDING)

each_seed = pytest.mark.parametrize("seed", SEEDS)


@cache
def by_hours(pace_s: float, kind: Kind, seed: int) -> Result:
    """Return the result on the scale of hours."""
    count, weeks = (44, 5) if pace_s == HOUR_S else (48, 9)
    options = Options(pace_s=pace_s, kinds=(kind,), moments=200, warm_up_s=2 * WEEK_S)
    nodes = generated("hours", count, weeks * WEEK_S, Random(seed))
    return evaluate(Case("hours", nodes, options), seed, COMPARED)


@cache
def by_months(seed: int) -> Result:
    """Return the result on the scale of months."""
    options = Options(
        pace_s=7 * DAY_S, kinds=ALL_KINDS, moments=150, warm_up_s=2.5 * YEAR_S, visits_apart_s=3 * DAY_S
    )
    return evaluate(Case("home", generated("home", 300, 5 * YEAR_S, Random(seed)), options), seed, ())


@each_seed
@pytest.mark.parametrize(
    ("pace_s", "kind", "share_of_base"), [(*QUICK, 0.2), (*SLOW, 0.55), (*BOOTING, 0.7), (*SUSPENDING, 0.7)]
)
def test_directory_knows_who_is_up(pace_s: float, kind: Kind, share_of_base: float, seed: int) -> None:
    result = by_hours(pace_s, kind, seed)
    assert result.scores(NOW).brier <= share_of_base * result.scores(NOW, BASE).brier
    assert result.scores(NOW).calibration_error <= 0.07


@each_seed
@pytest.mark.parametrize(("pace_s", "kind"), [QUICK, SLOW])
def test_former_availability_was_worse(pace_s: float, kind: Kind, seed: int) -> None:
    result = by_hours(pace_s, kind, seed)
    assert result.scores(NOW).brier <= 0.6 * result.scores(NOW, FORMER).brier


@pytest.mark.parametrize(("pace_s", "kind"), [QUICK, SLOW, BOOTING, SUSPENDING])
def test_first_node_of_a_draw_answers(pace_s: float, kind: Kind) -> None:
    # The seeds count together: at a quick pace both answer nearly always.
    contacts = [by_hours(pace_s, kind, seed).contacts for seed in SEEDS]
    best = sum(each[DIRECTORY].answered for each in contacts)
    assert best >= sum(each[LAST_SEEN].answered for each in contacts)


@each_seed
def test_cohorts_know_who_returns_within_a_month(seed: int) -> None:
    result = by_months(seed)
    told = result.scores("30 d").brier
    assert told <= 0.8 * result.scores("30 d", CURVE).brier
    # Less with more nodes, of which the cohorts learn more.
    assert told <= 0.5 * result.scores("30 d", BASE).brier

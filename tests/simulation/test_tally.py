"""Counts come with intervals, so that nobody takes noise for a difference."""

from __future__ import annotations

import pytest

from openred_central.simulation.tally import PER_NODE_YEARS, Tally, poisson, share


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.025, 5.572), (10, 4.795, 18.39), (100, 81.36, 121.6)]
)
def test_intervals_of_counts_are_those_of_the_tables(count: int, low: float, high: float) -> None:
    assert poisson(count) == (pytest.approx(low, abs=0.1), pytest.approx(high, rel=0.02))


def test_interval_of_a_share_stays_within_bounds() -> None:
    assert share(0, 0) == (0.0, 0.0, 1.0)
    assert share(10, 10) == (1.0, pytest.approx(0.722, abs=0.001), pytest.approx(1.0))
    assert share(50, 100) == (0.5, pytest.approx(0.404, abs=0.001), pytest.approx(0.596, abs=0.001))


def test_rates_are_for_a_fixed_number_of_node_years() -> None:
    assert Tally(node_years=2 * PER_NODE_YEARS).rate(10)[0] == 5.0
    assert Tally().rate(0) == (0.0, 0.0, 0.0)

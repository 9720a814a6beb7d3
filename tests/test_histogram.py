"""Durations in buckets."""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.histogram import BOUNDS_S, Histogram, quantile

durations = st.lists(st.floats(0, 60), min_size=1, max_size=200)


@given(durations)
def test_durations_fall_into_the_bucket_that_bounds_them(given_s: list[float]) -> None:
    histogram = Histogram()
    for duration_s in given_s:
        histogram.observe(duration_s)
    lower = -math.inf
    for bound, count in zip((*BOUNDS_S, math.inf), histogram.counts, strict=True):
        assert count == sum(lower < duration_s <= bound for duration_s in given_s)
        lower = bound
    assert histogram.count == len(given_s)
    assert histogram.sum_s == pytest.approx(sum(given_s))


@given(durations, st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(given_s: list[float], share: float) -> None:
    histogram = Histogram()
    for duration_s in given_s:
        histogram.observe(duration_s)
    found = quantile(histogram.bounds, histogram.counts, share)
    assert found is not None
    true_s = min(sorted(given_s)[max(0, math.ceil(share * len(given_s)) - 1)], BOUNDS_S[-1])
    bucket = bisect_left(BOUNDS_S, true_s)
    lower = BOUNDS_S[bucket - 1] if bucket else 0.0
    assert lower * (1 - 1e-9) <= found <= BOUNDS_S[bucket] * (1 + 1e-9)


def test_a_quantile_of_nothing_is_none() -> None:
    assert quantile(BOUNDS_S, [0] * (len(BOUNDS_S) + 1), 0.5) is None


def test_the_last_bucket_has_no_bound() -> None:
    assert quantile((1.0, 2.0), [0, 0, 5], 0.5) == 2.0

"""The histogram never tells a time that is too short, and none that is too long by more than it says."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.histogram import (
    BUCKETS,
    PRECISION_BITS,
    TIME_US_MAX,
    Histogram,
    bucket_end_us,
    bucket_of,
    of,
)

TIMES = st.integers(0, TIME_US_MAX)


@given(TIMES)
def test_a_bucket_ends_above_its_times_by_less_than_a_128th(time_us: int) -> None:
    end_us = bucket_end_us(bucket_of(time_us))
    assert time_us <= end_us <= time_us + (time_us >> PRECISION_BITS)


@given(st.integers(0, BUCKETS - 2))
def test_buckets_lie_end_to_end(bucket: int) -> None:
    assert bucket_of(bucket_end_us(bucket)) == bucket
    assert bucket_of(bucket_end_us(bucket) + 1) == bucket + 1


@given(st.lists(TIMES, min_size=1), st.integers(0, 1_000))
def test_a_quantile_is_that_of_the_sorted_times_within_the_bound(
    times_us: list[int], thousandths: int
) -> None:
    rank = max(1, -int(-len(times_us) * Fraction(thousandths, 1_000) // 1))
    exact_us = sorted(times_us)[rank - 1]
    told_us = of(times_us).quantile_us(thousandths / 1_000)
    assert exact_us <= told_us <= exact_us + (exact_us >> PRECISION_BITS)
    assert told_us <= max(times_us)


@given(st.lists(TIMES), st.lists(TIMES))
def test_merged_histograms_are_the_histogram_of_all(first: list[int], second: list[int]) -> None:
    merged, together = of(first), of(first + second)
    merged.merge(of(second))
    assert vars(merged) == vars(together)


def test_what_is_beyond_the_end_counts_as_the_end_and_is_kept_as_the_maximum() -> None:
    histogram = of([5, TIME_US_MAX * 3])
    assert histogram.quantile_us(1) == bucket_end_us(BUCKETS - 1)
    assert histogram.longest_us == TIME_US_MAX * 3
    assert histogram.summary_ms()["max"] == TIME_US_MAX * 3 / 1_000


def test_a_time_below_zero_counts_as_none() -> None:
    assert of([-7]).quantile_us(1) == 0
    assert of([-7]).total_us == 0


def test_nothing_timed_has_no_times() -> None:
    empty = Histogram()
    assert (empty.quantile_us(0.99), empty.mean_us(), empty.curve(), empty.sparse()) == (0, 0.0, [], [])


def test_the_curve_tells_what_share_took_longer() -> None:
    assert of([1_000, 2_000, 2_000, 4_000]).curve() == [(0.75, 1.003), (0.25, 2.007), (0.0, 4.0)]


def test_a_share_outside_of_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a share of 1.5 is not in \[0, 1\]"):
        Histogram().quantile_us(1.5)

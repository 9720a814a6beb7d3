"""The histogram never reports a time that is too short, and none that is too long by more than its bound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.tally import PRECISION_BITS, Histogram, bucket_end_us

TIMES = st.integers(0, 1 << 40)


def histogram_of(times_us: Sequence[int]) -> Histogram:
    histogram = Histogram()
    for time_us in times_us:
        histogram.add(time_us)
    return histogram


@given(TIMES)
def test_bucket_ends_within_a_128th_above_its_times(time_us: int) -> None:
    end_us = bucket_end_us(time_us)
    assert time_us <= end_us <= time_us + (time_us >> PRECISION_BITS)
    assert bucket_end_us(end_us) == end_us < bucket_end_us(end_us + 1)


@given(st.lists(TIMES, min_size=1), st.integers(0, 1_000))
def test_quantile_is_that_of_sorted_times_within_the_bound(times_us: list[int], thousandths: int) -> None:
    rank = max(1, -int(-len(times_us) * Fraction(thousandths, 1_000) // 1))
    exact_us = sorted(times_us)[rank - 1]
    found_us = histogram_of(times_us).quantile_us(thousandths / 1_000)
    assert exact_us <= found_us <= min(exact_us + (exact_us >> PRECISION_BITS), max(times_us))


@given(st.lists(TIMES), st.lists(TIMES))
def test_merged_histograms_equal_the_histogram_of_all(first: list[int], second: list[int]) -> None:
    merged = histogram_of(first)
    merged.merge(histogram_of(second))
    assert vars(merged) == vars(histogram_of(first + second))


def test_time_below_zero_counts_as_zero() -> None:
    assert vars(histogram_of([-7])) == vars(histogram_of([0]))


def test_empty_histogram_has_no_times() -> None:
    empty = Histogram()
    assert (empty.quantile_us(0.99), empty.mean_us(), empty.curve()) == (0, 0.0, [])


def test_curve_holds_the_share_that_took_longer() -> None:
    curve = histogram_of([1_000, 2_000, 2_000, 4_000]).curve()
    assert curve == [(0.75, 1.003), (0.25, 2.007), (0.0, 4.0)]

"""A histogram of times with bounded error and bounded size, after HdrHistogram (hdrhistogram.org).

Times are whole microseconds. Below 256 µs each has a bucket of its own; above, every power of two is cut into
128 buckets, so that a bucket is never wider than 1/128 of its times. What a quantile gives is the upper end
of its bucket: at most 0.8 % (or 1 µs) too much and never too little, and never more than the longest time,
which is kept exactly. Two histograms add up without further loss. One that covers an hour has 3,300 buckets.
"""

from __future__ import annotations

from collections.abc import Sequence

PRECISION_BITS = 7
# Whatever took longer is counted as this; only the maximum tells.
TIME_US_MAX = 3_600_000_000
QUANTILES = (0.5, 0.9, 0.99, 0.999)


def bucket_of(time_us: int) -> int:
    """The bucket that a time lies in."""
    shift = time_us.bit_length() - PRECISION_BITS - 1
    return time_us if shift <= 0 else (shift << PRECISION_BITS) + (time_us >> shift)


def bucket_end_us(bucket: int) -> int:
    """The longest time that lies in a bucket."""
    shift = (bucket >> PRECISION_BITS) - 1
    if shift <= 0:
        return bucket
    return ((bucket - (shift << PRECISION_BITS) + 1) << shift) - 1


BUCKETS = bucket_of(TIME_US_MAX) + 1


class Histogram:
    """Counts times. `count` is how many, `longest_us` and `total_us` are exact."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.count = 0
        self.total_us = 0
        self.longest_us = 0

    def add(self, time_us: int, times: int = 1) -> None:
        """Count a time; one below zero, from clocks that disagree, as zero."""
        time_us = max(time_us, 0)
        self.counts[bucket_of(min(time_us, TIME_US_MAX))] += times
        self.count += times
        self.total_us += time_us * times
        self.longest_us = max(self.longest_us, time_us)

    def merge(self, other: Histogram) -> None:
        """Count all that `other` has counted as well."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.count += other.count
        self.total_us += other.total_us
        self.longest_us = max(self.longest_us, other.longest_us)

    def quantile_us(self, share: float) -> int:
        """The time that `share` of all did not exceed; 0 where there is none."""
        if not 0 <= share <= 1:
            raise ValueError(f"a share of {share} is not in [0, 1]")
        wanted = max(1, -int(-self.count * share // 1))
        passed = 0
        for bucket, counted in enumerate(self.counts):
            passed += counted
            if counted and passed >= wanted:
                return min(bucket_end_us(bucket), self.longest_us)
        return 0

    def mean_us(self) -> float:
        return self.total_us / self.count if self.count else 0.0

    def summary_ms(self) -> dict[str, float]:
        """The quantiles that are told everywhere, in milliseconds."""
        told = {f"p{100 * share:g}": self.quantile_us(share) / 1_000 for share in QUANTILES}
        return {**told, "max": self.longest_us / 1_000}

    def curve(self) -> list[tuple[float, float]]:
        """Share that took longer → milliseconds, for the buckets that hold anything: what a chart shows."""
        points, passed = [], 0
        for bucket, counted in enumerate(self.counts):
            if counted:
                passed += counted
                at_us = min(bucket_end_us(bucket), self.longest_us)
                points.append(((self.count - passed) / self.count, at_us / 1_000))
        return points

    def sparse(self) -> list[list[int]]:
        """The buckets that hold anything, as pairs of their end in µs and their count."""
        return [[bucket_end_us(bucket), counted] for bucket, counted in enumerate(self.counts) if counted]


def of(times_us: Sequence[int]) -> Histogram:
    """A histogram of these times."""
    histogram = Histogram()
    for time_us in times_us:
        histogram.add(time_us)
    return histogram

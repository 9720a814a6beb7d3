"""Durations counted in buckets, with their sum. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

# Upper bounds in seconds, three to a decade: a quantile read from them is right within a factor of two.
BOUNDS_S = (
    *(0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
    *(0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)


class Histogram:
    """Counts of durations by bucket.

    `bounds` are the rising upper bounds of the buckets, inclusive; `counts` has one more, for durations above
    all bounds. `sum_s` is the sum of all durations, in seconds.
    """

    def __init__(self, bounds: Sequence[float] = BOUNDS_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum_s = 0.0

    def observe(self, duration_s: float, count: int = 1) -> None:
        """Count a duration, `count` times if that many things took it together."""
        self.counts[bisect_left(self.bounds, duration_s)] += count
        self.sum_s += duration_s * count

    @property
    def count(self) -> int:
        return sum(self.counts)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return the duration below which `share` (0 to 1) of those counted lie; None if none was counted.

    It assumes that durations lie evenly within their bucket; those above all bounds count as the last bound.
    """
    wanted = share * sum(counts)
    lower = 0.0
    for upper, count, so_far in zip(bounds, counts, accumulate(counts), strict=False):
        if count and so_far >= wanted:
            return upper - (upper - lower) * (so_far - wanted) / count
        lower = upper
    return lower if sum(counts) else None

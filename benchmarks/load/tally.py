"""Counts and times of a run of the load."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

PRECISION_BITS = 7
QUANTILES = (0.5, 0.9, 0.99, 0.999)


def bucket_end_us(time_us: int) -> int:
    """Return the longest time of the bucket of a time.

    Each of the shortest 256 times has its own bucket. Each power of two above has 128, as in HdrHistogram.
    """
    return time_us | ((1 << max(time_us.bit_length() - PRECISION_BITS - 1, 0)) - 1)


class Histogram:
    """Times in whole microseconds, counted by the end of their bucket. Sum and maximum are exact.

    A quantile is at most 0.8 % too long and never too short. This is ours because the generator adds to it
    twice a request, and `hdrhistogram` takes twice as long for more code.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.total_us = 0
        self.longest_us = 0

    @property
    def count(self) -> int:
        return self.counts.total()

    def add(self, time_us: int) -> None:
        """Count a time; one below zero, from clocks that disagree, as zero."""
        time_us = max(time_us, 0)
        self.counts[bucket_end_us(time_us)] += 1
        self.total_us += time_us
        if time_us > self.longest_us:
            self.longest_us = time_us

    def merge(self, other: Histogram) -> None:
        self.counts.update(other.counts)
        self.total_us += other.total_us
        self.longest_us = max(self.longest_us, other.longest_us)

    def quantile_us(self, share: float) -> int:
        """Return the time that `share` of all did not exceed; 0 if there is none."""
        wanted, passed = max(1, math.ceil(self.count * share)), 0
        for end_us, counted in sorted(self.counts.items()):
            passed += counted
            if passed >= wanted:
                return min(end_us, self.longest_us)
        return 0

    def mean_us(self) -> float:
        return self.total_us / self.count if self.counts else 0.0

    def summary_ms(self) -> dict[str, float]:
        """Return the reported quantiles and the maximum, in milliseconds."""
        quantiles = {f"p{100 * share:g}": self.quantile_us(share) / 1_000 for share in QUANTILES}
        return {**quantiles, "max": self.longest_us / 1_000}

    def curve(self) -> list[tuple[float, float]]:
        """Return (share that took longer, milliseconds) for each bucket, as a chart shows it."""
        points, passed, count = [], 0, self.count
        for end_us, counted in sorted(self.counts.items()):
            passed += counted
            points.append(((count - passed) / count, min(end_us, self.longest_us) / 1_000))
        return points


class Second(NamedTuple):
    """One second of one generator; second 0 follows the warm-up."""

    number: int
    answered: int
    failed: int
    times: Histogram


def is_success(status: int) -> bool:
    return 200 <= status < 300


class Tally:
    """Counts and times of one run; `times` and `statuses` by the number of the kind in `kinds`.

    `late` is how much later than due requests of an open loop left. `failed` were lost with their connection,
    `unanswered` at the end; the latter are timed up to the end. `overdue`, by kind, were answered after the
    measured time: they are timed, but are no throughput. `busy` is the share of its core that the busiest
    generator used.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = list(kinds)
        self.times = [Histogram() for _ in kinds]
        self.statuses: list[Counter[int]] = [Counter() for _ in kinds]
        self.overdue = [0] * len(self.kinds)
        self.late = Histogram()
        self.busy = 0.0
        self.failed = 0
        self.unanswered = 0
        self.took_s = 0.0
        self.error = ""

    @property
    def answered(self) -> int:
        return sum(counted.total() for counted in self.statuses)

    @property
    def refused(self) -> int:
        """Answers other than 2xx."""
        return sum(
            number
            for counted in self.statuses
            for status, number in counted.items()
            if not is_success(status)
        )

    @property
    def requests_per_s(self) -> float:
        """Answers within the measured time, a second."""
        return (self.answered - sum(self.overdue)) / self.took_s if self.took_s else 0.0

    def all_times(self) -> Histogram:
        together = Histogram()
        for histogram in self.times:
            together.merge(histogram)
        return together

    def merge(self, other: Tally) -> None:
        """Add the tally of another generator of the same run."""
        for mine, theirs in zip(self.times, other.times, strict=True):
            mine.merge(theirs)
        for counted, more in zip(self.statuses, other.statuses, strict=True):
            counted.update(more)
        self.overdue = [mine + theirs for mine, theirs in zip(self.overdue, other.overdue, strict=True)]
        self.late.merge(other.late)
        self.busy = max(self.busy, other.busy)
        self.failed += other.failed
        self.unanswered += other.unanswered
        self.took_s = max(self.took_s, other.took_s)
        self.error = self.error or other.error

    def document(self) -> dict[str, Any]:
        """Return everything for JSON: times in ms, buckets as pairs of their end in µs and a count."""
        return {
            "took_s": round(self.took_s, 6),
            "answered": self.answered,
            "requests_per_s": round(self.requests_per_s, 1),
            "refused": self.refused,
            "failed": self.failed,
            "unanswered": self.unanswered,
            "overdue": sum(self.overdue),
            "generator_busy": round(self.busy, 3),
            "error": self.error,
            "late_ms": self.late.summary_ms(),
            "kinds": {
                kind: {
                    "answered": counted.total(),
                    "statuses": {str(status): number for status, number in sorted(counted.items())},
                    "ms": histogram.summary_ms(),
                    "mean_ms": round(histogram.mean_us() / 1_000, 4),
                    "buckets_us": sorted(map(list, histogram.counts.items())),
                }
                for kind, histogram, counted in zip(self.kinds, self.times, self.statuses, strict=True)
            },
        }

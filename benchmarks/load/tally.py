"""What a run of the load has counted and timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from .histogram import Histogram


class Second(NamedTuple):
    """What one generator tells of one second of its run, the warm-up before second 0 left out."""

    number: int
    answered: int
    failed: int
    times: Histogram


class Tally:
    """All that is counted. `times` and `statuses` by the number of the kind in `kinds`.

    `late` is by how much requests of an open loop left later than they were due, for whatever reason;
    `failed` were lost with their connection, `unanswered` at the end: those are timed up to the end.
    `overdue`, by kind, were answered after the measured time: they are timed, and are no throughput.
    `busy` is the share of its core that the busiest generator used.
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
        return sum(sum(counted.values()) for counted in self.statuses)

    @property
    def refused(self) -> int:
        """Answers that were no success."""
        return sum(
            times for counted in self.statuses for status, times in counted.items() if not 200 <= status < 300
        )

    @property
    def requests_per_s(self) -> float:
        """Answers that came within the measured time, a second."""
        return (self.answered - sum(self.overdue)) / self.took_s if self.took_s else 0.0

    def all_times(self) -> Histogram:
        """The times of all kinds together."""
        together = Histogram()
        for histogram in self.times:
            together.merge(histogram)
        return together

    def merge(self, other: Tally) -> None:
        """Count what another generator of the same run has counted as well."""
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
        """All of it, for JSON. Times in milliseconds, buckets as pairs of microseconds and a count."""
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
                    "answered": sum(counted.values()),
                    "statuses": {str(status): times for status, times in sorted(counted.items())},
                    "ms": histogram.summary_ms(),
                    "mean_ms": round(histogram.mean_us() / 1_000, 4),
                    "buckets_us": histogram.sparse(),
                }
                for kind, histogram, counted in zip(self.kinds, self.times, self.statuses, strict=True)
            },
        }

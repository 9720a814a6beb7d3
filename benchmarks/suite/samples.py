"""Figures of all rounds, and what is told of them: medians, ranges, and ratios within the same round."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of some rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float


class Subject(NamedTuple):
    """Whose figure: `who` did it, in which `case`."""

    case: str
    who: str


def spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


class Samples:
    """One list of values, a round each, for every subject and metric, in the order in which they came."""

    def __init__(self) -> None:
        self._values: dict[Subject, dict[str, list[float]]] = {}

    def add(self, subject: Subject, **metrics: float) -> None:
        """Take in the figures of one round."""
        of_subject = self._values.setdefault(subject, {})
        for metric, value in metrics.items():
            of_subject.setdefault(metric, []).append(value)

    def subjects(self) -> list[Subject]:
        return list(self._values)

    def metrics(self, subject: Subject) -> list[str]:
        return list(self._values.get(subject, {}))

    def spread(self, subject: Subject, metric: str) -> Spread | None:
        """What was measured; None where nothing was."""
        values = self._values.get(subject, {}).get(metric)
        return spread(values) if values else None

    def ratio(self, subject: Subject, other: Subject, metric: str) -> Spread | None:
        """How many times that of `other` the metric is, round by round: a slow round slows both.

        None where one of them was not measured.
        """
        pairs = zip(self._of(subject, metric), self._of(other, metric), strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return spread(ratios) if ratios else None

    def document(self) -> list[dict[str, object]]:
        """Every value, for JSON."""
        return [
            {
                "case": subject.case,
                "who": subject.who,
                "metric": metric,
                "rounds": values,
                **spread(values)._asdict(),
            }
            for subject, metrics in self._values.items()
            for metric, values in metrics.items()
        ]

    def _of(self, subject: Subject, metric: str) -> list[float]:
        return self._values.get(subject, {}).get(metric, [])

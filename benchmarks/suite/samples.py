"""Effort of a run of the suite, figures of all rounds, and the bench that each case gets."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from ..load.requests import LoadOptions
from .servers import Running, Site


class Effort(NamedTuple):
    """Rounds, seconds of each measurement, and sizes; a `large` of 0 leaves its cases out."""

    rounds: int
    warm_up_s: float
    measured_s: float
    small: int = 1_000
    usual: int = 100_000
    large: int = 1_000_000
    idle_connections: int = 10_000
    subscribers: int = 1_000
    deaths: int = 300_000
    registered: int = 100_000
    stall_s: float = 10.0
    latency_s: float = 20.0
    failovers: int = 20


WHOLE = Effort(rounds=5, warm_up_s=0.3, measured_s=2.0)
QUICK = Effort(
    rounds=2,
    warm_up_s=0.15,
    measured_s=0.4,
    large=0,
    idle_connections=2_000,
    deaths=30_000,
    registered=20_000,
    stall_s=2.5,
    latency_s=3.0,
    failovers=3,
)


class Spread(NamedTuple):
    """The median, the lowest and the highest figure of some rounds."""

    median: float
    low: float
    high: float


class Subject(NamedTuple):
    """The contestant, or kind of request, called `name` in a case."""

    case: str
    name: str


def spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


class Samples:
    """A list of values, one a round, for every subject and metric, in the order of measuring.

    `notes` say what was left out and why, each once.
    """

    def __init__(self) -> None:
        self.notes: dict[str, None] = {}
        self._values: dict[Subject, dict[str, list[float]]] = {}

    def add(self, subject: Subject, **metrics: float) -> None:
        """Add the figures of one round."""
        of_subject = self._values.setdefault(subject, {})
        for metric, value in metrics.items():
            of_subject.setdefault(metric, []).append(value)

    def subjects(self) -> list[Subject]:
        return list(self._values)

    def metrics(self, subject: Subject) -> list[str]:
        return list(self._values.get(subject, {}))

    def spread(self, subject: Subject, metric: str) -> Spread | None:
        values = self._of(subject, metric)
        return spread(values) if values else None

    def ratio(self, subject: Subject, other: Subject, metric: str) -> Spread | None:
        """Return the metric of `subject` divided by that of `other`, round by round.

        A slow round slows both, so it does not change the ratio.
        """
        pairs = zip(self._of(subject, metric), self._of(other, metric), strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return spread(ratios) if ratios else None

    def document(self) -> list[dict[str, object]]:
        """Return every value, for JSON."""
        return [
            {**subject._asdict(), "metric": metric, "rounds": values, **spread(values)._asdict()}
            for subject, metrics in self._values.items()
            for metric, values in metrics.items()
        ]

    def _of(self, subject: Subject, metric: str) -> list[float]:
        return self._values.get(subject, {}).get(metric, [])


class Bench(NamedTuple):
    """Arguments of every case: where servers start, the effort, where figures go, how to log progress."""

    site: Site
    effort: Effort
    samples: Samples
    log: Callable[[str], None]
    seed: int

    def note(self, text: str) -> None:
        """Log what is left out, and keep it for the report."""
        self.log(text)
        self.samples.notes[text] = None

    def options(self, server: Running, kind: str, **others: Any) -> LoadOptions:
        """Return the options of a load of one kind of request for one measurement."""
        options = LoadOptions(
            "127.0.0.1",
            server.port,
            {kind: 1},
            duration_s=self.effort.measured_s,
            warm_up_s=self.effort.warm_up_s,
            seed=self.seed,
        )
        return options._replace(**others)

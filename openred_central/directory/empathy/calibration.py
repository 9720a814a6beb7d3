"""How good the chances are that the directory gives: what it expected, beside what happened. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

BINS: Final = 10
# Samples weigh half as much after so many more in their class.
HALVED_AFTER: Final = 20_000


class Quality(NamedTuple):
    """The quality of the chances of `samples` dues, each with the weight that it still has.

    `brier` is their mean squared error, `error` the expected calibration error: how far, on average, the
    share of dues that were met lies from the chance. Both are None without samples.
    """

    samples: float
    brier: float | None
    error: float | None


class Calibration:
    """Chances in ten bins for each of `classes`: how many, their sum, how many happened, squared errors."""

    def __init__(self, classes: int) -> None:
        self._bins = [[[0.0] * 4 for _ in range(BINS)] for _ in range(classes)]
        self._samples = [0.0] * classes
        self.samples = 0

    def add(self, number: int, chance: float, *, happened: bool) -> None:
        """Count a chance in the class `number`, and what became of it."""
        row = self._bins[number][min(int(chance * BINS), BINS - 1)]
        row[0] += 1
        row[1] += chance
        row[2] += happened
        row[3] += (happened - chance) ** 2
        self.samples += 1
        self._samples[number] += 1
        if self._samples[number] >= HALVED_AFTER:
            self._samples[number] /= 2
            self._bins[number] = [[value / 2 for value in kept] for kept in self._bins[number]]

    def quality(self) -> Quality:
        """Return the quality over all classes."""
        rows = [row for bins in self._bins for row in bins if row[0]]
        samples = sum(row[0] for row in rows)
        if not samples:
            return Quality(0.0, None, None)
        error = sum(abs(expected - happened) for _, expected, happened, _ in rows) / samples
        return Quality(samples, sum(row[3] for row in rows) / samples, error)

"""How good the chances are that the directory gives: what it expected, beside what happened. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

BINS: Final = 10
# Samples weigh half as much after so many more in their class.
HALVED_AFTER: Final = 20_000
_FORMAT: Final = 1
# Numbers of each bin.
_COUNTED: Final = 4


class Quality(NamedTuple):
    """The quality of the chances of `samples` dues, each with the weight that it still has.

    `brier` is their mean squared error, `error` the expected calibration error: how far, on average, the
    share of dues that were met lies from the chance. Both are None without samples.
    """

    samples: float
    brier: float | None
    error: float | None


class Calibration:
    """Chances in ten bins for each of `classes`: how many, their sum, how many happened, squared errors.

    `bins` are those four, by class and bin; `samples` counts the chances of this run.
    """

    def __init__(self, classes: int) -> None:
        self.bins = [[[0.0] * _COUNTED for _ in range(BINS)] for _ in range(classes)]
        # The samples of each class, with the weights that they still have.
        self._weights = [0.0] * classes
        self.samples = 0

    def add(self, number: int, chance: float, *, happened: bool) -> None:
        """Count a chance in the class `number`, and what became of it."""
        row = self.bins[number][int(chance * BINS) if chance < 1 else BINS - 1]
        error = happened - chance
        row[0] += 1
        row[1] += chance
        row[2] += happened
        row[3] += error * error
        self.samples += 1
        self._weights[number] += 1
        if self._weights[number] >= HALVED_AFTER:
            self._weights[number] /= 2
            self.bins[number] = [[value / 2 for value in kept] for kept in self.bins[number]]

    def quality(self) -> Quality:
        """Return the quality over all classes."""
        rows = [row for bins in self.bins for row in bins if row[0]]
        samples = sum(row[0] for row in rows)
        if not samples:
            return Quality(0.0, None, None)
        error = sum(abs(expected - happened) for _, expected, happened, _ in rows) / samples
        return Quality(samples, sum(row[3] for row in rows) / samples, error)

    def packed(self) -> bytes:
        """Return the bins as bytes, to store or to send."""
        return orjson.dumps({"format": _FORMAT, "bins": self.bins})

    def unpack(self, packed: bytes) -> None:
        """Take the bins that `packed` returned. Raise `ValueError` for anything else."""
        document = orjson.loads(packed)
        found = document.get("bins") if isinstance(document, dict) else None
        if not isinstance(found, list) or document.get("format") != _FORMAT:
            raise ValueError(f"a calibration has another format than {_FORMAT}")
        shape = [[len(row) for row in bins] for bins in found]
        if shape != [[_COUNTED] * BINS] * len(self.bins):
            raise ValueError(f"a calibration is not {len(self.bins)} times {BINS} bins")
        if not all(0 <= float(value) <= 2 * HALVED_AFTER for bins in found for row in bins for value in row):
            raise ValueError("a calibration holds a value that is no count")
        self.bins = [[list(map(float, row)) for row in bins] for bins in found]
        self._weights = [sum(row[0] for row in bins) for bins in self.bins]

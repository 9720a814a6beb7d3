"""Scores of predictions: Brier, log-loss, AUC, reliability, expected calibration error."""

from __future__ import annotations

import math
from array import array
from typing import Any, NamedTuple

BINS = 10
# A prediction counts as at least so far from certain in the log-loss.
SURE = 0.01


class Bin(NamedTuple):
    """Predictions of one tenth: their number, their mean, and the share that came true."""

    answers: int
    mean: float
    share: float


class Scores(NamedTuple):
    """The scores of one predictor on so many questions, of which a `share` came true.

    AUC is nan if all came true, or none.
    """

    questions: int
    share: float
    brier: float
    log_loss: float
    auc: float
    calibration_error: float
    bins: list[Bin]

    def document(self) -> dict[str, Any]:
        """Return the scores for JSON."""
        bins = [each._asdict() for each in self.bins]
        return self._asdict() | {"auc": None if math.isnan(self.auc) else self.auc, "bins": bins}


class Answers:
    """Predictions and what happened, of one predictor for one horizon."""

    def __init__(self) -> None:
        self._chances = array("d")
        self._happened = bytearray()
        self._scores: Scores | None = None

    def __len__(self) -> int:
        return len(self._chances)

    def add(self, chance: float, happened: bool) -> None:
        self._chances.append(chance)
        self._happened.append(happened)

    def base(self) -> Answers:
        """Return the answers of a predictor that knows the share and nothing else."""
        base = Answers()
        share = sum(self._happened) / max(1, len(self))
        base._chances = array("d", [share]) * len(self)
        base._happened = self._happened
        return base

    def scores(self) -> Scores:
        """Return all scores. Raise `ValueError` without any answer."""
        if self._scores is None or self._scores.questions != len(self):
            self._scores = self._scored()
        return self._scores

    def _scored(self) -> Scores:
        count = len(self)
        if not count:
            raise ValueError("there is nothing to score")
        pairs = list(zip(self._chances, self._happened, strict=True))
        brier = math.fsum((chance - happened) ** 2 for chance, happened in pairs) / count
        bins = self.bins()
        return Scores(
            count,
            sum(self._happened) / count,
            brier,
            math.fsum(_log_loss(chance, happened) for chance, happened in pairs) / count,
            _auc(pairs),
            sum(each.answers * abs(each.mean - each.share) for each in bins) / count,
            bins,
        )

    def bins(self) -> list[Bin]:
        """Return the reliability in ten bins of equal width."""
        counts, sums, happened = [0] * BINS, [0.0] * BINS, [0] * BINS
        for chance, came_true in zip(self._chances, self._happened, strict=True):
            place = min(int(chance * BINS), BINS - 1)
            counts[place] += 1
            sums[place] += chance
            happened[place] += came_true
        return [
            Bin(count, total / count if count else 0.0, true / count if count else 0.0)
            for count, total, true in zip(counts, sums, happened, strict=True)
        ]


def _log_loss(chance: float, happened: int) -> float:
    clamped = min(max(chance, SURE), 1 - SURE)
    return -math.log(clamped if happened else 1 - clamped)


def _auc(pairs: list[tuple[float, int]]) -> float:
    """Return how often a question that came true has the higher chance; equal ones count half."""
    below, area, true, false, rank = 0, 0.0, 0, 0, 0
    ordered = sorted(pairs)
    while rank < len(ordered):
        chance, at_true, at_false = ordered[rank][0], 0, 0
        while rank < len(ordered) and ordered[rank][0] == chance:
            at_true += ordered[rank][1]
            at_false += 1 - ordered[rank][1]
            rank += 1
        area += at_true * (below + at_false / 2)
        below += at_false
        true, false = true + at_true, false + at_false
    return area / (true * false) if true and false else math.nan

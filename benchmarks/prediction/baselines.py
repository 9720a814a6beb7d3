"""Baselines: predictions by simpler rules, from what a directory hears of a node and nothing else."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from statistics import NormalDist
from typing import NamedTuple

from openred_central.directory.lifecycle import DAY_S

HOUR_S = 3_600.0
# Windows of the reliability that the seeder of Bitcoin keeps of each node.
WINDOWS_S = (2 * HOUR_S, 8 * HOUR_S, DAY_S, 7 * DAY_S, 30 * DAY_S)
WINDOW_NAMES = ("2 h", "8 h", "1 d", "1 week", "30 d (EWMA)")
# The usual gap as the directory keeps it: see `directory.COUNTED_GAP_S_MIN` and below.
GAP_S_MIN, GAP_SHARE_MIN, GAP_GROWTH, GAP_WEIGHT = 60.0, 1 / 8, 1.1, 0.5
_NORMAL = NormalDist()


class Heard:
    """Everything heard of one node: its last sign of life, when it is due, and figures of its past.

    `due_s` is the end of the time in which it may still be heard in time.
    """

    __slots__ = ("count", "due_s", "exposed_s", "last_s", "mean_s", "met", "squares", "usual_s", "weights")

    def __init__(self, now_s: float, due_s: float, pace_s: float) -> None:
        self.last_s = now_s
        self.due_s = due_s
        self.usual_s = pace_s
        self.count, self.mean_s, self.squares = 1, pace_s, 0.0
        self.met = [0.0] * len(WINDOWS_S)
        self.weights = [0.0] * len(WINDOWS_S)
        # Lateness of which the curve of returns knows already.
        self.exposed_s = 0.0

    def is_late(self, now_s: float) -> bool:
        return now_s > self.due_s

    def again(self, now_s: float, due_s: float) -> None:
        """Take a sign of life, with the end of the time for the next one."""
        gap_s = now_s - self.last_s
        for place, window_s in enumerate(WINDOWS_S):
            kept = math.exp(-gap_s / window_s)
            self.weights[place] = self.weights[place] * kept + 1 - kept
            self.met[place] = self.met[place] * kept + (0.0 if now_s > self.due_s else 1 - kept)
        if gap_s >= GAP_S_MIN:
            self.count += 1
            change = gap_s - self.mean_s
            self.mean_s += change / self.count
            self.squares += change * (gap_s - self.mean_s)
            if gap_s > self.usual_s:
                self.usual_s = min(gap_s, GAP_GROWTH * max(self.usual_s, GAP_S_MIN))
            elif gap_s >= GAP_SHARE_MIN * self.usual_s:
                self.usual_s += GAP_WEIGHT * (gap_s - self.usual_s)
        self.last_s, self.due_s, self.exposed_s = now_s, due_s, 0.0

    def reliability(self, place: int, now_s: float) -> float:
        """Return the share of one of `WINDOWS_S` in which the node was in time."""
        met, weight = self.met[place], self.weights[place]
        if now_s > self.due_s:
            kept = math.exp(-(now_s - self.last_s) / WINDOWS_S[place])
            met, weight = met * kept, weight * kept + 1 - kept
        return met / weight if weight else 0.5


class Curve:
    """One curve for all nodes: how many return at each lateness, learned from those that did."""

    EDGES_S = (0.0, *(600.0 * 2.0**octave for octave in range(18)))

    def __init__(self) -> None:
        bins = len(self.EDGES_S)
        self._returns, self._exposed_s = [0.0] * bins, [0.0] * bins
        self._sums: list[float] = []
        self._renewed_s = -math.inf

    def expose(self, from_s: float, to_s: float, *, returned: bool) -> None:
        """Take a node that was late from `from_s` to `to_s` of lateness, and perhaps returned then."""
        place = bisect_right(self.EDGES_S, from_s) - 1
        while from_s < to_s:
            end_s = self.EDGES_S[place + 1] if place + 1 < len(self.EDGES_S) else math.inf
            self._exposed_s[place] += min(to_s, end_s) - from_s
            if to_s <= end_s:
                self._returns[place] += returned
            from_s = end_s
            place += 1

    def renew(self, now_s: float) -> None:
        """Make the cumulative hazards anew, at most once an hour."""
        if now_s < self._renewed_s + HOUR_S:
            return
        self._renewed_s = now_s
        widths = [end - start for start, end in zip(self.EDGES_S, self.EDGES_S[1:], strict=False)]
        self._sums = [0.0, *accumulate(self._hazard(place) * width for place, width in enumerate(widths))]

    def back(self, late_s: float, horizon_s: float) -> float:
        """Return the chance that a node that is so late returns within the horizon."""
        return 1 - math.exp(self._sum(late_s) - self._sum(late_s + horizon_s))

    def _sum(self, late_s: float) -> float:
        place = bisect_right(self.EDGES_S, late_s) - 1
        return self._sums[place] + self._hazard(place) * (late_s - self.EDGES_S[place])

    def _hazard(self, place: int) -> float:
        middle_s = 1.5 * self.EDGES_S[place] or 300.0
        guess = 0.45 / middle_s
        return (self._returns[place] + 4) / (self._exposed_s[place] + 4 / guess)


class Baseline(NamedTuple):
    """A rule: the chance that a node is up now, and that it is back within a time; None without an answer."""

    name: str
    chance: Callable[[Heard, float], float]
    back: Callable[[Heard, float, float], float] | None = None

    def back_within(self, heard: Heard, now_s: float, horizon_s: float) -> float:
        return self.chance(heard, now_s) if self.back is None else self.back(heard, now_s, horizon_s)


def _right_now(heard: Heard, now_s: float) -> float:
    return 0.0 if heard.is_late(now_s) else 1.0


def _availability(heard: Heard, now_s: float) -> float:
    silent_s, gap_s = now_s - heard.last_s, max(heard.usual_s, 60.0)
    return 1.0 if silent_s <= gap_s else gap_s / silent_s


def _window(place: int) -> Callable[[Heard, float], float]:
    return lambda heard, now_s: heard.reliability(place, now_s)


def _lives(ttl_s: float) -> Callable[[Heard, float], float]:
    return lambda heard, now_s: float(now_s - heard.last_s < ttl_s)


def _mean_gap(heard: Heard, now_s: float) -> float:
    return math.exp(-(now_s - heard.last_s) / heard.mean_s)


def _mean_gap_back(heard: Heard, now_s: float, horizon_s: float) -> float:
    return 1 - math.exp(-horizon_s / heard.mean_s)


def _longer(heard: Heard, silent_s: float) -> float:
    """Return the chance of a gap longer than `silent_s`, where gaps follow a normal law."""
    sigma_s = max(math.sqrt(heard.squares / heard.count), heard.mean_s / 10)
    return 1 - _NORMAL.cdf((silent_s - heard.mean_s) / sigma_s)


def _phi(heard: Heard, now_s: float) -> float:
    return _longer(heard, now_s - heard.last_s)


def _phi_back(heard: Heard, now_s: float, horizon_s: float) -> float:
    now = _longer(heard, now_s - heard.last_s)
    return 1 - _longer(heard, now_s - heard.last_s + horizon_s) / now if now > 1e-12 else 0.0


FORMER = "former availability"
BASELINES = (
    Baseline("right now", _right_now),
    Baseline(FORMER, _availability),
    *(Baseline(f"window {name}", _window(place)) for place, name in enumerate(WINDOW_NAMES)),
    Baseline("TTL 2 h", _lives(2 * HOUR_S)),
    Baseline("TTL 30 d", _lives(30 * DAY_S)),
    Baseline("mean gap", _mean_gap, _mean_gap_back),
    Baseline("phi", _phi, _phi_back),
)

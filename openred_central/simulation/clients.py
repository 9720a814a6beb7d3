"""Clients: when a node sends its next sign of life, by the advice that it was told and by when it is up."""

from __future__ import annotations

from bisect import bisect_right
from enum import StrEnum
from random import Random
from typing import NamedTuple

from ..client.client import BACK_OFF_S_MAX, SLICE_S_MAX, pause_until_next
from .population import Span

# A program that starts with its machine registers within this time.
START_S_MAX = 30.0
# A client that ignores the advice has a pause of its own: the pace, times a factor up to these.
OWN_PAUSE = (0.5, 1.5)


class Kind(StrEnum):
    """Fate of a client while its node is down."""

    # It runs on without a network, and tries again and again.
    OFFLINE = "offline"
    # Its machine sleeps, and it notices after that how much time has passed.
    SUSPENDING = "suspending"
    # Its machine sleeps, and its pause goes on after that as if no time had passed.
    STALLING = "stalling"
    # It ends, and registers and sends a heartbeat when it starts.
    BOOTING = "booting"


class Next(NamedTuple):
    """The next sign of life: when, and whether the client starts and registers first."""

    at: float
    registers: bool


class Client:
    """The client of a node that is up in the spans `up`; `pace_s` is for one that `ignores` the advice."""

    def __init__(self, kind: Kind, up: list[Span], pace_s: float, ignores: bool, chance: Random) -> None:
        self.kind = kind
        self._up = up
        self._starts = [start for start, _ in up]
        self._chance = chance
        self._own_pause_s = pace_s * chance.uniform(*OWN_PAUSE) if ignores else None

    def first(self) -> Next:
        """Return the first sign of life of all."""
        start, end = self._up[0]
        return Next(min(start + self._chance.random() * START_S_MAX, (start + end) / 2), True)

    def next(self, at: float, advice_s: float) -> Next | None:
        """Return the next sign of life after one at `at`, which was told the advice; None if none comes."""
        pause_s = pause_until_next(advice_s) if self._own_pause_s is None else self._own_pause_s
        place = bisect_right(self._starts, at) - 1
        end = self._up[place][1]
        if at + pause_s < end:
            return Next(at + pause_s, False)
        if self.kind is Kind.STALLING:
            return self._later(place, pause_s - max(0.0, end - at))
        return self._woken(place + 1, at + pause_s)

    def _woken(self, place: int, due: float) -> Next | None:
        """Return the sign of life of a client that was down when it was `due`, or before; None if none comes.

        It lies in the span at `place`, or in a later one.
        """
        chance = self._chance
        for later in range(place, len(self._up)):
            start, end = self._up[later]
            if self.kind is Kind.BOOTING:
                at = start + chance.random() * START_S_MAX
            elif due >= start:
                at = due
            elif self.kind is Kind.SUSPENDING:
                at = start + chance.random() * SLICE_S_MAX
            else:
                at = start + tried_again_s(start - due, chance)
            if at < end:
                return Next(at, self.kind is Kind.BOOTING)
        return None

    def _later(self, place: int, left_s: float) -> Next | None:
        """Return the sign of life of a client that waits `left_s` more seconds of being up, after a span."""
        for start, end in self._up[place + 1 :]:
            if start + left_s < end:
                return Next(start + left_s, False)
            left_s -= end - start
        return None


def tried_again_s(failed_s: float, chance: Random) -> float:
    """Return how long a client that tries in vain for `failed_s` takes to notice that it is up again."""
    # The time between two tries is about the time that it tries already.
    pause_s = failed_s if failed_s < BACK_OFF_S_MAX else BACK_OFF_S_MAX
    return chance.random() * pause_s * (1 + chance.random()) / 2

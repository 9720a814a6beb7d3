"""Faults: what goes wrong in a simulated world, and when. Drawn from a seed."""

from __future__ import annotations

import math
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple

from ..directory.lifecycle import DAY_S
from .population import HOUR_S, YEAR_S


class Kind(StrEnum):
    """A kind of fault."""

    # The directory is down, and no client reaches it.
    OUTAGES = "outages"
    # The directory runs, and no client reaches it.
    UPLINK = "uplink"
    # The directory runs, and the clients of one region do not reach it.
    REGION = "region"
    # The wall clock of the directory jumps, and later back.
    JUMPS = "jumps"
    # Very many nodes register and are never heard again.
    FLOODS = "floods"


class Fault(NamedTuple):
    """One fault, from `start_s` on for `length_s`; or a jump of the clock by `jump_s`."""

    kind: Kind
    start_s: float
    length_s: float
    jump_s: float = 0.0


# One long fault of each of these kinds, and at most this share of the whole time.
LONG_S: Final = {Kind.OUTAGES: 270 * DAY_S, Kind.UPLINK: 40 * DAY_S, Kind.REGION: 300 * DAY_S}
LONG_SHARE_MAX: Final = 0.2
# Short faults of these kinds: how many a year, their median, and how much they vary.
SHORT: Final = {Kind.OUTAGES: (4.0, 4 * HOUR_S, 1.2), Kind.UPLINK: (4.0, 8 * HOUR_S, 1.0)}
# A clock that was set wrong is right again after a day.
JUMP_S: Final = 2 * YEAR_S
JUMP_LASTS_S: Final = DAY_S
FLOODS_PER_YEAR: Final = 1.0
FLOOD_LASTS_S: Final = DAY_S / 4
# No long fault begins before this share of the time, when nothing is known yet.
QUIET_SHARE: Final = 0.2


def schedule(kinds: set[Kind], length_s: float, seed: int) -> list[Fault]:
    """Return the faults of these kinds within `length_s`, by their start.

    The faults of one kind do not depend on which other kinds there are.
    """
    found: list[Fault] = []
    for kind in kinds:
        chance = Random(f"{seed} {kind}")
        if kind in LONG_S:
            lasts_s = min(LONG_S[kind], LONG_SHARE_MAX * length_s)
            found.append(Fault(kind, _late(chance, length_s - lasts_s), lasts_s))
        if kind in SHORT:
            per_year, median_s, sigma = SHORT[kind]
            found += [
                Fault(kind, start_s, chance.lognormvariate(math.log(median_s), sigma))
                for start_s in _times(chance, per_year, length_s)
            ]
        if kind is Kind.JUMPS:
            start_s = _late(chance, length_s)
            found.append(Fault(kind, start_s, 0.0, JUMP_S))
            found.append(Fault(kind, start_s + JUMP_LASTS_S, 0.0, -JUMP_S))
        if kind is Kind.FLOODS:
            starts_s = _times(chance, FLOODS_PER_YEAR, length_s)
            found += [Fault(kind, start_s, FLOOD_LASTS_S) for start_s in starts_s]
    return sorted(found, key=lambda fault: (fault.start_s, fault.kind))


def _late(chance: Random, end_s: float) -> float:
    """Return a moment after the quiet share of the time."""
    return chance.uniform(QUIET_SHARE * end_s, end_s)


def _times(chance: Random, per_year: float, length_s: float) -> list[float]:
    times, at = [], chance.expovariate(per_year / YEAR_S)
    while at < length_s:
        times.append(at)
        at += chance.expovariate(per_year / YEAR_S)
    return times

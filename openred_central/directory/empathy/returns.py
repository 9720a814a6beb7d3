"""How likely a node that is late comes back, learned from all nodes. Pure.

Lateness is cut into octaves. In each, and for each of ten cohorts of nodes, the directory counts returns and
the time that nodes were late: their quotient is the hazard of a return. A cohort with few events leans on all
cohorts together, and these on a hazard that falls with lateness, as it does for machines in general.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import exp
from typing import Final

import orjson

from ..lifecycle import DAY_S
from ..octaves import seconds_of
from ..state.habits import Habits

# The lower edges of the bins, in seconds of lateness; the last bin has no end.
EDGES_S: Final[tuple[float, ...]] = (0.0, *(600.0 * 2**octave for octave in range(17)))
BINS: Final = len(EDGES_S)
# Cohorts of nodes that were never away, by the days on which they were heard, and of others by the usual
# absence.
DAYS: Final = (3, 30)
USUAL_S: Final = tuple(days * DAY_S for days in (0.5, 2, 7, 21, 60, 150))
COHORTS: Final = len(DAYS) + 1 + len(USUAL_S) + 1
# For `chance`: a node of which nothing more is known.
ANY_COHORT: Final = COHORTS
# The hazard at a lateness of t seconds, before anything is learned, is this share of 1 / t.
FIRST: Final = 0.45
# So many events count as much as what is assumed.
POOLED_EVENTS: Final = 4.0
COHORT_EVENTS: Final = 3.0
HALVED_AFTER_S: Final = 730 * DAY_S
_MIDDLES_S: Final = (300.0, *(1.5 * edge_s for edge_s in EDGES_S[1:]))
_FORMAT: Final = 1
# No count, and no sum of seconds, is larger.
COUNT_MAX: Final = 1e18


def cohort_of(habits: Habits, slot: int) -> int:
    """Return the cohort of the node in `slot`, 0 to `COHORTS` - 1."""
    if not habits.absences[slot]:
        return bisect_right(DAYS, habits.days[slot])
    return len(DAYS) + 1 + bisect_right(USUAL_S, seconds_of(habits.usual[slot]))


class Returns:
    """Returns and time of lateness by cohort and bin, and the chances that follow from them.

    `refresh` makes the chances follow what was counted since the last call; `refreshed` are those counts, as
    `packed` returns them. In this run, `happened` nodes returned, and `expected` were expected to by the
    chances of each time.
    """

    def __init__(self) -> None:
        self.expected, self.happened = 0.0, 0
        self.events = [[0.0] * BINS for _ in range(COHORTS)]
        self.exposure_s = [[0.0] * BINS for _ in range(COHORTS)]
        self.refresh()

    def expose(self, cohort: int, from_s: float, to_s: float, *, returned: bool) -> None:
        """Count that a node of `cohort` was late from one lateness to another, and whether it returned then.

        The latenesses are seconds since its due.
        """
        number = bisect_right(EDGES_S, from_s) - 1
        hazards, sums, exposure_s = self._hazards[cohort], self._sums[cohort], self.exposure_s[cohort]
        expected = -sums[number] - hazards[number] * (from_s - EDGES_S[number])
        while number + 1 < BINS and EDGES_S[number + 1] < to_s:
            exposure_s[number] += EDGES_S[number + 1] - from_s
            number += 1
            from_s = EDGES_S[number]
        exposure_s[number] += to_s - from_s
        self.expected += expected + sums[number] + hazards[number] * (to_s - EDGES_S[number])
        self.happened += returned
        if returned:
            self.events[cohort][number] += 1

    def age(self, passed_s: float) -> None:
        """Let what was counted weigh less, after so many attended seconds."""
        kept = 0.5 ** (passed_s / HALVED_AFTER_S)
        for table in (self.events, self.exposure_s):
            table[:] = [[value * kept for value in row] for row in table]

    def refresh(self) -> None:
        """Make the chances follow the counts."""
        self.refreshed = self.packed()
        events, exposure_s = (
            map(sum, zip(*self.events, strict=True)),
            map(sum, zip(*self.exposure_s, strict=True)),
        )
        pooled = [
            (count + POOLED_EVENTS) / (late_s + POOLED_EVENTS * middle_s / FIRST)
            for count, late_s, middle_s in zip(events, exposure_s, _MIDDLES_S, strict=True)
        ]
        self._hazards: list[list[float]] = [
            [
                (count + COHORT_EVENTS) / (late_s + COHORT_EVENTS / hazard)
                for count, late_s, hazard in zip(*rows, pooled, strict=True)
            ]
            for rows in zip(self.events, self.exposure_s, strict=True)
        ]
        self._hazards.append(pooled)
        self._sums: list[list[float]] = [
            [
                0.0,
                *accumulate(
                    h * (end - begin) for h, begin, end in zip(row, EDGES_S, EDGES_S[1:], strict=False)
                ),
            ]
            for row in self._hazards
        ]

    def chance(self, cohort: int, late_s: float, horizon_s: float) -> float:
        """Return the chance that a node of `cohort`, or of `ANY_COHORT`, late by `late_s`, is back in time.

        Times are in seconds, and `horizon_s` is counted from now.
        """
        return 1 - exp(self._sum(cohort, late_s) - self._sum(cohort, late_s + horizon_s))

    def _sum(self, cohort: int, late_s: float) -> float:
        number = bisect_right(EDGES_S, late_s) - 1
        hazard = self._hazards[cohort][number]
        return self._sums[cohort][number] + hazard * (late_s - EDGES_S[number])

    def packed(self) -> bytes:
        """Return the counts as bytes, to store or to send."""
        return orjson.dumps({"format": _FORMAT, "events": self.events, "exposure_s": self.exposure_s})

    def unpack(self, packed: bytes) -> None:
        """Take the counts that `packed` returned. Raise `ValueError` for anything else."""
        document = orjson.loads(packed)
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise ValueError(f"returns have another format than {_FORMAT}")
        events, exposure_s = (_table(document.get(name)) for name in ("events", "exposure_s"))
        self.events, self.exposure_s = events, exposure_s
        self.refresh()


def _table(found: object) -> list[list[float]]:
    """Return a table of counts. Raise `ValueError` for anything else."""
    rows = found if isinstance(found, list) else []
    if [len(row) if isinstance(row, list) else 0 for row in rows] != [BINS] * COHORTS:
        raise ValueError(f"returns are not {COHORTS} rows of {BINS} numbers")
    if not all(isinstance(value, int | float) and 0 <= value <= COUNT_MAX for row in rows for value in row):
        raise ValueError("returns hold a value that is no count")
    return [list(map(float, row)) for row in rows]

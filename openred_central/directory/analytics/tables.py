"""The tables that are made of the rows of days and months, and of what the directory learned. Pure.

No figure here tells of a single node: groups of fewer than five are left out, or told as nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ..empathy.calibration import BINS, Calibration
from ..empathy.forecast import HORIZONS_S
from ..empathy.paces import Paces
from ..empathy.returns import ANY_COHORT, DAYS, EDGES_S, USUAL_S, Returns
from ..lifecycle import DAY_S
from .calendar import number_of
from .census import OFFERING_MIN

# The fewest nodes, returns or dues that are told.
TOLD_MIN: Final = OFFERING_MIN
# How long nodes are late, in the rows of `return_rows`.
LATE_S: Final = (3_600, 21_600, *(round(days * DAY_S) for days in (1, 3, 7, 30, 90, 180, 365)))
HORIZON_NAMES: Final = tuple(f"{round(horizon_s / DAY_S)}d" for horizon_s in HORIZONS_S)
ALL: Final = "all"
_DIGITS: Final = 4


def _usual(seconds: float) -> str:
    return "12 hours" if seconds < DAY_S else f"{round(seconds / DAY_S)} days"


# The cohorts of `returns.cohort_of`, in their order.
COHORT_NAMES: Final = (
    f"never away, heard on fewer than {DAYS[0]} days",
    f"never away, heard on {DAYS[0]} to {DAYS[1] - 1} days",
    f"never away, heard on {DAYS[1]} days or more",
    *(f"usually away for up to {_usual(usual_s)}" for usual_s in USUAL_S),
    "usually away for longer",
)


def cohort_rows(months: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each month of registration, from the rows of all months, the earliest first.

    A place in the lists is an age in months. Nodes that registered before the first census are a cohort, too.
    """
    counted = {month["month"]: month for month in months}
    cohorts = sorted({name for month in counted.values() for name in (month["month"], *month["here"])})
    last = max(map(number_of, counted), default=0)
    for cohort in cohorts:
        first, registered = number_of(cohort), 0
        if cohort in counted:
            registered = counted[cohort]["registered"]
        here: list[int | None] = [None] * (last - first + 1)
        heard: list[int | None] = [None] * (last - first + 1)
        for name, month in counted.items():
            found, heard_lately = month["here"].get(cohort, (0, 0))
            # Without a count of its registrations, a cohort is as large as it was found.
            registered = max(registered, found)
            if name >= cohort and found >= TOLD_MIN:
                here[number_of(name) - first] = found
                heard[number_of(name) - first] = heard_lately if heard_lately >= TOLD_MIN else None
        if registered >= TOLD_MIN:
            yield {"registered_month": cohort, "registered": registered, "here": here, "heard": heard}


def return_rows(returns: Returns) -> Iterator[dict[str, Any]]:
    """Yield, for all nodes and for each cohort, the chances that a node is back that is late for so long."""
    pooled = [sum(column) for column in zip(*returns.events, strict=True)]
    kinds = [(ALL, ANY_COHORT, pooled)]
    kinds += [(name, cohort, returns.events[cohort]) for cohort, name in enumerate(COHORT_NAMES)]
    for name, cohort, events in kinds:
        if sum(events) < TOLD_MIN:
            continue
        for late_s in LATE_S:
            count = events[bisect_right(EDGES_S, late_s) - 1]
            chances = (round(returns.chance(cohort, late_s, horizon_s), _DIGITS) for horizon_s in HORIZONS_S)
            yield {
                "cohort": name,
                "late_s": late_s,
                "events": round(count) if count >= TOLD_MIN else None,
                **dict(zip(HORIZON_NAMES, chances, strict=True)),
            }


def calibration_rows(calibration: Calibration, paces: Paces) -> Iterator[dict[str, Any]]:
    """Yield what was expected of dues beside what happened, in ten bins, for all paces and for each."""
    pooled = [[sum(row) for row in zip(*rows, strict=True)] for rows in zip(*calibration.bins, strict=True)]
    kinds: list[tuple[float | None, list[list[float]]]] = [(None, [list(row) for row in pooled])]
    kinds += zip(paces.seconds, calibration.bins, strict=True)
    for pace_s, bins in kinds:
        for number, (dues, expected, happened, _) in enumerate(bins):
            if dues >= TOLD_MIN:
                yield {
                    "pace_s": None if pace_s is None else round(pace_s),
                    "from": number / BINS,
                    "to": (number + 1) / BINS,
                    "dues": round(dues),
                    "expected": round(expected / dues, _DIGITS),
                    "happened": round(happened / dues, _DIGITS),
                }

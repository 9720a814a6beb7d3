"""The years of a directory, in a row for each day and each month. Pure.

A census is taken once an hour, of few nodes more often, and when a day has ended in UTC. It writes the row of
the day that is open. The first census after midnight completes that, and begins the next one. Transitions,
and all else that adds up, are added once a minute. A row is continued where it exists already, so neither a
restart nor a clock that goes back begins a day anew. A crash may lose, or count again, what happened in its
last minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from ...clock import Now
from ...wording import rfc3339
from ..empathy.forecast import Forecast
from ..empathy.groups import is_public
from ..empathy.visiting import CALIBRATION, Visiting
from ..empathy.watch import Watch
from ..life.expiry import Expiry
from ..lifecycle import DAY_S
from ..nodes import Nodes
from ..state.kept import UNUSABLE
from .calendar import day_at, month_of
from .census import Census
from .days import DAYS, MONTHS, Day, Flow, Month, is_registration, packed, unpacked

# Kept values that followers need, too.
SHARED: Final = frozenset((DAYS, MONTHS, CALIBRATION))
HOUR_S: Final = 3_600.0
MINUTE_S: Final = 60.0
# A census is taken so long after the last one for each node: it never takes much of the processor.
NODE_S: Final = HOUR_S / 100_000
# Between two pieces of a census, requests get a turn.
PAUSE_S: Final = 0.001
_DIGITS: Final = 4
# In the row of the day that is open. Within a text, quotes look otherwise.
_OPEN: Final = b'"complete":false'


class _Sums:
    """The counters of this run at a moment."""

    def __init__(self, now: Now, flows: Counter[Flow], dues: int, expected: float, returned: int) -> None:
        self.now, self.flows = now, flows
        self.dues, self.expected, self.returned = dues, expected, returned


class Analytics:
    """The rows of `days` and `months`, by their names; at most `days_max` days.

    `forecast`, `visiting` and `watch` are None where no habits are remembered.
    """

    def __init__(
        self,
        nodes: Nodes,
        expiry: Expiry,
        forecast: Forecast | None,
        visiting: Visiting | None,
        watch: Watch | None,
        *,
        days_max: int,
    ) -> None:
        self._nodes, self._expiry, self._forecast = nodes, expiry, forecast
        self._visiting, self._watch = visiting, watch
        self._days_max = days_max
        self.days: dict[str, bytes] = {}
        self.months: dict[str, bytes] = {}
        self._day: Day | None = None
        self._month: Month | None = None
        self._sums: _Sums | None = None
        self._census: Census | None = None
        # When the next census is due, in monotonic seconds, if no day ends before.
        self._next_s = 0.0

    def restore(self, name: str, value: bytes) -> None:
        """Take the row that is kept under `name`; nothing: it was removed.

        Raise `ValueError` for a value that was never stored there.
        """
        kind, _, key = name.partition("/")
        rows, field = (self.days, "date") if kind == DAYS else (self.months, "month")
        if value:
            rows[key] = unpacked(value, field, key)
        else:
            rows.pop(key, None)

    def open_row(self) -> bytes | None:
        """Return the row of the day that is open, or was when the last run ended."""
        return next((row for row in reversed(self.days.values()) if _OPEN in row), None)

    def names(self) -> list[str]:
        """Return the names under which all rows are kept."""
        return [f"{kind}/{key}" for kind, rows in ((DAYS, self.days), (MONTHS, self.months)) for key in rows]

    def kept(self) -> Iterator[tuple[str, bytes]]:
        """Yield the kept values that a replica needs, by name. Rows may change meanwhile."""
        for kind, rows in ((DAYS, self.days), (MONTHS, self.months)):
            for key in list(rows):
                yield f"{kind}/{key}", _packed(rows, key) or b""
        if self._visiting is not None:
            yield CALIBRATION, self._visiting.calibration.packed()

    def step(self, now: Now) -> float:
        """Do what is due: add up, or count a piece of a census. Return the seconds until the next step."""
        if self._census is not None:
            if self._census.count(now):
                self._end(self._census)
                self._census = None
            return PAUSE_S
        day = self._day or self._begin(now)
        self._add_up(day, now)
        if now.monotonic_s >= self._next_s or day.date != day_at(now.wall_s):
            slots_s = NODE_S * self._nodes.registry.slots_count
            self._next_s = now.monotonic_s + min(HOUR_S, max(MINUTE_S, slots_s))
            self._census = Census(self._nodes, self._forecast, now)
            return PAUSE_S
        self._note()
        return max(PAUSE_S, min(MINUTE_S, DAY_S - now.wall_s % DAY_S))

    def stop(self, now: Now) -> None:
        """Note for the store all until `now`: the server stops."""
        if self._day is not None and self._day.stock:
            self._add_up(self._day, now)
            self._note()

    def _begin(self, now: Now) -> Day:
        """Go on with the day that was open when the last run ended; without one, with the present day."""
        self._next_s = now.monotonic_s
        # All counters of a run begin at zero.
        self._sums = _Sums(now, Counter(), 0, 0.0, 0)
        with suppress(*UNUSABLE):
            return self._go_on_with(Day.of(self.open_row() or b"", forecast=self._forecast is not None))
        return self._open(day_at(now.wall_s))

    def _open(self, date: str) -> Day:
        """Open a day; one that was open before goes on."""
        with suppress(*UNUSABLE):
            day = Day.of(self.days[date], forecast=self._forecast is not None)
            day.complete = False
            return self._go_on_with(day)
        return self._go_on_with(Day(date, forecast=self._forecast is not None))

    def _go_on_with(self, day: Day) -> Day:
        self._day, name = day, month_of(day.date)
        if self._month is None or self._month.month != name:
            self._month = Month(name)
            with suppress(*UNUSABLE):
                self._month = Month.of(self.months[name])
        return day

    def _add_up(self, day: Day, now: Now) -> None:
        """Add to the day and its month what happened since the last time."""
        flows = self._nodes.transitions.counts
        sums, former = self._present_sums(now), self._sums or self._present_sums(now)
        self._sums = sums
        passed_s = max(0.0, now.attended_s - former.now.attended_s)
        day.attended_s += passed_s
        day.held_s += max(0.0, now.monotonic_s - former.now.monotonic_s - passed_s)
        happened = Counter({flow: count - former.flows[flow] for flow, count in flows.items()})
        day.flows += happened
        day.dues += sums.dues - former.dues
        day.expected += sums.expected - former.expected
        day.returned += sums.returned - former.returned
        if self._month is not None:
            self._month.registered += sum(happened[flow] for flow in happened if is_registration(flow))
        for kind, hold in (
            ("transitions", self._expiry.silence.hold),
            ("onset", self._expiry.attendance.hold),
        ):
            if hold is not None:
                day.note_hold(kind, rfc3339(hold.since_at), hold.reason)

    def _present_sums(self, now: Now) -> _Sums:
        flows = Counter(self._nodes.transitions.counts)
        if self._visiting is None or self._forecast is None:
            return _Sums(now, flows, 0, 0.0, 0)
        returns = self._forecast.returns
        return _Sums(now, flows, self._visiting.calibration.samples, returns.expected, returns.happened)

    def _end(self, census: Census) -> None:
        """Write what a census found into the row of the open day; complete that if the day has ended."""
        day, date = self._day, day_at(census.now.wall_s)
        if day is None:
            return
        stock, cohorts = {**census.stock(), **self._quality()}, census.by_month()
        day.complete = day.date != date
        self._take(stock, cohorts)
        if day.complete:
            self._open(date)
            self._take(stock, cohorts)
        if self._visiting is not None:
            self._nodes.kept.note(CALIBRATION, self._visiting.calibration.packed)
        self._prune()

    def _take(self, stock: dict[str, Any], cohorts: Mapping[str, list[int]]) -> None:
        """Write what a census found into the rows of the open day and of its month."""
        if self._day is not None and self._month is not None:
            self._day.stock = stock
            self._month.count(cohorts)
            self._note()

    def _quality(self) -> dict[str, Any]:
        """Return how good expectations are, and how many networks are dark, as members of a row."""
        if self._visiting is None or self._watch is None:
            return dict.fromkeys(("brier", "calibration_error", "dark"))
        quality = self._visiting.calibration.quality()
        return {
            "brier": quality.brier and round(quality.brier, _DIGITS),
            "calibration_error": quality.error and round(quality.error, _DIGITS),
            "dark": sum(is_public(dark.group) for dark in self._watch.dark),
        }

    def _note(self) -> None:
        """Note the rows of the open day and of its month for the store."""
        day, month = self._day, self._month
        if day is not None and month is not None and day.stock:
            self._keep(DAYS, self.days, day.date, day.row())
            self._keep(MONTHS, self.months, month.month, month.row())

    def _keep(self, kind: str, rows: dict[str, bytes], key: str, row: bytes) -> None:
        rows[key] = row
        self._nodes.kept.note(f"{kind}/{key}", partial(_packed, rows, key))

    def _prune(self) -> None:
        """Remove the oldest days beyond the limit."""
        for date in sorted(self.days)[: max(0, len(self.days) - self._days_max)]:
            del self.days[date]
            self._nodes.kept.note(f"{DAYS}/{date}", lambda: None)


def _packed(rows: dict[str, bytes], key: str) -> bytes | None:
    return packed(rows[key]) if key in rows else None

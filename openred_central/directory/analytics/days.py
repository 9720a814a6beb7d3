"""The rows of days and of months: what is stored of each, and how a row goes on after a restart. Pure.

A row is JSON, compressed: ten years take few megabytes. A row that is begun can be continued, whoever wrote
it: all that adds up in a day stands in its row.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any, Final

import orjson

from ...wording import parse_rfc3339, rfc3339
from ..lifecycle import LIVE_STATES, STATE_BY_WIRE_NAME, Event, State
from .calendar import begin_of, month_of

# The beginnings of the names of kept values.
DAYS: Final = "day"
MONTHS: Final = "month"
# No row is longer.
ROW_BYTES_MAX: Final = 64 * 1024
HOLDS_MAX: Final = 20
_DIGITS: Final = 3
_ADDED: Final = frozenset(
    (
        *("date", "complete", "attended_s", "held_s", "holds", "flows", "dues", "returns"),
        *("registered", "revived", "left", "forgotten", "died"),
    )
)

Flow = tuple[State, State, str]


def packed(row: bytes) -> bytes:
    """Return a row to store."""
    return zlib.compress(row)


def unpacked(value: bytes, key: str, name: str) -> bytes:
    """Return the row that `packed` made `value` of, in which `key` is `name`.

    Raise `ValueError` for anything else.
    """
    reader = zlib.decompressobj()
    try:
        row = reader.decompress(value, ROW_BYTES_MAX)
    except zlib.error as error:
        raise ValueError(f"the row of {name} cannot be read: {error}") from error
    # The checksum tells damage. Each row begins so, and to read the rows of ten years would take long.
    if not reader.eof or not row.startswith(b'{"%s":"%s",' % (key.encode(), name.encode())):
        raise ValueError(f"the row of {name} is that of another {key}, or is cut")
    return row


def check(kind: str, name: str, value: bytes) -> None:
    """Raise an error of `UNUSABLE` unless `value` is a whole row of the day or month `name`, as stored."""
    if kind == DAYS:
        day = Day.of(unpacked(value, "date", name), forecast=True)
        rfc3339(parse_rfc3339(day.stock["counted_at"]))
        [(str(service), int(count)) for service, count in day.stock["services"]]
        begin_of(month_of(name))
    else:
        Month.of(unpacked(value, "month", name))
        begin_of(name)


def is_registration(flow: Flow) -> bool:
    """Return whether a transition is a new node, or a dead one that begins anew."""
    return flow[1] is State.ACTIVE and flow[0] in (State.ABSENT, State.DEAD)


class Day:
    """The row of one day: what added up in it, and in `stock` what the last census found.

    `flows` are transitions by (from, to, reason). `held_s` is how long attended time stood still while the
    server ran. So many `dues` were compared with what was expected; `returned` nodes came back after
    their due, and `expected` were expected to. All three are None where no habits are remembered.
    """

    def __init__(self, date: str, *, forecast: bool) -> None:
        self.date = date
        self.complete = False
        self.attended_s = self.held_s = 0.0
        self.holds: list[dict[str, str]] = []
        self.flows: Counter[Flow] = Counter()
        self.forecast = forecast
        self.dues = self.returned = 0
        self.expected = 0.0
        self.stock: dict[str, Any] = {}

    @classmethod
    def of(cls, row: bytes, *, forecast: bool) -> Day:
        """Return the day whose row this is, to go on with it. Raise an error of `UNUSABLE` for other rows."""
        document = orjson.loads(row)
        day = cls(document["date"], forecast=forecast)
        day.complete = document["complete"]
        day.attended_s, day.held_s = float(document["attended_s"]), float(document["held_s"])
        day.holds = [dict(hold) for hold in document["holds"]]
        for from_state, to_state, reason, count in document["flows"]:
            day.flows[STATE_BY_WIRE_NAME[from_state], STATE_BY_WIRE_NAME[to_state], str(reason)] = int(count)
        day.dues = int(document["dues"] or 0)
        returns = document["returns"] or {"expected": 0.0, "happened": 0}
        day.expected, day.returned = float(returns["expected"]), int(returns["happened"])
        day.stock = {name: value for name, value in document.items() if name not in _ADDED}
        return day

    def note_hold(self, kind: str, since: str, reason: str) -> None:
        """Note a hold, unless it is noted already, or too many are."""
        hold = {"kind": kind, "since": since, "reason": reason}
        if len(self.holds) < HOLDS_MAX and hold not in self.holds:
            self.holds.append(hold)

    def row(self) -> bytes:
        """Return the row."""
        flows = self.flows
        died = sum(
            count for (_, to, reason), count in flows.items() if to is State.DEAD and reason == DEADLINE
        )
        returns = {"expected": round(self.expected, _DIGITS), "happened": self.returned}
        return orjson.dumps(
            {
                "date": self.date,
                "complete": self.complete,
                "attended_s": round(self.attended_s, _DIGITS),
                "held_s": round(self.held_s, _DIGITS),
                "holds": self.holds,
                "registered": sum(count for flow, count in flows.items() if is_registration(flow)),
                "revived": sum(flows[flow] for flow in flows if flow[1] is State.ACTIVE and flow[0] in LIVE),
                "left": sum(count for (_, _, reason), count in flows.items() if reason == LEFT),
                "forgotten": sum(
                    count
                    for (_, to, reason), count in flows.items()
                    if to is State.DEAD and reason == FORGOTTEN
                ),
                "died": died,
                "flows": [
                    [from_state.wire, to_state.wire, reason, count]
                    for (from_state, to_state, reason), count in sorted(flows.items())
                ],
                "dues": self.dues if self.forecast else None,
                "returns": returns if self.forecast else None,
                **self.stock,
            }
        )


# `value` is a slow property.
DEADLINE: Final[str] = Event.DEADLINE.value
LEFT: Final[str] = Event.LEFT.value
FORGOTTEN: Final[str] = Event.FORGOTTEN.value
LIVE: Final = frozenset(LIVE_STATES)


class Month:
    """The row of one month: how many nodes registered in it, and what its last census found.

    `here` has, by month of registration, how many nodes are here, and how many of them were heard lately.
    """

    def __init__(self, month: str) -> None:
        self.month = month
        self.registered = 0
        self.here: dict[str, list[int]] = {}

    @classmethod
    def of(cls, row: bytes) -> Month:
        """Return the month whose row this is, to go on with it. Raise an error of `UNUSABLE` for others."""
        document = orjson.loads(row)
        month = cls(document["month"])
        month.registered = int(document["registered"])
        month.here = {str(name): [int(here), int(heard)] for name, (here, heard) in document["here"].items()}
        return month

    def row(self) -> bytes:
        """Return the row."""
        return orjson.dumps({"month": self.month, "registered": self.registered, "here": self.here})

"""The rows of days and of months: what is stored of each, and how a row goes on after a restart. Pure.

A row is JSON, compressed: ten years take few megabytes. A row that is begun can be continued, whoever wrote
it: all that adds up in a day stands in its row. Most of a row are its flows and services, lists of words and
a number each. Tables of many days take them as they are written, or leave them out, since to read them takes
the most time.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ...wording import parse_rfc3339, rfc3339
from ..lifecycle import LIVE_STATES, STATE_BY_WIRE_NAME, Event, State
from .calendar import begin_of

# The beginnings of the names of kept values.
DAYS: Final = "day"
MONTHS: Final = "month"
# No row is longer.
ROW_BYTES_MAX: Final = 64 * 1024
HOLDS_MAX: Final = 20
# Members that are lists of lists, and what these begin with.
_LISTS: Final = {name: f'"{name}":[['.encode() for name in ("flows", "services")}
_WORD: Final = re.compile(r"[a-z0-9_.-]{1,64}")
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
        parse_rfc3339(f"{name}T00:00:00Z")
        row = unpacked(value, "date", name)
        Day.of(row, forecast=True)
        _check_stock(row, orjson.loads(row))
    else:
        month = Month.of(unpacked(value, "month", name))
        for each in (name, *month.here):
            begin_of(each)


def _check_stock(row: bytes, document: dict[str, Any]) -> None:
    """Raise an error of `UNUSABLE` unless tables can take what `row` has as it is written."""
    for member in _LISTS:
        lists = document[member]
        if lists_of(row, member) != orjson.dumps(lists)[2:-2] or not all(map(_is_counted, lists)):
            raise ValueError(f"its {member} are no words and numbers")
    rfc3339(parse_rfc3339(document["counted_at"]))
    texts = ("date", "counted_at", "holds", *_LISTS)
    if not _is_figures([value for name, value in document.items() if name not in texts]):
        raise ValueError("a figure is text")


def _is_counted(entry: list[Any]) -> bool:
    """Return whether a list is words and a number."""
    return all(map(_WORD.fullmatch, entry[:-1])) and type(entry[-1]) is int


def _is_figures(value: Any) -> bool:
    """Return whether no text is in a value, or in what it contains."""
    if isinstance(value, dict):
        value = list(value.values())
    return all(map(_is_figures, value)) if isinstance(value, list) else not isinstance(value, str)


def _place_of(row: bytes, member: str) -> tuple[int, int]:
    """Return from where to where the row of a day has the lists in a member; an empty place without lists.

    The outer brackets, and those of the first and last list, are left out.
    """
    # Within a text, quotes look otherwise.
    begin = row.find(_LISTS[member])
    if begin < 0:
        return 0, 0
    begin += len(_LISTS[member])
    # Words have no colons, and to find one takes far less time than to find brackets among others.
    return begin, row.rfind(b"]]", begin, row.find(b":", begin))


def lists_of(row: bytes, member: str) -> bytes:
    """Return the lists in a member of the row of a day as JSON, without the brackets of the first and last.

    They are words and a number each; without lists, return nothing.
    """
    begin, end = _place_of(row, member)
    return row[begin:end]


def figures(row: bytes) -> dict[str, Any]:
    """Return the members of the row of a day, with an empty list each for flows and services."""
    for member in _LISTS:
        begin, end = _place_of(row, member)
        row = row[:begin] + row[end:]
    document: dict[str, Any] = orjson.loads(row)
    return document


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

    def count(self, found: Mapping[str, list[int]]) -> None:
        """Take what a census found, by month of registration, and leave out later ones: the clock jumped."""
        self.here = {name: counts for name, counts in found.items() if name <= self.month}

    def row(self) -> bytes:
        """Return the row."""
        return orjson.dumps({"month": self.month, "registered": self.registered, "here": self.here})

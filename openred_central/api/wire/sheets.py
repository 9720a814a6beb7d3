"""The tables of `GET /analytics` as bytes: their rows as objects in JSON, and as lines in CSV (RFC 4180).

Tables of days and months are long. They have numbers, and words that need neither escapes nor quotes. So text
is put between the words as they stand in the rows of days, which costs far less than to read them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import orjson

from ...directory.analytics.census import HEARD_DAYS
from ...directory.analytics.tables import HORIZON_NAMES
from ...directory.empathy.forecast import TOLD
from ...directory.lifecycle import LIVE_STATES

# Flows and services are members of these names in the rows of days.
DAYS, FLOWS, SERVICES, COHORTS, RETURNS, CALIBRATION = TABLES = (
    *("days", "flows", "services", "cohorts", "returns", "calibration"),
)
STATES: Final = tuple(state.wire for state in LIVE_STATES)
CAME_AND_WENT: Final = ("registered", "revived", "left", "forgotten", "died")
EXPECTED: Final = ("away", "late", "became_late", "known")
# The columns of each table in CSV. A dot leads to a member, or to a place in a list.
COLUMNS: Final = {
    DAYS: (
        *("date", "complete", "counted_at", "attended_s", "held_s", "nodes"),
        *(f"by_state.{name}" for name in STATES),
        *CAME_AND_WENT,
        "listed",
        *(f"heard.{days}d" for days in HEARD_DAYS),
        *EXPECTED,
        *(f"availability.{grade}" for grade in range(len(TOLD))),
        *("dues", "brier", "calibration_error", "returns.expected", "returns.happened", "dark"),
    ),
    FLOWS: ("date", "from", "to", "reason", "nodes"),
    SERVICES: ("date", "service", "nodes"),
    COHORTS: ("registered_month", "age_months", "registered", "here", "heard"),
    RETURNS: ("cohort", "late_s", "events", *HORIZON_NAMES),
    CALIBRATION: ("pace_s", "from", "to", "dues", "expected", "happened"),
}
# Text in JSON before the words and the number of each list; the first one ends the list before.
_LABELS: Final = {
    FLOWS: (b'},{"date":"%b","from":"', [b'","to":"', b'","reason":"', b'","nodes":']),
    SERVICES: (b'},{"date":"%b","service":"', [b'","nodes":']),
}
_END: Final = b"\r\n"


def objects(table: str, date: str, lists: bytes) -> bytes:
    """Return the lists of a day for `table`, as in `days.lists_of`, as objects with commas between them."""
    first, others = _LABELS[table]
    labels = [first % date.encode(), *others]
    cells = lists.translate(None, b'"[]').split(b",")
    woven = [b"}"] * (2 * len(cells) + 1)
    woven[:-1:2] = labels * (len(cells) // len(labels))
    woven[1::2] = cells
    # Nothing ends before the first one.
    woven[0] = woven[0][len(b"},") :]
    return b"".join(woven)


def lines(date: str, lists: bytes) -> bytes:
    """Return the lists of a day, as in `days.lists_of`, as lines without the end of the last one."""
    begin = f"{date},".encode()
    return begin + lists.translate(None, b'"[').replace(b"],", _END + begin)


def line(cells: Sequence[Any]) -> bytes:
    """Return numbers and words that need no quotes, or None for nothing, as a line without its end."""
    return orjson.dumps(cells)[1:-1].translate(None, b'"').replace(b"null", b"")


def quoted(row: Iterable[Any]) -> bytes:
    """Return cells with any text as a line without its end."""
    written = io.StringIO()
    csv.writer(written).writerow(row)
    return written.getvalue().encode().removesuffix(_END)


def sheet(table: str, lines_of_rows: Iterable[bytes]) -> bytes:
    """Return lines below a header row."""
    return _END.join([",".join(COLUMNS[table]).encode(), *lines_of_rows, b""])


def day_cells(row: Mapping[str, Any]) -> list[Any]:
    """Return the cells of the row of a day; None where the row has nothing."""
    cells = list[Any]()
    try:
        for member, pick, nothing in _DAY_PARTS:
            found = row[member] if member else row
            cells += nothing if found is None else pick(found)
    except (LookupError, TypeError):
        # The row of another version, which has other members.
        return [_cell(row, column.split(".")) for column in COLUMNS[DAYS]]
    return cells


def age_cells(cohort: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Yield the cells of each age of a cohort."""
    for age, (here, heard) in enumerate(zip(cohort["here"], cohort["heard"], strict=True)):
        yield cohort["registered_month"], age, cohort["registered"], here, heard


def _parts(columns: Iterable[str]) -> Iterator[tuple[str, Callable[[Any], Iterable[Any]], list[None]]]:
    """Yield each run of columns of one member: its name, what takes their values, and as many None."""
    for member, run in groupby(columns, lambda column: column.rpartition(".")[0]):
        names = [column.rpartition(".")[2] for column in run]
        keys = [int(name) if name.isdecimal() else name for name in names]
        # For one key, `itemgetter` returns no tuple.
        pick = itemgetter(*keys) if len(keys) > 1 else lambda found, key=keys[0]: (found[key],)
        yield member, pick, [None] * len(keys)


_DAY_PARTS: Final = tuple(_parts(COLUMNS[DAYS]))


def _cell(value: Any, path: Sequence[str]) -> Any:
    """Return the value at a path; None where there is none."""
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value

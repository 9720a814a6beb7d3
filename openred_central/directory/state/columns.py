"""Many records at once, by their columns: so a store is read into memory, and nodes are shown.

What is done for a whole column runs in one call of the interpreter, not in one for each record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from .node import Record

Value = TypeVar("Value")


class RecordColumns(NamedTuple):
    """Records by their fields: the columns are those of `node.Record`, all of one length.

    Text is UTF-8: what is only hashed and compared need not be decoded.
    """

    slot: Sequence[int]
    node_id: Sequence[bytes]
    state: Sequence[int]
    flags: Sequence[int]
    registered_at: Sequence[float]
    last_seen_at: Sequence[float]
    last_seen_s: Sequence[float]
    since_s: Sequence[float]
    usual_gap_s: Sequence[float]
    revision: Sequence[int]
    services: Sequence[bytes]
    region: Sequence[bytes]
    profile: Sequence[bytes]
    away_from_s: Sequence[float]
    away_until_s: Sequence[float]
    history: Sequence[bytes]
    generation: Sequence[int]
    next_key: Sequence[bytes]


# The values of a row that are text; the profile stays as it is.
_TEXTS = tuple(
    Record._fields.index(name) for name in ("node_id", "services", "region", "history", "next_key")
)


def record_of(row: Sequence[Any]) -> Record:
    """The record that the values of one row make, text being UTF-8."""
    values = list(row)
    for place in _TEXTS:
        values[place] = values[place].decode()
    return Record._make(values)


def row_of(record: Record) -> RecordColumns:
    """The values of one record as those of a row; lone surrogates are bytes that were no UTF-8."""
    values: list[Any] = list(record)
    for place in _TEXTS:
        if isinstance(values[place], str):
            values[place] = values[place].encode("utf-8", "surrogateescape")
    return RecordColumns._make(values)


def spread(values: Sequence[Value], slots: Sequence[int], first: int, empty: Value) -> Sequence[Value]:
    """`values` as a column from slot `first` to the last of the rising `slots`, `empty` in those left out."""
    span = slots[-1] + 1 - first
    if len(values) == span:
        return values
    column = [empty] * span
    for slot, value in zip(slots, values, strict=True):
        column[slot - first] = value
    return column


def picker(slots: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function that takes of a column what stands at `slots`, in their order.

    Six columns at fifty of 100,000 slots, which the processor has not at hand, take 90 µs, by `map` 180 µs:
    so little lies between two looks that several are under way at once.
    """
    if len(slots) > 1:
        return itemgetter(*slots)
    # Of one slot, `itemgetter` gives no tuple.
    return lambda column: tuple([column[slot] for slot in slots])

"""Rows that no store could keep, such as a name with half a character in it. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, get_type_hints

from ..directory.state.changes import Batch
from ..directory.state.node import Record, Tombstone
from .store import RowsRefused

# Every database keeps integers of 64 bits.
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1


def refuse_rows(batch: Batch) -> None:
    """Raise `RowsRefused` if a record or tombstone of `batch` cannot be stored."""
    refused: list[str] = []

    def keep(row: Record | Tombstone) -> bool:
        for name, value in zip(row._fields, row, strict=True):
            if (reason := _refusal(value)) is not None:
                refused.append(f"{type(row).__name__} of {row[0]!r}: {name} {reason}")
                return False
        return True

    remaining = batch._replace(
        records=list(filter(keep, batch.records)),
        tombstones=list(filter(keep, batch.tombstones)),
    )
    if refused:
        raise RowsRefused(remaining, refused)


def sound_columns(
    kind: type[Record] | type[Tombstone], rows: Sequence[Record | Tombstone], batch: Batch
) -> tuple[list[Sequence[Any]], int]:
    """Return `rows` of `batch` by columns, their text as such, and how many bytes of text they have.

    Raises `RowsRefused`, or `TypeError`, `ValueError` or `OverflowError`, where a row cannot be stored.
    """
    integers, floats, texts, encoded = _PLACES[kind]
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for place in encoded:
        columns[place] = list(map(bytes.decode, columns[place]))
    # Values that a database refuses, or returns as something else, are found in whole columns.
    for place in integers:
        array("q", columns[place])
    text = "".join(chain.from_iterable(columns[place] for place in (*texts, *encoded))).encode()
    # Large numbers may also sum up to infinity; then none is refused.
    total = sum(chain.from_iterable(columns[place] for place in floats))
    if b"\0" in text or not math.isfinite(total):
        refuse_rows(batch)
    return columns, len(text)


def _places(kind: type[Record] | type[Tombstone]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the places of integers, floats, texts, and texts in UTF-8 in a row of `kind`."""
    kinds = list(get_type_hints(kind).values())
    integers, floats, texts, encoded = (
        [place for place, kind in enumerate(kinds) if kind is wanted] for wanted in (int, float, str, bytes)
    )
    return integers, floats, texts, encoded


_PLACES: Final = {kind: _places(kind) for kind in (Record, Tombstone)}


def _refusal(value: object) -> str | None:
    """Return why `value` cannot be stored; None where it can."""
    if isinstance(value, int):
        return None if INTEGER_MIN <= value <= INTEGER_MAX else "does not fit into 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else "is not a finite number"
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if not isinstance(text, str):
            return f"is {text!r}"
        text.encode()
    except UnicodeError:
        return "is not Unicode text"
    return "contains a NUL character" if "\0" in text else None

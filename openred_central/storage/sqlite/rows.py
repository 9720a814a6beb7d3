"""A batch as SQL statements, each for some of its rows.

SQLite runs a statement without the interpreter's lock, and holds the lock while it takes the values over.
With 64 rows a statement the event loop waits only shortly. `executemany` would take the lock at each row.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, get_type_hints

import orjson

from ...directory.state.changes import Batch
from ...directory.state.node import Record, SignOfLife, Tombstone
from ..store import RowsRefused
from .journal import INSERT_SIGNS, pack
from .schema import PAGE_BYTES, RECORDS_PER_PAGE

# Rows of one statement. The rest is split into powers of two, so that there are few different statements
# and all stay prepared. SQLite allows 32,766 parameters.
STATEMENT_ROWS = 64

# The parameter arrives as bytes and becomes text inside SQLite, which saves two conversions here.
_EACH = "json_each(CAST(? AS TEXT))"
DELETE_RECORDS = f"DELETE FROM node WHERE slot IN (SELECT value FROM {_EACH})"
DELETE_TOMBSTONES = f"DELETE FROM tombstone WHERE id_hash IN (SELECT value FROM {_EACH})"

# A commit writes the page of the vitals, and a little of the tree above the rows.
PAGES_PER_COMMIT = 3

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1


class Statement(NamedTuple):
    """One statement with its parameters. `bytes_given` is their approximate length as text or JSON."""

    sql: str
    values: Sequence[Any]
    bytes_given: int


class _Table(NamedTuple):
    """A table whose columns are the fields of `fields`, a type of named tuples."""

    name: str
    fields: type[Record] | type[Tombstone]
    # True if each row ends with the number of the commit that wrote it.
    is_numbered: bool


# A record replaces all that its slot held; there is no index to be kept in step.
NODE = _Table("node", Record, is_numbered=True)
TOMBSTONE = _Table("tombstone", Tombstone, is_numbered=False)


@cache
def _replace(table: _Table, rows: int) -> str:
    """Return the statement that writes so many rows over those with the same keys."""
    columns = list(table.fields._fields)
    if table.is_numbered:
        columns.append("commit_number")
    row = f"({', '.join('?' * len(columns))})"
    values = ", ".join([row] * rows)
    return f"REPLACE INTO {table.name} ({', '.join(columns)}) VALUES {values}"


@cache
def _places(table: _Table) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the places of integers, floats, texts, and texts in UTF-8 in a row of `table`."""
    kinds = list(get_type_hints(table.fields).values())
    integers, floats, texts, encoded = (
        [place for place, kind in enumerate(kinds) if kind is wanted] for wanted in (int, float, str, bytes)
    )
    return integers, floats, texts, encoded


def encode(batch: Batch, number: int) -> list[Statement]:
    """Return the statements of `batch`, the commit with this number, in the order in which they must run.

    Raises `RowsRefused` where a row is found that cannot be stored.
    """
    try:
        statements = [
            *_deleting(DELETE_RECORDS, batch.freed_slots),
            *_replacing(NODE, batch, batch.records, number),
            *_deleting(DELETE_TOMBSTONES, batch.lifted_id_hashes),
            *_replacing(TOMBSTONE, batch, batch.tombstones, number),
        ]
        if batch.signs_of_life:
            packed = pack(batch.signs_of_life)
            statements.append(Statement(INSERT_SIGNS, (number, packed), len(packed)))
            # Large numbers may also sum up to infinity; then none is refused.
            if not math.isfinite(sum(chain.from_iterable(batch.signs_of_life))):
                refuse_rows(batch)
    except (TypeError, ValueError, OverflowError, struct.error):
        refuse_rows(batch)
        raise
    return statements


def _deleting(sql: str, keys: Sequence[int | str]) -> Iterator[Statement]:
    if keys:
        document = orjson.dumps(keys)
        yield Statement(sql, (document,), len(document))


def _replacing(
    table: _Table, batch: Batch, rows: Sequence[Record | Tombstone], number: int
) -> Iterator[Statement]:
    """Yield the statements that write `rows`, made column by column."""
    integers, floats, texts, encoded = _places(table)
    first = 0
    while first < len(rows):
        # The greatest power of two of those that are left.
        taken = min(STATEMENT_ROWS, 1 << ((len(rows) - first).bit_length() - 1))
        columns: list[Sequence[Any]] = list(zip(*rows[first : first + taken], strict=True))
        first += taken
        for place in encoded:
            columns[place] = list(map(bytes.decode, columns[place]))
        # Values that SQLite refuses, or returns as something else, are found in whole columns.
        for place in integers:
            array("q", columns[place])
        text = "".join(chain.from_iterable(columns[place] for place in (*texts, *encoded))).encode()
        # Large numbers may also sum up to infinity; then none is refused.
        total = sum(chain.from_iterable(columns[place] for place in floats))
        if b"\0" in text or not math.isfinite(total):
            refuse_rows(batch)
        if table.is_numbered:
            columns.append([number] * taken)
        values = list(chain.from_iterable(zip(*columns, strict=True)))
        yield Statement(_replace(table, taken), values, len(text))


def pages_written(batch: Batch, bytes_given: int) -> int:
    """Return about how many pages a commit has added to the log: SQLite reports it only at a checkpoint.

    The size of the log's file does not show it, because the file is written over and never cut.
    """
    slots = chain((row.slot for row in batch.records), batch.freed_slots)
    leaves = {slot // RECORDS_PER_PAGE for slot in slots}
    scattered = len(batch.tombstones) + len(batch.lifted_id_hashes)
    return PAGES_PER_COMMIT + scattered + max(len(leaves), bytes_given // PAGE_BYTES)


def refuse_rows(batch: Batch) -> None:
    """Raise `RowsRefused` if a record, sign of life or tombstone of `batch` cannot be stored."""
    refused: list[str] = []

    def keep(row: Record | SignOfLife | Tombstone) -> bool:
        for name, value in zip(row._fields, row, strict=True):
            if (reason := _refusal(value)) is not None:
                refused.append(f"{type(row).__name__} of {row[0]!r}: {name} {reason}")
                return False
        return True

    remaining = batch._replace(
        records=list(filter(keep, batch.records)),
        signs_of_life=list(filter(keep, batch.signs_of_life)),
        tombstones=list(filter(keep, batch.tombstones)),
    )
    if refused:
        raise RowsRefused(remaining, refused)


def text_of(stored: bytes) -> str:
    """Return stored text; bytes that are no UTF-8 become lone surrogates, which no text has."""
    return stored.decode("utf-8", "surrogateescape")


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

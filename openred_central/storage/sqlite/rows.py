"""A batch as SQL statements, each for some of its rows.

SQLite runs a statement without the interpreter's lock, and holds the lock while it takes the values over.
With 64 rows a statement the event loop waits only shortly. `executemany` would take the lock at each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import orjson

from ...directory.state.changes import Batch
from ...directory.state.node import Record, Tombstone
from ...directory.state.pages import PageRun
from ..refusing import refuse_rows, sound_columns
from ..seen import rows_of
from .schema import PAGE_BYTES, RECORDS_PER_PAGE

Value = TypeVar("Value")

# Rows of one statement. The rest is split into powers of two, so that there are few different statements
# and all stay prepared. SQLite allows 32,766 parameters.
STATEMENT_ROWS = 64

# The parameter arrives as bytes and becomes text inside SQLite, which saves two conversions here.
_EACH = "json_each(CAST(? AS TEXT))"
DELETE_RECORDS = f"DELETE FROM node WHERE slot IN (SELECT value FROM {_EACH})"
DELETE_KEPT = f"DELETE FROM kept WHERE name IN (SELECT value FROM {_EACH})"
DELETE_TOMBSTONES = f"DELETE FROM tombstone WHERE id_hash IN (SELECT value FROM {_EACH})"

# A commit writes the page of the vitals, and a little of the tree above the rows.
PAGES_PER_COMMIT = 3


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
            *_replacing_pages(batch.pages, number),
            *_deleting(DELETE_KEPT, [name for name, value in batch.kept if value is None]),
            *_replacing_kept([(name, value) for name, value in batch.kept if value is not None]),
        ]
    except (TypeError, ValueError, OverflowError):
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
    for part in _parts(rows):
        columns, text_bytes = sound_columns(table.fields, part, batch)
        if table.is_numbered:
            columns.append([number] * len(part))
        values = list(chain.from_iterable(zip(*columns, strict=True)))
        yield Statement(_replace(table, len(part)), values, text_bytes)


def _replacing_pages(runs: Sequence[PageRun], number: int) -> Iterator[Statement]:
    """Yield the statements that write the pages of `runs`."""
    for part in _parts([*chain.from_iterable(map(rows_of, runs))]):
        sql = f"REPLACE INTO seen (page, commit_number, signs) VALUES {', '.join(['(?, ?, ?)'] * len(part))}"
        # Their length is known without a look (`pages_written`).
        yield Statement(sql, [*chain.from_iterable((page, number, row) for page, row in part)], 0)


def _replacing_kept(kept: Sequence[tuple[str, bytes]]) -> Iterator[Statement]:
    """Yield the statements that write values by their names."""
    for part in _parts(kept):
        sql = f"REPLACE INTO kept (name, value) VALUES {', '.join(['(?, ?)'] * len(part))}"
        yield Statement(sql, [*chain.from_iterable(part)], sum(len(value) for _, value in part))


def _parts(rows: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """Yield `rows` in the parts for one statement each."""
    first = 0
    while first < len(rows):
        # The greatest power of two of those that are left.
        taken = min(STATEMENT_ROWS, 1 << ((len(rows) - first).bit_length() - 1))
        yield rows[first : first + taken]
        first += taken


def pages_written(batch: Batch, bytes_given: int) -> int:
    """Return about how many pages a commit has added to the log: SQLite reports it only at a checkpoint.

    The size of the log's file does not show it, because the file is written over and never cut.
    """
    slots = chain((row.slot for row in batch.records), batch.freed_slots)
    leaves = {slot // RECORDS_PER_PAGE for slot in slots}
    scattered = len(batch.tombstones) + len(batch.lifted_id_hashes)
    scattered += sum(len(run.numbers) for run in batch.pages) + len(batch.kept)
    return PAGES_PER_COMMIT + scattered + max(len(leaves), bytes_given // PAGE_BYTES)


def text_of(stored: bytes) -> str:
    """Return stored text; bytes that are no UTF-8 become lone surrogates, which no text has."""
    return stored.decode("utf-8", "surrogateescape")

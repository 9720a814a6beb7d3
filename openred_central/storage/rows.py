"""A batch as SQL statements, each with all its rows in one JSON document, or packed where they are many.

One statement over `json_each` does its whole work in one call into SQLite, without the interpreter's lock;
`executemany` would fight the event loop for that lock once per row.
"""

from __future__ import annotations

import math
import struct
from itertools import chain

import orjson

from ..directory.batch import Batch
from ..directory.node import Record, SignOfLife, Tombstone
from .journal import INSERT_SIGNS, pack
from .store import RowsRefused

# The parameter arrives as bytes and becomes text inside SQLite, which saves two conversions here.
_EACH = "json_each(CAST(:rows AS TEXT))"


def _values(count: int) -> str:
    return ", ".join(f"value ->> {index}" for index in range(count))


DELETE_RECORDS = f"DELETE FROM node WHERE slot IN (SELECT value FROM {_EACH})"
# A record replaces all that its slot held; there is no index to be kept in step.
REPLACE_RECORDS = (
    f"REPLACE INTO node ({', '.join(Record._fields)}, commit_number) "
    f"SELECT {_values(len(Record._fields))}, :commit_number FROM {_EACH}"
)
DELETE_TOMBSTONES = f"DELETE FROM tombstone WHERE id_hash IN (SELECT value FROM {_EACH})"
REPLACE_TOMBSTONES = (
    f"REPLACE INTO tombstone ({', '.join(Tombstone._fields)}) "
    f"SELECT {_values(len(Tombstone._fields))} FROM {_EACH}"
)

PROFILE = Record._fields.index("profile")
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
# SQLite ends a JSON string at an escaped NUL without a word.
ESCAPED_NUL = b"\\u0000"


def encode(batch: Batch) -> list[tuple[str, bytes]]:
    """The statements of `batch` in the order in which they must run, each with its `rows`.

    Some also ask for the `commit_number`. Raises `RowsRefused` where a row is found that cannot be stored.
    Numbers that are not finite are looked for only in signs of life: elsewhere the columns refuse them, and
    then `refuse_rows` tells which.
    """
    try:
        plain_records = [
            (*record[:PROFILE], record.profile.decode(), *record[PROFILE + 1 :]) for record in batch.records
        ]
        statements = [
            (statement, orjson.dumps(rows))
            for statement, rows in (
                (DELETE_RECORDS, batch.freed_slots),
                (REPLACE_RECORDS, plain_records),
                (DELETE_TOMBSTONES, batch.lifted_id_hashes),
                (REPLACE_TOMBSTONES, list(map(tuple, batch.tombstones))),
            )
            if rows
        ]
        if batch.signs_of_life:
            statements.append((INSERT_SIGNS, pack(batch.signs_of_life)))
            # Large numbers may also sum up to infinity; then none is refused.
            if not math.isfinite(sum(chain.from_iterable(batch.signs_of_life))):
                refuse_rows(batch)
    except (TypeError, ValueError, struct.error):
        refuse_rows(batch)
        raise
    if any(ESCAPED_NUL in rows for statement, rows in statements if statement is not INSERT_SIGNS):
        refuse_rows(batch)
    return statements


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


def _refusal(value: object) -> str | None:
    """Why `value` cannot be stored; None where it can."""
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

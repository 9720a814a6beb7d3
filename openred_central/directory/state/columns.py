"""Many records at once, by their columns, as a store is read; and the digests of records. Pure.

Work on a whole column runs in one call of the interpreter, not in one for each record.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from operator import itemgetter, methodcaller
from typing import Any, NamedTuple, TypeVar

from .node import Record

Value = TypeVar("Value")

DIGEST_MASK = (1 << 64) - 1
_DIGEST_NUMBERS = struct.Struct("<qBddd")


class RecordColumns(NamedTuple):
    """Records by their fields: the columns are those of `node.Record`, all of one length.

    Text is UTF-8, since most of it is only hashed and compared.
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
    longest: Sequence[int]


# Places of the text in a row. The profile stays as it is.
_TEXTS = tuple(
    Record._fields.index(name) for name in ("node_id", "services", "region", "history", "next_key")
)


def record_of(row: Sequence[Any]) -> Record:
    """Return the record of one row, whose text is UTF-8."""
    values = list(row)
    for place in _TEXTS:
        values[place] = values[place].decode()
    return Record._make(values)


def row_of(record: Record) -> RecordColumns:
    """Return the row of one record. Lone surrogates become the bytes that were not UTF-8."""
    values: list[Any] = list(record)
    for place in _TEXTS:
        if isinstance(values[place], str):
            values[place] = values[place].encode("utf-8", "surrogateescape")
    return RecordColumns._make(values)


def columns_of(records: Sequence[Record]) -> RecordColumns:
    """Return records, of which there is at least one, by their columns."""
    columns: list[Sequence[Any]] = list(zip(*records, strict=True))
    for place in _TEXTS:
        columns[place] = list(map(str.encode, columns[place]))
    return RecordColumns._make(columns)


def records_of(columns: RecordColumns) -> list[Record]:
    """Return the records in `columns`."""
    values: list[Sequence[Any]] = list(columns)
    for place in _TEXTS:
        values[place] = list(map(bytes.decode, values[place]))
    return list(map(tuple.__new__, repeat(Record), zip(*values, strict=True)))


def spread(values: Sequence[Value], slots: Sequence[int], first: int, empty: Value) -> Sequence[Value]:
    """Return `values` as a column from slot `first` to the last of the rising `slots`, `empty` in gaps."""
    span = slots[-1] + 1 - first
    if len(values) == span:
        return values
    column = [empty] * span
    for slot, value in zip(slots, values, strict=True):
        column[slot - first] = value
    return column


def picker(slots: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a function that takes the values at `slots` from a column, in their order.

    Unlike `map`, `itemgetter` does so little between two reads that the processor overlaps several of them.
    """
    if len(slots) > 1:
        return itemgetter(*slots)
    # For one slot, `itemgetter` returns no tuple.
    return lambda column: tuple([column[slot] for slot in slots])


def record_digest(record: Record) -> int:
    """Return a digest, 64 bits, of what the directory acknowledged of a record.

    State, last sign of life and history are left out. They follow from the record and attended time, and a
    store may lag behind in them without being wrong.
    """
    numbers = _DIGEST_NUMBERS.pack(
        record.revision, record.flags, record.registered_at, record.away_from_s, record.away_until_s
    )
    # UTF-8 never contains the separator, so no two records have the same bytes.
    parts = [record.node_id.encode(), record.services.encode(), record.region.encode(), record.profile]
    if record.generation or record.next_key:
        parts.append(b"%d,%b" % (record.generation, record.next_key.encode()))
    if record.longest:
        parts.append(b"%d" % record.longest)
    digest = hashlib.blake2b(b"\xff".join(parts) + b"\xff" + numbers, digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def record_digests(columns: RecordColumns) -> Sequence[int]:
    """Return the `record_digest` of each record: cheaper than one by one."""
    numbers = map(
        _DIGEST_NUMBERS.pack,
        *(columns.revision, columns.flags, columns.registered_at, columns.away_from_s, columns.away_until_s),
    )
    profiles = columns.profile
    if any(columns.generation) or any(columns.next_key):
        profiles = [
            b"%b\xff%d,%b" % (profile, generation, next_key) if generation or next_key else profile
            for profile, generation, next_key in zip(
                profiles, columns.generation, columns.next_key, strict=True
            )
        ]
    if any(columns.longest):
        profiles = [
            b"%b\xff%d" % (profile, longest) if longest else profile
            for profile, longest in zip(profiles, columns.longest, strict=True)
        ]
    parts = zip(columns.node_id, columns.services, columns.region, profiles, numbers, strict=True)
    hashes = map(partial(hashlib.blake2b, digest_size=8), map(b"\xff".join, parts))
    packed = b"".join(map(methodcaller("digest"), hashes))
    return struct.unpack(f"<{len(packed) // 8}Q", packed)

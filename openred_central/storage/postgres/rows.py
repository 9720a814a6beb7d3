"""A batch as the values of `commit_1`. Pure.

Records and tombstones are one JSON document each, by columns: the database takes them apart, which costs the
client far less than arrays of its own for each column.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from ...directory.state.changes import Batch
from ...directory.state.node import Record, Tombstone
from ..refusing import refuse_rows, sound_columns
from ..seen import rows_of


def encode(batch: Batch) -> tuple[Any, ...]:
    """Return the values of a batch in the order of the parameters of `commit_1`, from the vitals on.

    Parts that the batch has not are None. Raises `RowsRefused` where a row is found that cannot be stored.
    """
    try:
        records = _document(Record, batch.records, batch)
        tombstones = _document(Tombstone, batch.tombstones, batch)
    except (TypeError, ValueError, OverflowError):
        refuse_rows(batch)
        raise
    pages = list(chain.from_iterable(map(rows_of, batch.pages)))
    kept = [(name, value) for name, value in batch.kept if value is not None]
    return (
        *batch.vitals,
        batch.freed_slots or None,
        records,
        batch.lifted_id_hashes or None,
        tombstones,
        *_columns(pages),
        [name for name, value in batch.kept if value is None] or None,
        *_columns(kept),
    )


def _columns(pairs: Sequence[tuple[Any, bytes]]) -> tuple[list[Any] | None, list[bytes] | None]:
    if not pairs:
        return None, None
    return [key for key, _ in pairs], [value for _, value in pairs]


def _document(
    kind: type[Record] | type[Tombstone], rows: Sequence[Record | Tombstone], batch: Batch
) -> str | None:
    if not rows:
        return None
    columns, _ = sound_columns(kind, rows, batch)
    return orjson.dumps(dict(zip(kind._fields, columns, strict=True))).decode()

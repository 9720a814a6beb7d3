"""Rows that no store could keep, such as a name with half a character in it. Pure."""

from __future__ import annotations

import math
from typing import Final

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

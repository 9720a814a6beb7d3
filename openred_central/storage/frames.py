"""Frames and the parts of a load as bytes, for a link between processes. Pure.

Rows go by columns: numbers as they lie in memory, little-endian, texts behind their lengths. So the bytes of
a profile stay what they are, and a whole column costs one call.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, Final, TypeVar

from ..directory.frame import Check, Frame, HabitChunk, LoadPart, Outlook
from ..directory.lifecycle import State
from ..directory.state.changes import Batch, Vitals
from ..directory.state.columns import RecordColumns, columns_of, records_of
from ..directory.state.habits import CHUNK_SLOTS, PACKED_BYTES
from ..directory.state.node import Tombstone
from ..directory.state.signs import SignColumns
from .versions import LINK_VERSIONS

FRAME: Final = 1
LOAD_PART: Final = 2

_HEAD: Final = struct.Struct("<BB")
_FRAME: Final = struct.Struct("<QdQdQd")
_PART: Final = struct.Struct("<QQQQd")
_COUNT: Final = struct.Struct("<I")
_OUTLOOK: Final = struct.Struct("<ddB")
_CHECK: Final = struct.Struct(f"<{len(State) + 2}Q")
# The columns of rows: a code of `array` each, `t` for text, and `s` for bytes.
_RECORDS: Final = "ItBBdddddQttsddtQtB"
_RECORDS_AS_BYTES: Final = _RECORDS.replace("t", "s")
_TOMBSTONES: Final = "ttddtQBt"
_HABITS: Final = "Iss"
_SIGNS: Final = "Iddf"
# The name of a kept value, and the value, which is never empty; empty for one that is removed.
_KEPT: Final = "ts"

Row = TypeVar("Row")


class FrameError(ValueError):
    """Bytes that are no frame, or no part of a load; the message says why in one line."""


def pack(frame: Frame, version: int) -> bytes:
    """Return `frame` as bytes for a link of `version`, one of `LINK_VERSIONS`."""
    batch = frame.batch
    vitals, check = batch.vitals, frame.check
    records = columns_of(batch.records) if batch.records else ()
    return b"".join(
        (
            _HEAD.pack(version, FRAME),
            _FRAME.pack(frame.seq, frame.at, batch.last_change, *vitals),
            _section(_columns([(slot,) for slot in batch.freed_slots], "I")),
            _section(_columns([(id_hash,) for id_hash in batch.lifted_id_hashes], "t")),
            _section(_by_columns(records, _RECORDS_AS_BYTES)),
            _section(_columns(batch.tombstones, _TOMBSTONES)),
            _section(_kept(batch.kept)),
            _section(pack_signs(frame.signs)),
            _section(_columns(frame.habits, _HABITS)),
            _section(_outlook(frame.outlook)),
            _section(
                b"" if check is None else _CHECK.pack(check.digest, *check.state_counts, check.tombstones)
            ),
        )
    )


def unpack(data: bytes) -> Frame:
    """Return the frame that `pack` made bytes of. Raise `FrameError` for anything else."""
    return _read(data, FRAME, _frame)


def pack_part(part: LoadPart, version: int) -> bytes:
    """Return a part of a load as bytes for a link of `version`, one of `LINK_VERSIONS`."""
    return b"".join(
        (
            _HEAD.pack(version, LOAD_PART),
            _PART.pack(part.seq, part.as_of, part.newest, part.revision, part.transitions_per_h),
            _section(_by_columns(part.records or (), _RECORDS_AS_BYTES)),
            _section(_columns(part.tombstones, _TOMBSTONES)),
            _section(_columns(part.habits, _HABITS)),
            _section(_outlook(part.outlook)),
            _section(_kept(part.kept)),
        )
    )


def unpack_part(data: bytes) -> LoadPart:
    """Return the part of a load that `pack_part` made bytes of. Raise `FrameError` for anything else."""
    return _read(data, LOAD_PART, _part)


def pack_signs(signs: SignColumns) -> bytes:
    """Return `signs` as bytes."""
    return _by_columns(signs, _SIGNS)


def unpack_signs(data: bytes) -> SignColumns:
    """Return the signs of life that `pack_signs` made bytes of. Raise `FrameError` for anything else."""
    return SignColumns._make(_Reader(data).columns(_SIGNS))


def _read(data: bytes, kind: int, read: Callable[[_Reader], Row]) -> Row:
    reader = _Reader(data)
    try:
        version, found = reader.numbers(_HEAD)
        if version not in LINK_VERSIONS or found != kind:
            raise FrameError(
                f"has version {version} and kind {found}, allowed are versions {LINK_VERSIONS[0]} to "
                f"{LINK_VERSIONS[-1]} and kind {kind}"
            )
        value = read(reader)
        reader.expect_end()
    except FrameError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise FrameError(f"cannot be read: {error}") from error
    return value


def _frame(reader: _Reader) -> Frame:
    seq, at, last_change, *vitals = reader.numbers(_FRAME)
    freed, lifted = reader.section().rows("I", tuple), reader.section().rows("t", tuple)
    records = reader.section().columns(_RECORDS_AS_BYTES)
    batch = Batch(
        records_of(RecordColumns._make(records)) if records[0] else [],
        [slot for (slot,) in freed],
        reader.section().rows(_TOMBSTONES, Tombstone._make),
        [id_hash for (id_hash,) in lifted],
        Vitals._make(vitals),
        last_change,
        kept=reader.section().rows(_KEPT, _kept_row),
    )
    signs = SignColumns._make(reader.section().columns(_SIGNS))
    habits = reader.section().rows(_HABITS, _habit_chunk)
    outlook, check = _read_outlook(reader.section()), reader.section()
    return Frame(seq, at, batch, signs, habits, outlook, _read_check(check))


def _part(reader: _Reader) -> LoadPart:
    seq, as_of, newest, revision, transitions_per_h = reader.numbers(_PART)
    records = RecordColumns._make(reader.section().columns(_RECORDS_AS_BYTES))
    return LoadPart(
        seq,
        as_of,
        newest,
        revision,
        transitions_per_h,
        records if records.slot else None,
        reader.section().rows(_TOMBSTONES, Tombstone._make),
        reader.section().rows(_HABITS, _habit_chunk),
        _read_outlook(reader.section()),
        reader.section().rows(_KEPT, _kept_row),
    )


def _habit_chunk(row: Iterable[Any]) -> HabitChunk:
    chunk = HabitChunk._make(row)
    if (len(chunk.packed), len(chunk.odds)) != (PACKED_BYTES, CHUNK_SLOTS):
        raise FrameError(f"has a chunk of habits of {len(chunk.packed)} and {len(chunk.odds)} bytes")
    return chunk


def _kept(rows: Sequence[tuple[str, bytes | None]]) -> bytes:
    return _columns([(name, value or b"") for name, value in rows], _KEPT)


def _kept_row(row: Iterable[Any]) -> tuple[str, bytes | None]:
    name, value = row
    return name, value or None


def _outlook(outlook: Outlook | None) -> bytes:
    return b"" if outlook is None else _OUTLOOK.pack(*outlook[:3]) + outlook.returns


def _read_outlook(reader: _Reader) -> Outlook | None:
    if not reader.left:
        return None
    usual_score, fair_from_s, pace_first = reader.numbers(_OUTLOOK)
    return Outlook(usual_score, fair_from_s, pace_first, reader.take(reader.left))


def _read_check(reader: _Reader) -> Check | None:
    if not reader.left:
        return None
    digest, *counts, tombstones = reader.numbers(_CHECK)
    reader.expect_end()
    return Check(digest, tuple(counts), tombstones)


def _section(content: bytes) -> bytes:
    return _COUNT.pack(len(content)) + content


def _columns(rows: Sequence[Sequence[Any]], codes: str) -> bytes:
    return _by_columns(list(zip(*rows, strict=True)), codes)


def _by_columns(columns: Sequence[Sequence[Any]], codes: str) -> bytes:
    """Return columns of one length, or none for no rows, as bytes."""
    parts = [_COUNT.pack(len(columns[0]) if columns else 0)]
    for code, column in zip(codes, columns, strict=bool(columns)):
        if code in "st":
            texts = list(map(str.encode, column)) if code == "t" else column
            parts += (_numbers("I", list(map(len, texts))), *texts)
        else:
            parts.append(_numbers(code, column))
    return b"".join(parts)


def _numbers(code: str, values: Sequence[Any]) -> bytes:
    column = array(code, values)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


class _Reader:
    """Bytes that are read from their begin to their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise FrameError(f"ends {count - self.left} bytes early")
        self._at += count
        return self._data[self._at - count : self._at]

    def numbers(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self.take(form.size))

    def section(self) -> _Reader:
        (length,) = self.numbers(_COUNT)
        return _Reader(self.take(length))

    def expect_end(self) -> None:
        if self.left:
            raise FrameError(f"has {self.left} bytes too many")

    def columns(self, codes: str) -> list[list[Any]]:
        """Return the columns that `_by_columns` made bytes of, up to the end."""
        (count,) = self.numbers(_COUNT)
        found: list[list[Any]] = []
        for code in codes if count else "":
            if code in "st":
                texts = self._texts(count)
                found.append(list(map(bytes.decode, texts)) if code == "t" else texts)
            else:
                found.append(self._column(code, count))
        self.expect_end()
        return found or [[] for _ in codes]

    def rows(self, codes: str, make: Callable[[Iterable[Any]], Row]) -> list[Row]:
        return list(map(make, zip(*self.columns(codes), strict=True)))

    def _texts(self, count: int) -> list[bytes]:
        """Return texts, which lie one after the other behind all their lengths."""
        lengths = self._column("I", count)
        joined, ends = self.take(sum(lengths)), list(accumulate(lengths))
        return list(map(joined.__getitem__, map(slice, [0, *ends], ends)))

    def _column(self, code: str, count: int) -> list[Any]:
        column = array(code)
        column.frombytes(self.take(count * column.itemsize))
        if sys.byteorder == "big":
            column.byteswap()
        return column.tolist()

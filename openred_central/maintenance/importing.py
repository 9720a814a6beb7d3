"""The import of an export into a new database, as a whole or not at all."""

from __future__ import annotations

import sqlite3
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..directory.state.changes import Batch, Vitals
from ..directory.state.node import Record, Tombstone, hash_id
from ..security.tokens.revocations import decode_revocations
from ..storage.copies.restoring import decided_swaps, finish_swap, swap_in
from ..storage.copies.snapshots import read_only, utc_stamp
from ..storage.loading import REVOCATIONS
from ..storage.private_files import create_folder, scratch_folder, sync
from ..storage.sqlite.faults import reported
from ..storage.sqlite.lock import FileLock
from ..storage.sqlite.sqlite import SqliteStore
from ..storage.store import RowsRefused, StoreError
from .admitting import admit
from .portable import (
    LINE_BYTES_MAX,
    Item,
    LineError,
    Secret,
    Totals,
    decode,
    decode_header,
    encode,
    is_carried,
)

BATCH_ROWS = 5_000
# The checks of all rows must not fill the memory.
SPARING = "PRAGMA temp_store = FILE"

ABSENT_NODES = "SELECT NOT EXISTS (SELECT 1 FROM node) AND NOT EXISTS (SELECT 1 FROM tombstone)"
TWICE = "SELECT node_id FROM node GROUP BY node_id HAVING count(*) > 1 LIMIT 1"
DEAD_AND_ALIVE = (
    "SELECT node_id FROM node WHERE EXISTS (SELECT 1 FROM tombstone) "
    "AND hash_id(node_id) IN (SELECT id_hash FROM tombstone) LIMIT 1"
)

Line = TypeVar("Line")


def import_into(
    database: Path,
    lines: BinaryIO,
    *,
    replace: bool,
    wall_s: float,
    progress: Callable[[int], None],
) -> tuple[Totals, Path | None]:
    """Make the database `database` from an export; return its totals and the new place of the former one.

    With `replace`, a database with nodes is set aside. `progress` is called with the bytes read so far.
    Raises `StoreError`: a bad line, an export that is cut short or was changed, a database that is there or
    in use. Then everything is as before.
    """
    with reported("import into", database):
        create_folder(database.parent)
        with FileLock(database).hold():
            if decided_swaps(database):
                finish_swap(database)
            if not (replace or _is_free(database)):
                raise StoreError(
                    f"{database} is there already and is not an empty directory; "
                    "name another one with --database, or set this one aside with --replace"
                )
            with scratch_folder(database.parent) as scratch:
                copy = scratch / database.name
                totals = build_copy(copy, lines, progress)
                aside = swap_in(database, copy, f"replaced-{utc_stamp(wall_s)}")
    return totals, aside if aside.exists() else None


def _is_free(database: Path) -> bool:
    """Return whether there is no database, or one of ours without a node."""
    if not database.exists():
        return not database.with_name(database.name + "-wal").exists()
    try:
        with closing(read_only(database)) as connection:
            (is_empty,) = connection.execute(ABSENT_NODES).fetchone()
    except sqlite3.Error:
        return False
    return bool(is_empty)


def build_copy(copy: Path, lines: BinaryIO, progress: Callable[[int], None]) -> Totals:
    """Make the database `copy` from an export, complete and synced, and return the totals.

    `progress` is called with the bytes read so far. Raises `StoreError` for a bad line, and for an export
    that is cut short or was changed.
    """
    store = SqliteStore(copy)
    store.open()
    try:
        totals = _fill(store, lines, progress)
    finally:
        store.close()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute(SPARING)
        connection.create_function("hash_id", 1, hash_id, deterministic=True)
        for query, complaint in ((TWICE, "is there twice"), (DEAD_AND_ALIVE, "is there and has a tombstone")):
            found = connection.execute(query).fetchone()
            if found is not None:
                raise StoreError(f"the node {found[0]!r} {complaint}; nothing was imported")
    sync(copy)
    return totals


def _fill(store: SqliteStore, lines: BinaryIO, progress: Callable[[int], None]) -> Totals:
    """Write the items of the lines to `store`, and return their totals."""
    numbered = enumerate(_lines(lines, progress), 1)
    number, header = next(numbered, (1, b""))
    _at(number, decode_header, header)
    totals, vitals, footer = Totals(), None, None
    rows = _Rows(store)
    for number, line in numbered:
        # Editors leave an empty line at the end; the footer reveals lost lines.
        if not line.strip():
            continue
        if footer is not None:
            raise StoreError(f"line {number}: a line follows the footer; nothing was imported")
        item = _at(number, decode, line, totals.nodes)
        if isinstance(item, Totals):
            footer = item
            continue
        if isinstance(item, Vitals):
            if vitals is not None or totals.nodes or totals.tombstones:
                raise StoreError(f"line {number}: the vitals come once, before nodes and tombstones")
            rows.vitals = vitals = item
        _at(number, admit, item, vitals)
        _at(number, rows.add, item)
        totals = totals.with_line(item, encode(item))
    rows.flush(at_end=vitals is not None)
    if footer is None:
        raise StoreError(f"the export is cut off: no footer follows line {number}; nothing was imported")
    for name, said, found in zip(Totals._fields, footer, totals, strict=True):
        if said != found:
            raise StoreError(
                f"line {number}: the footer says {_shown(name, said)}, the lines before it make "
                f"{_shown(name, found)}: the export was changed or damaged; nothing was imported"
            )
    return totals


def _shown(name: str, value: int) -> str:
    return f"{name} {value:016x}" if "digest" in name else f"{value} {name}"


class _Rows:
    """Rows that are gathered and committed in batches."""

    def __init__(self, store: SqliteStore) -> None:
        self.vitals = Vitals(0.0, 0, 0.0)
        self._store = store
        self._records: list[Record] = []
        self._tombstones: list[Tombstone] = []
        self._kept: list[tuple[str, bytes]] = []

    def add(self, item: Item) -> None:
        """Take in a row; it is written with many others."""
        if isinstance(item, Secret) and item.name == REVOCATIONS:
            self._store.save_revocations(decode_revocations(item.value))
        elif isinstance(item, Secret) and is_carried(item.name):
            self._kept.append((item.name, item.value))
        elif isinstance(item, Secret):
            self._store.save_secret(item.name, item.value)
        elif isinstance(item, Record):
            self._records.append(item)
        elif isinstance(item, Tombstone):
            self._tombstones.append(item)
        if len(self._records) + len(self._tombstones) + len(self._kept) >= BATCH_ROWS:
            self.flush()

    def flush(self, *, at_end: bool = False) -> None:
        """Write the gathered rows; at the end also the vitals alone."""
        if not (self._records or self._tombstones or self._kept or at_end):
            return
        batch = Batch(self._records, [], self._tombstones, [], self.vitals, 0, kept=self._kept)
        try:
            self._store.commit(batch)
        except RowsRefused as error:
            raise StoreError(f"{error.refused[0]}; nothing was imported") from error
        self._records, self._tombstones, self._kept = [], [], []
        while self._store.tidy_due:
            self._store.tidy()


def _lines(lines: BinaryIO, progress: Callable[[int], None]) -> Iterator[bytes]:
    read = 0
    while line := lines.readline(LINE_BYTES_MAX):
        read += len(line)
        progress(read)
        # Some programs begin every file with a byte order mark, although UTF-8 needs none.
        yield line.removeprefix(BOM_UTF8) if read == len(line) else line


def _at(number: int, check: Callable[..., Line], *arguments: object) -> Line:
    try:
        return check(*arguments)
    except LineError as error:
        raise StoreError(f"line {number}: {error}; nothing was imported") from error

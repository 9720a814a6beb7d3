"""The embedded store: one SQLite file, written by one thread.

The connection may move between threads (it is opened and loaded before the writer thread takes over), but
serves one at a time: `Store` asks that of its callers, and SQLite needs no more than that.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path

from ..directory.batch import Batch, Vitals
from ..directory.node import Record, Tombstone
from .lock import FileLock
from .rows import encode, refuse_rows
from .schema import SCHEMA_VERSION, check_marks, companion, create_database, create_folder
from .store import StoreError

# Above this the log is copied into the database, between two commits.
WAL_BYTES_DUE = 8 * 1024 * 1024
PAGE_BYTES = 4_096
# A commit writes the page of the vitals, and a little of the tree above the rows.
PAGES_PER_COMMIT = 3
# Records of usual size; larger ones are seen by their bytes.
RECORDS_PER_PAGE = 16
# As many pages as a batch of 5,000 rows can change; a transaction that outgrows the cache is written twice.
CACHE_KIB = 32 * 1024
# Another program may look into the file; one that writes into it is waited for this long.
BUSY_TIMEOUT_S = 5.0

SETTINGS = f"""
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA cache_size = -{CACHE_KIB};
PRAGMA mmap_size = 0;
PRAGMA temp_store = MEMORY;
PRAGMA trusted_schema = OFF;
PRAGMA secure_delete = ON;
"""

# Read back as the bytes that were given, not as text.
_RECORD_COLUMNS = ", ".join("CAST(profile AS BLOB)" if name == "profile" else name for name in Record._fields)
SELECT_RECORDS = f"SELECT {_RECORD_COLUMNS} FROM node WHERE slot > ? ORDER BY slot LIMIT ?"
SELECT_TOMBSTONES = f"SELECT {', '.join(Tombstone._fields)} FROM tombstone ORDER BY died_s, id_hash"
SELECT_VITALS = f"SELECT {', '.join(Vitals._fields)} FROM vitals"
REPLACE_VITALS = f"REPLACE INTO vitals (only_row, {', '.join(Vitals._fields)}) VALUES (1, ?, ?, ?)"

# What to do, by SQLite's primary result code.
ADVICE = {
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup, or move it away to start empty",
    sqlite3.SQLITE_NOTADB: "it is damaged or no database: restore it from a backup, or choose another path",
    sqlite3.SQLITE_READONLY: "let the user of this server write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "let the user of this server read and write the file and its folder",
    sqlite3.SQLITE_PERM: "let the user of this server read and write the file and its folder",
    sqlite3.SQLITE_FULL: "make room on that disk",
    sqlite3.SQLITE_IOERR: "the disk or its file system failed: see the system's log",
    sqlite3.SQLITE_BUSY: "another program is writing into it: let it finish or stop it",
}


class SqliteStore:
    """Keeps the directory in the SQLite database at `path`. Implements `Store`."""

    durable = True

    def __init__(self, path: Path) -> None:
        # The lock and the log belong to the file itself, by whatever link it is reached.
        self._path = Path(os.path.realpath(path))
        self._lock = FileLock(self._path)
        self._open_connection: sqlite3.Connection | None = None
        self._wal_pages = 0

    @property
    def location(self) -> str:
        """The path of the database file."""
        return str(self._path)

    @property
    def tidy_due(self) -> bool:
        """Whether the log has grown enough for a checkpoint."""
        return self._wal_pages * PAGE_BYTES > WAL_BYTES_DUE

    def open(self) -> None:
        """Create the database where there is none, lock it against a second server, and check it.

        Raises `StoreError`: in use, not ours, from another version, damaged, not writable.
        """
        if self._open_connection is not None:
            return
        with self._telling("open"):
            create_folder(self._path.parent)
            self._lock.acquire()
            try:
                self._prepare_file()
                self._open_connection = self._connect()
            except BaseException:
                self._lock.release()
                raise

    def _prepare_file(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            wal = companion(self._path, "-wal")
            if wal.exists():
                raise StoreError(
                    f"{self._path} is missing, but its log {wal.name} is there and may hold records; "
                    "put the database back beside it, or move the log away to start empty"
                ) from None
            create_database(self._path)
            return
        if not self._path.is_file():
            raise StoreError(f"{self._path} is not a file; choose the path of a file")
        if status.st_size == 0:
            raise StoreError(
                f"{self._path} is empty, which no database of ours ever is; "
                "restore it from a backup, or remove it to start empty"
            )
        # It holds secrets. SQLite gives the files beside it the same mode.
        if status.st_mode & 0o077:
            self._path.chmod(status.st_mode & 0o700)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            check_marks(connection, self._path)
            connection.executescript(SETTINGS)
            (journal_mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if journal_mode != "wal":
                raise StoreError(f"{self._path} lies where no write-ahead log can be; choose a local disk")
            # A file that can only be read complains of nothing but a change.
            connection.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version = {SCHEMA_VERSION}; ROLLBACK;")
            # Finds damage that would let rows vanish silently; about half a second for a million of them.
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                finding = " ".join(finding.split())
                raise StoreError(f"cannot open {self._path}: {finding}; {ADVICE[sqlite3.SQLITE_CORRUPT]}")
        except BaseException:
            connection.close()
            raise
        return connection

    def load_vitals(self) -> Vitals | None:
        """What the last batch said of the directory itself; None in a new store."""
        with self._telling("read"):
            row = self._connection.execute(SELECT_VITALS).fetchone()
        return None if row is None else Vitals._make(row)

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        """All records in the order of their slots, in lists of at most `rows_max`.

        Each list is a query of its own, so that nothing stays open in between.
        """
        last_slot = -1
        while True:
            with self._telling("read"):
                rows = self._connection.execute(SELECT_RECORDS, (last_slot, rows_max)).fetchall()
            if not rows:
                return
            last_slot = rows[-1][0]
            # The columns stand in the order of the fields; `Record._make` would take six times as long.
            yield list(map(tuple.__new__, repeat(Record), rows))

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        """All tombstones, oldest first, in lists of at most `rows_max`."""
        with self._telling("read"):
            cursor = self._connection.execute(SELECT_TOMBSTONES)
            while rows := cursor.fetchmany(rows_max):
                yield list(map(Tombstone._make, rows))

    def load_secret(self, name: str) -> bytes | None:
        """The secret kept under `name`; None where there is none."""
        with self._telling("read"):
            row = self._connection.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def save_secret(self, name: str, value: bytes) -> None:
        """Keep a secret under `name`, durably before this returns."""
        with self._telling("write"), self._transaction() as connection:
            connection.execute("REPLACE INTO secret (name, value) VALUES (?, ?)", (name, value))

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, as a whole or not at all. See `Store.commit`."""
        statements = encode(batch)
        with self._telling("write"):
            try:
                with self._transaction() as connection:
                    for statement, document in statements:
                        connection.execute(statement, (document,))
                    connection.execute(REPLACE_VITALS, batch.vitals)
            except sqlite3.IntegrityError:
                refuse_rows(batch)
                raise
        self._wal_pages += _pages_written(batch, sum(len(document) for _, document in statements))

    def tidy(self) -> None:
        """Copy the log into the database, as far as no reader needs it."""
        self._wal_pages = 0
        with self._telling("write"):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Copy the whole log into the database and release the file. Closing twice is harmless."""
        connection, self._open_connection = self._open_connection, None
        if connection is None:
            return
        with self._telling("close"):
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
                self._lock.release()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._open_connection is None:
            raise StoreError(f"{self._path} is not open")
        return self._open_connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits what is done inside; where that raises, or the commit does, nothing of it remains."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # Some errors have rolled back already; none may hide the first one.
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _telling(self, doing: str) -> Iterator[None]:
        """Tells the operator of errors by SQLite and by the system, as `StoreError`."""
        try:
            yield
        except sqlite3.Error as error:
            advice = ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "see the system's log")
            raise StoreError(f"cannot {doing} {self._path}: {error}; {advice}") from error
        except OSError as error:
            advice = "let the user of this server read and write it, or choose another path"
            raise StoreError(
                f"cannot {doing} {self._path}: {error.filename}: {error.strerror}; {advice}"
            ) from error


def _pages_written(batch: Batch, document_bytes: int) -> int:
    """About how many pages a commit has added to the log, which cannot be asked without a checkpoint.

    The size of the log's file tells nothing, because it is written over and never cut.
    """
    slots = chain((row.slot for row in batch.records), (row.slot for row in batch.signs_of_life))
    leaves = {slot // RECORDS_PER_PAGE for slot in chain(slots, batch.freed_slots)}
    scattered = len(batch.tombstones) + len(batch.lifted_id_hashes)
    return PAGES_PER_COMMIT + scattered + max(len(leaves), document_bytes // PAGE_BYTES)

"""The embedded store: one SQLite file, written by one thread.

The connection may move between threads (it is opened and loaded before the writer thread takes over), but
serves one at a time: `Store` asks that of its callers, and SQLite needs no more than that.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from ..directory.batch import Batch, Vitals
from ..directory.columns import RecordColumns
from ..directory.node import Record, SignOfLife, Tombstone
from ..plain import NamedTuple
from .connecting import Checking, connect, truncate_log
from .faults import ADVICE, Damage, poisons, telling
from .journal import HOLDS, Journal
from .lock import FileLock
from .rows import INTEGER_MAX, INTEGER_MIN, encode, refuse_rows
from .schema import PAGE_BYTES, RECORDS_PER_PAGE, companion, create_database, create_folder
from .store import StoreError
from .transaction import transaction

log = logging.getLogger("openred.storage")

# Above this the log is copied into the database, between two commits, of which the next one waits for that.
# Measured with changes all over the file: 20 ms at 2 MiB, 60 ms at 8 MiB, and no fewer commits a second. On a
# connection of its own, beside the commits, it gains nothing: their fsyncs wait for its writes all the same.
WAL_BYTES_DUE = 2 * 1024 * 1024
# A commit writes the page of the vitals, and a little of the tree above the rows.
PAGES_PER_COMMIT = 3

# Read back as the bytes that were given, not as text.
_READ_AS = {"profile": "CAST(node.profile AS BLOB)"}
_READ_LATEST_AS = _READ_AS | {
    name: f"coalesce(latest.{name}, node.{name})" for name in SignOfLife._fields[1:]
}
# After `Journal.catch_up`, where that left something in `latest`.
SELECT_RECORDS = f"""
SELECT {", ".join(_READ_LATEST_AS.get(name, f"node.{name}") for name in Record._fields)}
FROM node LEFT JOIN latest ON latest.slot = node.slot AND {HOLDS}
WHERE node.slot >= ? ORDER BY node.slot LIMIT ?
"""
# And where it did not: a fifth faster.
SELECT_FOLDED_RECORDS = f"""
SELECT {", ".join(_READ_AS.get(name, name) for name in Record._fields)}
FROM node WHERE slot >= ? ORDER BY slot LIMIT ?
"""
SELECT_TOMBSTONES = f"SELECT {', '.join(Tombstone._fields)} FROM tombstone ORDER BY died_s, id_hash"
SELECT_VITALS = f"SELECT {', '.join(Vitals._fields)} FROM vitals"
REPLACE_VITALS = (
    f"REPLACE INTO vitals (only_row, {', '.join(Vitals._fields)}, commit_number) VALUES (1, ?, ?, ?, ?)"
)

# The journal may hold a number beyond that of the vitals, which no commit could be given any more.
SELECT_COMMIT_NUMBER = """
SELECT max(
    coalesce((SELECT max(commit_number) FROM vitals), 0),
    coalesce((SELECT max(commit_number) FROM journal), 0)
)
"""
# A number that no count of commits reaches.
COMMIT_NUMBER_MAX = 1 << 62


class _Session(NamedTuple):
    """What ends with a connection."""

    connection: sqlite3.Connection
    journal: Journal


class SqliteStore:
    """Keeps the directory in the SQLite database at `path`. Implements `Store`.

    After an error of the disk the connection is poisoned: what it believes to have written may be known to
    the system's memory alone, and asking again would only hide that. It is closed, and whatever is asked
    next begins with a new one, which tells by the number of the last commit what the file really holds.
    The lock is held all the while.
    """

    durable = True

    def __init__(self, path: Path) -> None:
        # The lock and the log belong to the file itself, by whatever link it is reached.
        self._path = Path(os.path.realpath(path))
        self._lock = FileLock(self._path)
        self._session: _Session | None = None
        self._poisoned = False
        # Of the last commit that the file is known to hold.
        self._commit_number = 0
        self._wal_pages = 0
        self._checking: Checking | None = None
        self._left_alone: frozenset[int] = frozenset()

    @property
    def location(self) -> str:
        """The path of the database file."""
        return str(self._path)

    @property
    def tidy_due(self) -> bool:
        """Whether the log has grown enough for a checkpoint, or the journal for a fold."""
        session = self._session
        return session is not None and (self._checkpoint_due or session.journal.fold_due)

    def open(self, *, check_beside: bool = False) -> None:
        """Create the database where there is none, lock it against a second server, and check it.

        `check_beside` begins the check and lets `finish_check` wait for it. Raises `StoreError`: in use, not
        ours, from a newer version, damaged, not writable, no room.
        """
        if self._lock.held:
            return
        with self._telling("open"):
            create_folder(self._path.parent)
            self._lock.acquire()
            try:
                self._prepare_file()
                self._begin(connect(self._path, check=not check_beside))
                if check_beside:
                    self._checking = Checking(self._path)
            except BaseException:
                self._lock.release()
                raise

    def finish_check(self) -> None:
        """Wait for the check that `open` began. Raises `DamageError`, or `StoreError` where it failed."""
        checking, self._checking = self._checking, None
        if checking is not None:
            with self._telling("check"):
                checking.finish()

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

    def _begin(self, connection: sqlite3.Connection) -> _Session:
        """Go on with a new connection."""
        try:
            (self._commit_number,) = connection.execute(SELECT_COMMIT_NUMBER).fetchone()
            if self._commit_number > COMMIT_NUMBER_MAX:
                raise Damage(f"its last commit has the number {self._commit_number}")
            session = _Session(connection, Journal(connection, self._left_alone))
        except BaseException:
            connection.close()
            raise
        self._session, self._poisoned, self._wal_pages = session, False, 0
        return session

    def _reopen(self) -> _Session:
        """Begin anew after an error of the disk. Raises `StoreError` where the file is not what it was."""
        self._end()
        if not self._path.is_file():
            raise StoreError(f"{self._path} is gone; put it back, or restart this server to begin with none")
        connection = connect(self._path)
        try:
            # No commit may come to stand in the log behind one that has perhaps not reached the disk.
            if not truncate_log(connection):
                raise StoreError(f"cannot reopen {self._path}: {ADVICE[sqlite3.SQLITE_BUSY]}")
            (found,) = connection.execute(SELECT_COMMIT_NUMBER).fetchone()
            # The commit that failed may be there nevertheless; to save it again changes nothing.
            if found not in (self._commit_number, self._commit_number + 1):
                raise StoreError(
                    f"{self._path} holds {found} commits where {self._commit_number} were made: somebody has "
                    "changed it; put the right file back, or restart this server to go on with this one"
                )
        except BaseException:
            connection.close()
            raise
        log.warning(
            "reopened %s after an error; the commit under way is %s",
            self._path,
            "in it" if found > self._commit_number else "not in it",
        )
        return self._begin(connection)

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(sqlite3.Error):
                session.connection.close()

    def load_vitals(self) -> Vitals | None:
        """What the last batch said of the directory itself; None in a new store."""
        with self._telling("read"):
            row = self._connection.execute(SELECT_VITALS).fetchone()
        return None if row is None else Vitals._make(row)

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        """All records in the order of their slots, in lists of at most `rows_max`.

        Each list is a query of its own, so that nothing stays open in between.
        """
        # The columns stand in the order of the fields; `Record._make` would take six times as long.
        for rows in self._load_rows(rows_max, _text):
            yield list(map(tuple.__new__, repeat(Record), rows))

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        """The same by columns. See `Store.load_columns`."""
        for rows in self._load_rows(rows_max, bytes):
            yield RecordColumns._make(zip(*rows, strict=True))

    def _load_rows(self, rows_max: int, text: Callable[[bytes], Any]) -> Iterator[list[tuple[Any, ...]]]:
        """Rows of records, `text` being what makes their text of bytes, the profile aside."""
        first_slot = INTEGER_MIN
        while first_slot <= INTEGER_MAX:
            with self._telling("read"):
                connection, journal = self._usable
                journal.catch_up()
                select = SELECT_RECORDS if journal.latest_any else SELECT_FOLDED_RECORDS
                connection.text_factory = text
                try:
                    rows = connection.execute(select, (first_slot, rows_max)).fetchall()
                finally:
                    connection.text_factory = str
            if not rows:
                return
            first_slot = rows[-1][0] + 1
            yield rows

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        """All tombstones, oldest first, in lists of at most `rows_max`."""
        with self._telling("read"):
            cursor = self._connection.execute(SELECT_TOMBSTONES)
            while rows := cursor.fetchmany(rows_max):
                yield list(map(Tombstone._make, rows))

    def leave_alone(self, slots: Iterable[int]) -> None:
        """Apply no sign of life to the rows of `slots`."""
        self._left_alone = frozenset(slots)
        if self._left_alone:
            with self._telling("write"):
                self._usable.journal.leave_alone(self._left_alone)

    def load_secret(self, name: str) -> bytes | None:
        """The secret kept under `name`; None where there is none."""
        with self._telling("read"):
            row = self._connection.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def save_secret(self, name: str, value: bytes) -> None:
        """Keep a secret under `name`, durably before this returns."""
        with self._telling("write"), transaction(self._connection):
            self._connection.execute("REPLACE INTO secret (name, value) VALUES (?, ?)", (name, value))
        # The former value as well, whose pages are wiped.
        self._wal_pages += PAGES_PER_COMMIT + 2 * len(value) // PAGE_BYTES

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, as a whole or not at all. See `Store.commit`."""
        statements = encode(batch)
        with self._telling("write"):
            connection, journal = self._usable
            number = self._commit_number + 1
            try:
                with transaction(connection):
                    for statement in statements:
                        connection.execute(statement.sql, (number, *statement.values))
                    connection.execute(REPLACE_VITALS, (*batch.vitals, number))
            except sqlite3.IntegrityError:
                refuse_rows(batch)
                raise
        self._commit_number = number
        self._wal_pages += _pages_written(batch, sum(each.bytes_given for each in statements))
        journal.committed(len(batch.signs_of_life), batch.vitals.attended_s)

    @property
    def _checkpoint_due(self) -> bool:
        return self._wal_pages * PAGE_BYTES > WAL_BYTES_DUE

    def tidy(self) -> None:
        """Copy the log into the database, as far as no reader needs it, or fold a little of the journal."""
        with self._telling("write"):
            connection, journal = self._usable
            if journal.fold_due and not self._checkpoint_due:
                self._wal_pages += PAGES_PER_COMMIT + journal.fold_some()
            else:
                self._wal_pages = 0
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Fold the journal, copy the log into the database, and release the file.

        Closing twice is harmless. Where it fails the file is released all the same, and nothing is lost.
        """
        if not self._lock.held:
            return
        try:
            with self._telling("close"):
                connection, journal = self._usable
                journal.fold_all()
                truncate_log(connection)
        finally:
            self.release()

    def release(self) -> None:
        """Release the file as it is: nothing is folded through what may be damaged. Raises nothing."""
        with suppress(StoreError):
            # It still reads the file, which may be moved once it is released.
            self.finish_check()
        self._end()
        self._lock.release()

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._usable.connection

    @property
    def _usable(self) -> _Session:
        """The connection with what belongs to it, a new one if need be."""
        if not self._lock.held:
            raise StoreError(f"{self._path} is not open")
        if self._session is None or self._poisoned:
            return self._reopen()
        return self._session

    @contextmanager
    def _telling(self, doing: str) -> Iterator[None]:
        """Tells the operator of errors, and remembers those after which the connection cannot be used."""
        try:
            with telling(doing, self._path):
                yield
        except StoreError as error:
            self._poisoned |= poisons(error.__cause__)
            raise


def _text(stored: bytes) -> str:
    """Text as it is stored; bytes that are no UTF-8 become lone surrogates, which no text has."""
    return stored.decode("utf-8", "surrogateescape")


def _pages_written(batch: Batch, bytes_given: int) -> int:
    """About how many pages a commit has added to the log, which cannot be asked without a checkpoint.

    The size of the log's file tells nothing, because it is written over and never cut.
    """
    slots = chain((row.slot for row in batch.records), batch.freed_slots)
    leaves = {slot // RECORDS_PER_PAGE for slot in slots}
    scattered = len(batch.tombstones) + len(batch.lifted_id_hashes)
    return PAGES_PER_COMMIT + scattered + max(len(leaves), bytes_given // PAGE_BYTES)

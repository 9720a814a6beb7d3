"""The embedded store: one SQLite file, written by one thread.

The connection may move between threads (it is opened and loaded before the writer thread takes over), but
serves one at a time: `Store` requires that of its callers, and SQLite needs no more than that.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

from ...directory.state.changes import Batch, Vitals
from ...directory.state.columns import RecordColumns
from ...directory.state.kept import VALUE_BYTES_MAX
from ...directory.state.node import Record, Tombstone
from ...directory.state.pages import PAGE_SLOTS
from ..private_files import create_folder
from ..refusing import INTEGER_MAX, INTEGER_MIN, refuse_rows
from ..seen import lay_over, pages_of, spared
from ..store import StoreError
from .connecting import Checking, connect, last_commit_number, transaction, truncate_log
from .faults import ADVICE, poisons, reported
from .lock import FileLock
from .open_files import Companions, FileLength, LogSize
from .rescuing import Rescue
from .rows import PAGES_PER_COMMIT, encode, pages_written, text_of
from .schema import PAGE_BYTES, prepare_file
from .wiping import Wiper

log = logging.getLogger("openred.storage")

# Above this the log is copied into the database between two commits; the next one waits. A larger log makes
# it wait longer, and a connection of its own gains nothing: the fsyncs of commits wait for its writes, too.
WAL_BYTES_DUE = 2 * 1024 * 1024

# Kept values that are read at once.
KEPT_ROWS = 64

SELECT_TOMBSTONES = f"SELECT {', '.join(Tombstone._fields)} FROM tombstone ORDER BY died_s, id_hash"
SELECT_REVOCATIONS = "SELECT CAST(token_id AS BLOB), expires_at FROM revocation"
REPLACE_REVOCATION = "REPLACE INTO revocation (token_id, expires_at) VALUES (?, ?)"
DELETE_REVOCATION = "DELETE FROM revocation WHERE token_id = ?"
REPLACE_SECRET = "REPLACE INTO secret (name, value) VALUES (?, ?)"
# Read back as the bytes that were given, not as text.
_READ_AS = {"profile": "CAST(profile AS BLOB)"}
SELECT_RECORDS = (
    f"SELECT {', '.join(_READ_AS.get(name, name) for name in Record._fields)}, "
    # A damaged row may have anything there.
    "coalesce(CAST(commit_number AS INTEGER), 0) "
    "FROM node WHERE slot >= ? ORDER BY slot LIMIT ?"
)
# A value that is too long becomes None.
SELECT_KEPT = (
    "SELECT CAST(name AS BLOB), CASE WHEN length(value) <= ? THEN CAST(value AS BLOB) END, length(value) "
    "FROM kept WHERE name IS NOT NULL ORDER BY name"
)
# A page, if it holds for the record in a slot.
SELECT_PAGE_OF = """
SELECT signs FROM seen JOIN node ON node.slot = ? AND node.commit_number <= seen.commit_number
WHERE page = ?
"""
SELECT_PAGES = "SELECT page, commit_number, signs FROM seen WHERE page BETWEEN ? AND ? ORDER BY page"
SELECT_VITALS = f"SELECT {', '.join(Vitals._fields)} FROM vitals"
REPLACE_VITALS = (
    f"REPLACE INTO vitals (only_row, {', '.join(Vitals._fields)}, commit_number) VALUES (1, ?, ?, ?, ?)"
)


class _Session(NamedTuple):
    """A connection and the objects that end with it."""

    connection: sqlite3.Connection
    companions: Companions
    wiper: Wiper


class SqliteStore:
    """The `Store` in the SQLite database at `path`.

    After an error of the disk the connection is poisoned: pages that it believes to have written may be in
    the system's memory alone, and a second attempt would only hide that. It is closed, and the next call
    opens a new one, which finds by the number of the last commit what the file really holds. The lock is held
    all the while.
    """

    durable = True

    def __init__(self, path: Path) -> None:
        # Lock and log belong to the file itself, through whatever link it is reached.
        self._path = Path(os.path.realpath(path))
        self._lock = FileLock(self._path, path)
        self._session: _Session | None = None
        self._poisoned = False
        # The number of the last commit that the file is known to hold.
        self._commit_number = 0
        self._wal_pages = 0
        self._log_size = LogSize(self._path)
        self._checking: Checking | None = None
        self._left_alone: frozenset[int] = frozenset()
        # Pages that still hold signs of life of slots which were freed since.
        self._stale_pages: set[int] = set()
        self._rescue = Rescue(self._path)
        self._length = FileLength(self._path)

    @property
    def location(self) -> str:
        return str(self._path)

    @property
    def tidy_due(self) -> bool:
        """True if the log has grown enough for a checkpoint, or has to be wiped."""
        session = self._session
        return session is not None and (self._checkpoint_due or session.wiper.due)

    @property
    def log_bytes(self) -> int:
        return self._log_size.bytes

    def find_loss(self) -> str | None:
        return self._lock.find_loss()

    def open(self, *, check_beside: bool = False) -> None:
        """Create the database where there is none, lock it against a second server, and check it.

        `check_beside` begins the check and lets `finish_check` wait for it. Raises `StoreError`: in use, not
        ours, from a newer version, damaged, not writable, no room.
        """
        if self._lock.held:
            return
        with self._reported("open"):
            create_folder(self._path.parent)
            self._lock.acquire()
            try:
                prepare_file(self._path)
                connection = connect(self._path, check=not check_beside)
                # The file exists now, and an error that keeps it from being opened was raised above.
                self._lock.acquire_database()
                self._begin(connection)
                if check_beside:
                    self._checking = Checking(self._path)
            except BaseException:
                self._lock.release()
                raise

    def finish_check(self) -> None:
        checking, self._checking = self._checking, None
        if checking is not None:
            with self._reported("check"):
                checking.finish()

    def _begin(self, connection: sqlite3.Connection) -> _Session:
        try:
            self._commit_number = last_commit_number(connection)
            session = _Session(connection, Companions(self._path), Wiper(connection))
        except BaseException:
            connection.close()
            raise
        self._session, self._poisoned, self._wal_pages = session, False, 0
        return session

    def _reopen(self) -> _Session:
        """Begin anew after an error of the disk. Raises `StoreError` where the file has changed."""
        self._end()
        connection = connect(self._path)
        try:
            # No commit may follow in the log one that has perhaps not reached the disk.
            if not truncate_log(connection):
                raise StoreError(f"cannot reopen {self._path}: {ADVICE[sqlite3.SQLITE_BUSY]}")
            found = last_commit_number(connection)
            # The failed commit may be there nevertheless; to save it again changes nothing.
            if found not in (self._commit_number, self._commit_number + 1):
                raise StoreError(self._altered(found))
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
        with self._reported("read"):
            row = self._connection.execute(SELECT_VITALS).fetchone()
        return None if row is None else Vitals._make(row)

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        """Yield all records by slots, in lists of at most `rows_max`; no query stays open in between."""
        # The columns stand in the order of the fields; `Record._make` would take much longer.
        for columns in self._load(rows_max, text_of):
            yield list(map(tuple.__new__, repeat(Record), zip(*columns, strict=True)))

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        return map(RecordColumns._make, self._load(rows_max, bytes))

    def _load(self, rows_max: int, text: Callable[[bytes], Any]) -> Iterator[list[Sequence[Any]]]:
        """Yield records by columns; `text` converts their text from bytes, except for the profile."""
        first_slot = INTEGER_MIN
        while first_slot <= INTEGER_MAX:
            with self._reported("read"):
                connection = self._connection
                connection.text_factory = text
                try:
                    rows = connection.execute(SELECT_RECORDS, (first_slot, rows_max)).fetchall()
                finally:
                    connection.text_factory = str
                if not rows:
                    return
                columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
                pages = connection.execute(SELECT_PAGES, pages_of(columns[0])).fetchall()
                lay_over(columns, columns.pop(), pages, self._left_alone)
            first_slot = rows[-1][0] + 1
            yield columns

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        with self._reported("read"):
            cursor = self._connection.execute(SELECT_TOMBSTONES)
            while rows := cursor.fetchmany(rows_max):
                yield list(map(Tombstone._make, rows))

    def load_kept(self) -> Iterator[tuple[str, bytes]]:
        """Yield what is kept, by name; log and leave out what cannot be read."""
        with self._reported("read"):
            cursor = self._connection.execute(SELECT_KEPT, (VALUE_BYTES_MAX,))
            while rows := cursor.fetchmany(KEPT_ROWS):
                for name, value, length in rows:
                    try:
                        if value is None:
                            raise ValueError(f"its value has {length} bytes")
                        read = name.decode()
                    except ValueError as error:
                        log.warning("left out %r of what %s keeps: %s", name, self._path, error)
                        continue
                    yield read, value

    def leave_alone(self, slots: Iterable[int]) -> None:
        self._left_alone = frozenset(slots)

    def load_secret(self, name: str) -> bytes | None:
        with self._reported("read"):
            row = self._connection.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def save_secret(self, name: str, value: bytes) -> None:
        # The pages of the former value are wiped as well.
        self._write((REPLACE_SECRET, [(name, value)]), pages=2 * len(value) // PAGE_BYTES)

    def load_revocations(self) -> list[tuple[bytes, float]]:
        with self._reported("read"):
            return self._connection.execute(SELECT_REVOCATIONS).fetchall()

    def save_revocations(self, changes: Mapping[str, float | None]) -> None:
        kept = [(token_id, expires_at) for token_id, expires_at in changes.items() if expires_at is not None]
        gone = [(token_id,) for token_id, expires_at in changes.items() if expires_at is None]
        # Each on a page of its own, as ids are random.
        self._write((REPLACE_REVOCATION, kept), (DELETE_REVOCATION, gone), pages=len(changes))

    def _write(self, *statements: tuple[str, Sequence[tuple[Any, ...]]], pages: int) -> None:
        """Run each statement for its rows in one transaction, which writes about so many pages."""
        with self._reported("write"):
            with self._transaction() as session:
                for sql, rows in statements:
                    session.connection.executemany(sql, rows)
            self._check_place()
        self._wal_pages += PAGES_PER_COMMIT + pages

    def commit(self, batch: Batch) -> None:
        with self._reported("write"):
            if batch.pages and self._left_alone:
                pages = [spared(run, self._left_alone, self._stored_page) for run in batch.pages]
                batch = batch._replace(pages=pages)
            try:
                with self._transaction() as session:
                    number = self._commit_number + 1
                    statements = encode(batch, number)
                    for statement in statements:
                        session.connection.execute(statement.sql, statement.values)
                    session.connection.execute(REPLACE_VITALS, (*batch.vitals, number))
            except sqlite3.IntegrityError:
                refuse_rows(batch)
                raise
            self._commit_number = number
            self._wal_pages += pages_written(batch, sum(each.bytes_given for each in statements))
            renewed = self._renew_pages(batch)
            if renewed or batch.freed_slots or batch.tombstones:
                session.wiper.want()
            # A commit into a file that is no longer ours must not be acknowledged.
            self._check_place()
            self._log_size.update(session.companions.measure_log())

    def _stored_page(self, slot: int) -> bytes | None:
        row = self._connection.execute(SELECT_PAGE_OF, (slot, slot // PAGE_SLOTS)).fetchone()
        return None if row is None else row[0]

    def _renew_pages(self, batch: Batch) -> bool:
        """Note which pages are stale after `batch`. Return whether it has renewed a stale one."""
        # A record may be in the slot of a node that died since the last batch.
        filled = (record.slot for record in batch.records) if batch.tombstones else ()
        self._stale_pages.update(slot // PAGE_SLOTS for slot in chain(batch.freed_slots, filled))
        written = set(chain.from_iterable(run.numbers for run in batch.pages))
        renewed = not self._stale_pages.isdisjoint(written)
        self._stale_pages -= written
        return renewed

    @contextmanager
    def _transaction(self) -> Iterator[_Session]:
        """Run a transaction on a file that still ends with our last commit. Raises `StoreError`."""
        session = self._usable
        self._log_size.refuse_more()
        with transaction(session.connection):
            self._check_number(session.connection)
            yield session

    def look(self, now_s: float) -> None:
        with self._reported("use"):
            session = self._usable
            self._check_number(session.connection)
            session.wiper.look(now_s)
            if self._log_size.is_long:
                truncate_log(session.connection, wait=False)
            self._log_size.update(session.companions.measure_log())

    @property
    def _checkpoint_due(self) -> bool:
        return self._wal_pages * PAGE_BYTES > WAL_BYTES_DUE

    def tidy(self) -> None:
        """Copy the log into the database, as far as no reader needs it, or wipe a little."""
        with self._reported("write"):
            session = self._usable
            if self._checkpoint_due:
                self._wal_pages = 0
                session.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                return
            self._check_number(session.connection)
            session.wiper.step()

    def close(self) -> None:
        """Copy the log into the database, and release the file.

        Closing twice is harmless. If it fails, the file is released all the same, and nothing is lost.
        """
        if not self._lock.held:
            return
        try:
            with self._reported("close"):
                truncate_log(self._connection)
        finally:
            self.release()

    def release(self) -> None:
        """Release the file as it is: nothing is written to a file that may be damaged. Raises nothing."""
        with suppress(StoreError):
            # The check still reads the file, which may be moved once it is released.
            self.finish_check()
        self._end()
        self._lock.release()

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._usable.connection

    @property
    def _usable(self) -> _Session:
        """The connection with the objects that belong to it, a new one if need be."""
        if not self._lock.held:
            raise StoreError(f"{self._path} is not open")
        self._check_place()
        if self._session is None or self._poisoned:
            return self._reopen()
        return self._session

    def _check_place(self) -> None:
        """Raise `StoreError` where a name leads to another file than the open one, or to none."""
        session = None if self._poisoned else self._session
        loss = self._lock.find_loss()
        if loss is not None:
            connection = None if session is None else session.connection
            raise StoreError(f"{self._path} {loss}; {self._rescue.make(self._lock, connection)}")
        if self._lock.renew():
            log.warning("%s.lock was removed or replaced, and has been made again", self._path)
        lost = session.companions.lost() if session is not None else None
        if session is not None and lost is not None:
            # The content of the log must not be lost with it. The next call opens a new connection.
            self._poisoned = truncate_log(session.connection, wait=False)
            raise StoreError(
                f"{lost} was removed or replaced while in use; leave alone what lies beside {self._path}"
            )
        if session is not None and self._lock.database_descriptor is not None:
            self._length.check(self._lock.database_descriptor, session.connection)

    def _check_number(self, connection: sqlite3.Connection) -> None:
        """Raise `StoreError` where another program has committed to the file."""
        found = last_commit_number(connection)
        if found != self._commit_number:
            raise StoreError(self._altered(found))

    def _altered(self, found: int) -> str:
        where = f"{self._path} holds {found} commits where {self._commit_number} were made"
        right = "put the right file back, or restart this server to go on with this one"
        return f"{where}: another program has changed it; {right}"

    @contextmanager
    def _reported(self, doing: str) -> Iterator[None]:
        """Raise `StoreError` for errors, and note those after which the connection cannot be used."""
        try:
            with reported(doing, self._path):
                yield
        except StoreError as error:
            self._poisoned |= poisons(error.__cause__)
            raise

"""A connection to an existing database: checked, migrated to our schema, and set up; and one transaction."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..store import Damage, StoreError
from .migrations import migrate_from
from .schema import SCHEMA_VERSION, check_marks

log = logging.getLogger("openred.storage")

# As many pages as a batch of 1,000 rows can change, with those that lead to them: a transaction that outgrows
# the cache is written twice, and a larger cache is memory that serves nobody.
CACHE_KIB = 6 * 1024
# How long another program that writes into the file is waited for.
BUSY_TIMEOUT_S = 5.0
# Four times the usual size of the log: a log that a reader let grow is cut to this when it is begun anew.
LOG_BYTES_KEPT = 8 * 1024 * 1024

SETTINGS = f"""
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = {LOG_BYTES_KEPT};
PRAGMA cache_size = -{CACHE_KIB};
PRAGMA mmap_size = 0;
PRAGMA temp_store = MEMORY;
PRAGMA trusted_schema = OFF;
PRAGMA secure_delete = ON;
"""


def connect(path: Path, *, check: bool = True) -> sqlite3.Connection:
    """Return a connection to the database at the absolute `path`, for any thread, one at a time.

    With `check` false the caller must have a file of our version checked (`Checking`). Raises errors of
    SQLite as they are, `Damage` where the file is damaged all the same, and `StoreError` where it is not for
    us. Never creates a file.
    """
    connection = _connect(path)
    try:
        version = check_marks(connection, path)
        connection.executescript(SETTINGS)
        (journal_mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if journal_mode != "wal":
            raise StoreError(f"{path} lies where no write-ahead log can be; choose a local disk")
        # A file that can only be read raises no error before the first change.
        connection.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version = {version}; ROLLBACK;")
        if check or version != SCHEMA_VERSION:
            _quick_check(connection)
        migrate(connection, version)
    except BaseException:
        connection.close()
        raise
    return connection


class Checking:
    """A check of the database at `path` that runs in a thread while the database is loaded.

    It has a connection of its own, and SQLite checks in one call, without the interpreter's lock.
    """

    def __init__(self, path: Path) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="check")
        self._future = self._executor.submit(_check_file, path)
        self._executor.shutdown(wait=False)

    def finish(self) -> None:
        """Wait for the check. Raises `Damage`, and errors of SQLite as they are."""
        self._future.result()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit the changes of the block, or none of them if it or the commit raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some errors have rolled back already; none may hide the first one.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a database of schema `version` to ours, in one transaction for each version."""
    for former in range(version, SCHEMA_VERSION):
        with transaction(connection):
            migrate_from(connection, former)
        log.info("the database was brought from schema version %d to %d", former, former + 1)


# No count of commits comes so far.
COMMIT_NUMBER_MAX = 1 << 62


def last_commit_number(connection: sqlite3.Connection) -> int:
    """Return the number of the last commit, 0 where there is none. Raises `Damage` where none can follow."""
    number: int
    (number,) = connection.execute("SELECT coalesce(max(commit_number), 0) FROM vitals").fetchone()
    if number > COMMIT_NUMBER_MAX:
        raise Damage(f"its last commit has the number {number}")
    return number


def truncate_log(connection: sqlite3.Connection, *, wait: bool = True) -> bool:
    """Copy the whole log into the database and empty it. Return False where a reader prevented that.

    With `wait` true, a reader is waited for up to `BUSY_TIMEOUT_S`.
    """
    if not wait:
        connection.execute("PRAGMA busy_timeout = 0").fetchone()
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        if not wait:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1_000:.0f}").fetchone()
    return not busy


def _check_file(path: Path) -> None:
    with closing(_connect(path)) as connection:
        _quick_check(connection)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _quick_check(connection: sqlite3.Connection) -> None:
    """Raise `Damage` where rows could be missing without any error."""
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise Damage(" ".join(finding.split()))

"""A connection to a database that is there already: checked, brought to our schema, and set up."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from ..store import StoreError
from .faults import Damage
from .migrations import migrate
from .schema import SCHEMA_VERSION, check_marks

# As many pages as a batch of 5,000 rows can change; a transaction that outgrows the cache is written twice.
CACHE_KIB = 32 * 1024
# Another program may look into the file; one that writes into it is waited for this long.
BUSY_TIMEOUT_S = 5.0
# A log that a reader let grow is cut to this once it is begun anew: four times its usual size.
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
    """A connection to the database at the absolute `path`, which any thread may use, one at a time.

    `check` False leaves it to the caller to have a file of our version checked (`Checking`). Raises errors of
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
        # A file that can only be read complains of nothing but a change.
        connection.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version = {version}; ROLLBACK;")
        if check or version != SCHEMA_VERSION:
            _quick_check(connection)
        migrate(connection, version)
    except BaseException:
        connection.close()
        raise
    return connection


class Checking:
    """Checks the database at `path` in a thread, on a connection of its own, while it is loaded already.

    SQLite does that in one call, without the interpreter's lock: with a million nodes loading takes 0.4 s
    less than if it came after.
    """

    def __init__(self, path: Path) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="check")
        self._future = self._executor.submit(_check_file, path)
        self._executor.shutdown(wait=False)

    def finish(self) -> None:
        """Wait for it. Raises `Damage`, and errors of SQLite as they are."""
        self._future.result()


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
    """Finds damage that would let rows vanish silently; about half a second for a million of them."""
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise Damage(" ".join(finding.split()))


def truncate_log(connection: sqlite3.Connection, *, wait: bool = True) -> bool:
    """Copy the whole log into the database and empty it; False where a reader of it kept us from that.

    `wait` says that a reader is waited for, for `BUSY_TIMEOUT_S`.
    """
    if not wait:
        connection.execute("PRAGMA busy_timeout = 0").fetchone()
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        if not wait:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1_000:.0f}").fetchone()
    return not busy

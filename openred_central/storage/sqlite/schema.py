"""The file format of the embedded database: tables, marks, and how a new file is made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ..private_files import written_whole
from ..store import StoreError

# "ORed" in ASCII, in the header of every file of ours (SQLite file format §1.3.16).
APPLICATION_ID = 0x4F526564
SCHEMA_VERSION = 7

PAGE_BYTES = 4_096
# Records of usual size; larger ones are counted by their bytes.
RECORDS_PER_PAGE = 16

# Rows of `node` are addressed by slot, and no column that changes has an index: a change then touches one
# page. The columns of `node` and `tombstone` are the fields of `Record` and `Tombstone`. Commits are
# numbered: a record has the number of the commit that wrote it, the vitals that of the last one. A row of
# `seen` holds the latest signs of life of a page of slots; the record has those of when it was written.
#
# One transaction without a journal and without syncs: nobody looks at a file that was not finished.
SCHEMA = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
BEGIN;
CREATE TABLE node (
    slot INTEGER PRIMARY KEY,
    node_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    registered_at REAL NOT NULL,
    last_seen_at REAL NOT NULL,
    last_seen_s REAL NOT NULL,
    since_s REAL NOT NULL,
    usual_gap_s REAL NOT NULL,
    revision INTEGER NOT NULL,
    services TEXT NOT NULL,
    region TEXT NOT NULL,
    profile TEXT NOT NULL,
    away_from_s REAL NOT NULL,
    away_until_s REAL NOT NULL,
    history TEXT NOT NULL,
    commit_number INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    next_key TEXT NOT NULL DEFAULT '',
    longest INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE tombstone (
    id_hash TEXT PRIMARY KEY,
    key_fingerprint TEXT NOT NULL,
    died_at REAL NOT NULL,
    died_s REAL NOT NULL,
    reason TEXT NOT NULL,
    revision INTEGER NOT NULL,
    flags INTEGER NOT NULL DEFAULT 0,
    next_key TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE TABLE vitals (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    attended_s REAL NOT NULL,
    revision INTEGER NOT NULL,
    transitions_per_h REAL NOT NULL,
    commit_number INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE seen (page INTEGER PRIMARY KEY, commit_number INTEGER NOT NULL, signs BLOB NOT NULL) STRICT;
CREATE TABLE kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE revocation (token_id TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
PRAGMA journal_mode = WAL;
"""

# Files that SQLite may leave beside a database that was not closed.
COMPANIONS = ("-wal", "-shm", "-journal")


def companion(path: Path, ending: str) -> Path:
    """Return the file beside the database at `path` whose name ends in `ending`."""
    return path.with_name(path.name + ending)


def log_left(path: Path) -> bool:
    """Return whether a log that may hold records lies beside the database at `path`, or where that was.

    A reader of a closed database leaves a log without content.
    """
    log = companion(path, "-wal")
    return log.exists() and log.stat().st_size > 0


def create_database(path: Path) -> None:
    """Create an empty private database at `path`.

    It gets its name when it is complete: a database file without content always means damage, never a first
    start that was interrupted.
    """
    with (
        written_whole(path, owner_of=path.parent) as new,
        closing(sqlite3.connect(new, isolation_level=None)) as connection,
    ):
        connection.executescript(SCHEMA)


def prepare_file(path: Path) -> None:
    """Create the database at `path` where there is none; make an existing one private.

    Raises `StoreError` where it is no file, is empty, or has left its log alone.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        if log_left(path):
            raise StoreError(
                f"{path} is missing, but its log {path.name}-wal is there and may hold "
                "records; put the database back beside it, or move the log away to start empty"
            ) from None
        create_database(path)
        return
    if not path.is_file():
        raise StoreError(f"{path} is not a file; choose the path of a file")
    if status.st_size == 0:
        raise StoreError(
            f"{path} is empty, which no database of ours ever is; "
            "restore it from a backup, or remove it to start empty"
        )
    # It holds secrets. SQLite gives the files beside it the same mode.
    if status.st_mode & 0o077:
        path.chmod(status.st_mode & 0o700)


def check_marks(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of a file, which may be ours or an earlier one.

    Raises `StoreError` where the file is of another program or of a version that we do not know.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise StoreError(
            f"{path} is a database of another program (application id 0x{application_id & 0xFFFFFFFF:08x}, "
            f"ours is 0x{APPLICATION_ID:08x}); choose another path"
        )
    version: int
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 1 <= version <= SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}, this server knows versions up to {SCHEMA_VERSION}; "
            "start the server that wrote it, or choose another path"
        )
    return version

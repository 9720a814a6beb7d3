"""A database as the first server wrote it. Its schema is kept here as it was, whatever ours becomes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.node import Record, Tombstone

SCHEMA = """
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
    history TEXT NOT NULL
) STRICT;
CREATE TABLE tombstone (
    id_hash TEXT PRIMARY KEY,
    key_fingerprint TEXT NOT NULL,
    died_at REAL NOT NULL,
    died_s REAL NOT NULL,
    reason TEXT NOT NULL,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE vitals (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    attended_s REAL NOT NULL,
    revision INTEGER NOT NULL,
    transitions_per_h REAL NOT NULL
) STRICT;
CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA application_id = 0x4F526564;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""


def write(
    path: Path, records: list[Record], tombstones: list[Tombstone], vitals: Vitals | None, secret: bytes
) -> None:
    """Make a database of version 1 that holds these, the secret under ``claim_key``."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        connection.execute("BEGIN")
        connection.executemany(
            f"INSERT INTO node VALUES ({', '.join('?' * 16)})",
            [row._replace(profile=row.profile.decode())[:16] for row in records],  # type: ignore[arg-type]
        )
        connection.executemany(
            f"INSERT INTO tombstone VALUES ({', '.join('?' * 6)})", [row[:6] for row in tombstones]
        )
        if vitals is not None:
            connection.execute("INSERT INTO vitals VALUES (1, ?, ?, ?)", vitals)
        connection.execute("INSERT INTO secret VALUES ('claim_key', ?)", (secret,))
        connection.execute("COMMIT")

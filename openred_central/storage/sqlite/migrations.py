"""The steps from each schema to the next one. They are history: a released step never changes."""

from __future__ import annotations

import sqlite3
import struct

from ...encoding import TOKEN_ID

# By the version that each step begins with.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    # Signs of life are written to a journal first; commit numbers order them and the records.
    1: (
        "ALTER TABLE node ADD COLUMN commit_number INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE vitals ADD COLUMN commit_number INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE journal (commit_number INTEGER PRIMARY KEY, signs BLOB NOT NULL) STRICT",
    ),
    # Nodes are bound to their keys and may change them.
    2: (
        "ALTER TABLE node ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE node ADD COLUMN next_key TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE tombstone ADD COLUMN flags INTEGER NOT NULL DEFAULT 0",
    ),
    # The commitment to a next key outlives its node.
    3: ("ALTER TABLE tombstone ADD COLUMN next_key TEXT NOT NULL DEFAULT ''",),
    # Each revocation is a row; before, all were one secret that every further one wrote anew.
    4: (
        "CREATE TABLE revocation (token_id TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT, WITHOUT ROWID",
    ),
}
# The parts of the former secret: the id of a token, and when it expires.
_REVOCATION = struct.Struct("<22sd")


def migrate_from(connection: sqlite3.Connection, version: int) -> None:
    """Bring a database of schema `version` to the next one, within the transaction of the caller."""
    for statement in MIGRATIONS[version]:
        connection.execute(statement)
    if version == 4:
        _move_revocations(connection)
    connection.execute(f"PRAGMA user_version = {version + 1}")


def _move_revocations(connection: sqlite3.Connection) -> None:
    """Turn the former secret into rows; the secret stays where a part of it cannot be read."""
    row = connection.execute("SELECT value FROM secret WHERE name = 'revocations'").fetchone()
    if row is None:
        return
    whole = len(row[0]) // _REVOCATION.size * _REVOCATION.size
    found = list(_REVOCATION.iter_unpack(row[0][:whole]))
    sound = [
        (token_id.decode("ascii"), expires_at)
        for token_id, expires_at in found
        # NaN is not equal to itself, and no row could hold it.
        if TOKEN_ID.fullmatch(token_id.decode("latin-1")) and expires_at == expires_at
    ]
    connection.executemany("REPLACE INTO revocation VALUES (?, ?)", sound)
    if len(sound) * _REVOCATION.size == len(row[0]):
        connection.execute("DELETE FROM secret WHERE name = 'revocations'")

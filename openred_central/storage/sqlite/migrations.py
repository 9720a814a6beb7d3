"""The steps from each schema to the next one. They are history: a released step never changes."""

from __future__ import annotations

import sqlite3
import struct

from ...encoding import TOKEN_ID
from ..store import Damage

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
    # Signs of life have pages of their own, in place of the journal.
    5: (
        (
            "CREATE TABLE seen "
            "(page INTEGER PRIMARY KEY, commit_number INTEGER NOT NULL, signs BLOB NOT NULL) STRICT"
        ),
    ),
    # Each node has its longest absence, and the directory keeps what it learned.
    6: (
        "ALTER TABLE node ADD COLUMN longest INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT",
    ),
}
# A sign of life in a row of the journal, behind a byte with the version 1: slot, last_seen_at, last_seen_s,
# usual_gap_s.
_SIGN = struct.Struct("<qddd")
_APPLY_SIGN = (
    "UPDATE node SET last_seen_at = ?, last_seen_s = ?, usual_gap_s = ? WHERE slot = ? AND commit_number <= ?"
)
# The parts of the former secret: the id of a token, and when it expires.
_REVOCATION = struct.Struct("<22sd")


def migrate_from(connection: sqlite3.Connection, version: int) -> None:
    """Bring a database of schema `version` to the next one, within the transaction of the caller."""
    for statement in MIGRATIONS[version]:
        connection.execute(statement)
    if version == 4:
        _move_revocations(connection)
    if version == 5:
        _apply_journal(connection)
    connection.execute(f"PRAGMA user_version = {version + 1}")


def _apply_journal(connection: sqlite3.Connection) -> None:
    """Write the signs of life of the journal into the records, the latest one last, and remove it.

    Raises `Damage` for a row that cannot be read.
    """
    for number, row in connection.execute("SELECT commit_number, signs FROM journal ORDER BY 1").fetchall():
        if row[:1] != b"\1" or len(row) % _SIGN.size != 1:
            raise Damage(f"row {number} of the journal is of format {row[:1].hex()} with {len(row)} bytes")
        signs = _SIGN.iter_unpack(row[1:])
        try:
            connection.executemany(
                _APPLY_SIGN, ((at, s, gap_s, slot, number) for slot, at, s, gap_s in signs)
            )
        except sqlite3.IntegrityError:
            raise Damage(f"row {number} of the journal has a time that is not a number") from None
    connection.execute(
        "UPDATE vitals SET commit_number = max(commit_number, (SELECT max(commit_number) FROM journal))"
        " WHERE EXISTS (SELECT 1 FROM journal)"
    )
    connection.execute("DROP TABLE journal")


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

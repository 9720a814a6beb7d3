"""From the schema of an earlier server to ours: one transaction for each version, so old or new, never half.

What stands here is history and stays as it is, whatever becomes of the schema: files of that time are
brought to ours through every version in between.
"""

from __future__ import annotations

import logging
import sqlite3

from .schema import SCHEMA_VERSION
from .transaction import transaction

log = logging.getLogger("openred.storage")

# By the version that they lead away from, to the next one.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    # Signs of life are written to a journal first; what is newer, they or the record, the numbers tell.
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
}


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a database of schema `version` to ours."""
    for former in range(version, SCHEMA_VERSION):
        with transaction(connection):
            for statement in MIGRATIONS[former]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {former + 1}")
        log.info("the database was brought from schema version %d to %d", former, former + 1)

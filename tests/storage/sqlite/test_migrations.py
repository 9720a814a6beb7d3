"""A file of an earlier server opens with everything in it, and never half way between two versions."""

from __future__ import annotations

import logging
import math
import signal
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.node import Record, Tombstone
from openred_central.storage.sqlite.connecting import migrate
from openred_central.storage.sqlite.migrations import MIGRATIONS
from openred_central.storage.sqlite.schema import SCHEMA_VERSION, create_database
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import DamageError
from tests.support.records import alter, batch, build_released, opened, pages_of, records_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of version 1."""
    return build_released(1, tmp_path / "openred.db")


def content(path: Path) -> list[object]:
    """All that a database of any version holds, without columns that came after version 1."""
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
            for table, columns in (
                ("node", ", ".join(Record._fields[:16])),
                ("tombstone", ", ".join(Tombstone._fields[:6])),
                ("vitals", ", ".join(Vitals._fields)),
                ("secret", "*"),
            )
        ]


def shape(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Tables and columns of a database, with types and defaults."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name, wr, strict FROM pragma_table_list ORDER BY name").fetchall()
        return {f"{row}": connection.execute(f"PRAGMA table_xinfo({row[0]})").fetchall() for row in tables}


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return found


def test_a_file_of_the_first_server_is_migrated_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert version(path) == 1
    before = content(path)
    with caplog.at_level(logging.INFO), opened(path):
        pass
    for former in range(1, SCHEMA_VERSION):
        told = f"the database was brought from schema version {former} to {former + 1}"
        assert told in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO), opened(path):
        pass
    assert caplog.text == ""
    assert version(path) == SCHEMA_VERSION
    assert content(path) == before


def test_a_migrated_file_takes_changes(path: Path) -> None:
    with opened(path) as store:
        former = records_of(store)
        heard = former[1]._replace(last_seen_at=7.0, last_seen_s=8.0, usual_gap_s=9.0)
        expected = [heard, *former[2:]]
        store.commit(batch(pages=pages_of(expected), freed_slots=[former[0].slot]))
        assert records_of(store) == expected
    with opened(path) as store:
        assert records_of(store) == expected


def test_an_empty_file_of_the_first_server_opens(path: Path) -> None:
    alter(path, *(f"DELETE FROM {table}" for table in ("node", "tombstone", "vitals")))
    with opened(path) as store:
        assert store.load_vitals() is None
        assert records_of(store) == []


def test_a_migrated_file_has_the_shape_of_a_new_one(path: Path, tmp_path: Path) -> None:
    with opened(path):
        pass
    create_database(tmp_path / "new.db")
    assert shape(path) == shape(tmp_path / "new.db")


def revoked(token_id: bytes, expires_at: float) -> bytes:
    """A revocation as it was in the secret that held all of them."""
    return token_id + struct.pack("<d", expires_at)


@pytest.mark.parametrize(
    ("secret", "rows", "left"),
    [
        (b"", [], False),
        (
            revoked(b"B" * 22, 2.5) + revoked(b"A" * 22, 1e9),
            [(b"A" * 22, 1e9), (b"B" * 22, 2.5)],
            False,
        ),
        (revoked(b"A" * 22, 1.0) + b"torn", [(b"A" * 22, 1.0)], True),
        (revoked(b"\xff" * 22, 1.0) + revoked(b"B" * 22, 2.0), [(b"B" * 22, 2.0)], True),
        (revoked(b"A" * 22, math.nan), [], True),
    ],
)
def test_revocations_become_rows_and_unreadable_ones_stay(
    path: Path, secret: bytes, rows: list[tuple[bytes, float]], left: bool
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO secret VALUES ('revocations', ?)", (secret,))
    with opened(path) as store:
        assert store.load_revocations() == rows
        assert store.load_secret("revocations") == (secret if left else None)


def test_there_is_a_way_from_every_earlier_version() -> None:
    assert list(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


def test_a_file_of_our_version_is_left_alone(tmp_path: Path) -> None:
    create_database(tmp_path / "new.db")
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as connection:
        changes: list[str] = []
        connection.set_trace_callback(changes.append)
        migrate(connection, SCHEMA_VERSION)
    assert changes == []


# Opens the store and is killed before the given statement after the first BEGIN of the migration.
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from openred_central.storage.sqlite import connecting
from openred_central.storage.sqlite.sqlite import SqliteStore

statements = int(sys.argv[2])

def migrate(connection, version, migrate=connecting.migrate):
    def count(statement):
        global statements
        if not statement.startswith("--"):
            statements -= 1
            if statements < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    connection.set_trace_callback(count)
    migrate(connection, version)
    connection.set_trace_callback(None)

connecting.migrate = migrate
SqliteStore(Path(sys.argv[1])).open()
print("opened", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    versions = []
    opened_at_last = False
    for statements in range(40):
        path = tmp_path / f"{statements}.db"
        old, before = shape(build_released(1, path)), content(path)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(statements)], capture_output=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        versions.append(version(path))
        assert (shape(path) == old) is (versions[-1] == 1), "never half way"
        with opened(path):
            pass
        assert content(path) == before
        if done.stdout:
            opened_at_last = True
            break
    assert opened_at_last
    assert versions == sorted(versions)
    assert [versions.count(reached) for reached in range(1, SCHEMA_VERSION)] == [6, 6, 4, 5, 7, 5], (
        "BEGIN, three changes or one or two, the version, COMMIT, and then the next one"
    )
    assert versions[-1] == SCHEMA_VERSION


def sign(slot: int, seen_s: float) -> bytes:
    return struct.pack("<qddd", slot, seen_s + 0.5, seen_s, 9.0)


def test_the_journal_of_a_killed_server_moves_into_the_records(tmp_path: Path) -> None:
    """The number of its commit says which sign of life is the latest, and whether it is of this record."""
    path = build_released(5, tmp_path / "openred.db")
    journal = [sign(0, 900.0) + sign(1, 1.0), sign(0, 800.0), sign(2, 7.0), sign(99, 1.0)]
    rows = [f"({number}, x'{(bytes([1]) + row).hex()}')" for number, row in enumerate(journal, 100)]
    alter(
        path,
        "DELETE FROM journal",
        "UPDATE node SET commit_number = 90",
        "UPDATE node SET commit_number = 110 WHERE slot = 2",
        f"INSERT INTO journal VALUES {', '.join(rows)}",
    )
    with opened(path) as store:
        found = {row.slot: row for row in records_of(store)}
        assert (found[0].last_seen_s, found[0].last_seen_at, found[0].usual_gap_s) == (800.0, 800.5, 9.0)
        assert found[1].last_seen_s == 1.0
        assert found[2].last_seen_s != 7.0
        store.commit(batch())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT commit_number FROM vitals").fetchone() == (104,)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (b"", "is of format  with 0 bytes"),
        (b"\1\xff", "is of format 01 with 2 bytes"),
        (b"\2\1", "is of format 02 with 2 bytes"),
        (b"\1" + sign(0, math.nan), "has a time that is not a number"),
    ],
)
def test_a_row_of_the_journal_that_cannot_be_read_is_named(row: bytes, told: str, tmp_path: Path) -> None:
    path = build_released(5, tmp_path / "openred.db")
    alter(path, f"INSERT INTO journal VALUES (777, x'{row.hex()}')")
    with pytest.raises(DamageError, match=f"row 777 of the journal {told}; the file is damaged"):
        SqliteStore(path).open()
    assert version(path) == 5

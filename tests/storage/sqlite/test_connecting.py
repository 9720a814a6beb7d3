"""How a connection is set up, and that a transaction is whole or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.storage.sqlite.connecting import CACHE_KIB, connect, transaction, truncate_log
from openred_central.storage.sqlite.schema import create_database
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import StoreError
from tests.support.records import batch, opened, record


@pytest.mark.parametrize("name", ["openred.db", "100% mine?.db", "a#b & c=d.db", "Jürgen.db"])
def test_any_file_that_is_there_is_opened_by_its_name(name: str, tmp_path: Path) -> None:
    create_database(tmp_path / name)
    with closing(connect(tmp_path / name)) as connection:
        connection.execute("INSERT INTO secret VALUES ('key', x'00')")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        connect(tmp_path / "openred.db")
    assert list(tmp_path.iterdir()) == []


def test_the_connection_has_the_settings_of_durability(tmp_path: Path) -> None:
    create_database(tmp_path / "openred.db")
    with closing(connect(tmp_path / "openred.db")) as connection:
        asked = {
            "synchronous": 2,
            "journal_mode": "wal",
            "wal_autocheckpoint": 0,
            "cache_size": -CACHE_KIB,
            "temp_store": 2,
            "secure_delete": 1,
        }
        found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked}
        assert found == asked
        assert connection.execute("PRAGMA mmap_size").fetchone() in (None, (0,))


def test_the_log_is_emptied_unless_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openred_central.storage.sqlite.connecting.BUSY_TIMEOUT_S", 0.01)
    path = tmp_path / "openred.db"
    create_database(path)
    with closing(connect(path)) as connection, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        connection.execute("INSERT INTO secret VALUES ('key', x'00')")
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM secret").fetchone() == (1,)
        assert not truncate_log(connection)
        reader.execute("COMMIT")
        assert truncate_log(connection)
        assert (tmp_path / "openred.db-wal").stat().st_size == 0


def test_a_check_beside_the_loading_reports_damage(tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(2_000))))
    content = bytearray(path.read_bytes())
    content[20 * 4_096 : 21 * 4_096] = bytes(4_096)
    path.write_bytes(content)
    damaged = SqliteStore(path)
    damaged.open(check_beside=True)
    with pytest.raises(StoreError, match="check"):
        damaged.finish_check()
    damaged.finish_check()
    damaged.close()


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE entry (value INTEGER NOT NULL UNIQUE)")
        yield connection


def values(connection: sqlite3.Connection) -> list[int]:
    assert not connection.in_transaction
    return [value for (value,) in connection.execute("SELECT value FROM entry ORDER BY value")]


def run(connection: sqlite3.Connection, *statements: str, error: BaseException | None = None) -> None:
    """A transaction of these statements, which ends with the error."""
    with transaction(connection):
        for statement in statements:
            connection.execute(statement)
        assert connection.in_transaction
        if error is not None:
            raise error


def test_a_transaction_is_committed_at_the_end(connection: sqlite3.Connection) -> None:
    run(connection, "INSERT INTO entry VALUES (1)", "INSERT INTO entry VALUES (2)")
    assert values(connection) == [1, 2]


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
def test_an_error_in_a_transaction_leaves_nothing(
    error: BaseException, connection: sqlite3.Connection
) -> None:
    with pytest.raises(type(error)):
        run(connection, "INSERT INTO entry VALUES (1)", error=error)
    assert values(connection) == []


def test_an_error_that_rolled_back_is_raised_itself(
    connection: sqlite3.Connection,
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        run(connection, "INSERT INTO entry VALUES (1)", "INSERT OR ROLLBACK INTO entry VALUES (1)")
    assert values(connection) == []


def test_a_commit_that_fails_leaves_nothing(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(
        "CREATE TABLE child (value INTEGER REFERENCES entry (value) DEFERRABLE INITIALLY DEFERRED)"
    )
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        run(connection, "INSERT INTO entry VALUES (1)", "INSERT INTO child VALUES (2)")
    assert values(connection) == []

"""All of it or nothing, and the error that is told is the first one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from openred_central.storage.sqlite.transaction import transaction


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


def test_what_is_done_inside_is_committed_at_the_end(connection: sqlite3.Connection) -> None:
    run(connection, "INSERT INTO entry VALUES (1)", "INSERT INTO entry VALUES (2)")
    assert values(connection) == [1, 2]


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
def test_whatever_is_raised_inside_nothing_remains(
    error: BaseException, connection: sqlite3.Connection
) -> None:
    with pytest.raises(type(error)):
        run(connection, "INSERT INTO entry VALUES (1)", error=error)
    assert values(connection) == []


def test_an_error_that_has_rolled_back_by_itself_is_the_one_that_is_told(
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

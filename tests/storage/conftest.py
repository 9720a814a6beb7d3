"""Connections of stores that tests can look at, and let fail."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from openred_central.storage.sqlite import sqlite

from .sqlite.test_faults import sqlite_error


class Fallible:
    """A connection of a store on which statements can be made to fail."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._beginning: str | None = None
        self._code = 0
        self._done = False
        self.closed = False
        # The statements after the first failure; None before it.
        self.after_failure: list[str] | None = None

    def fail(self, beginning: str, code: int = sqlite3.SQLITE_IOERR_FSYNC, *, done: bool = False) -> None:
        """Let statements that begin so fail from now on, after their work where `done`, else before it."""
        self._beginning, self._code, self._done = beginning, code, done

    def execute(self, statement: str, *parameters: Any) -> Any:
        if self.after_failure is not None:
            self.after_failure.append(statement)
        if self._beginning is None or not statement.strip().startswith(self._beginning):
            return self._connection.execute(statement, *parameters)
        if self._done:
            self._connection.execute(statement, *parameters)
        if self.after_failure is None:
            self.after_failure = []
        raise sqlite_error(self._code, "disk I/O error")

    def executemany(self, statement: str, rows: Any) -> Any:
        return self._connection.executemany(statement, rows)

    @property
    def text_factory(self) -> Any:
        return self._connection.text_factory

    @text_factory.setter
    def text_factory(self, factory: Any) -> None:
        self._connection.text_factory = factory

    def close(self) -> None:
        self.closed = True
        self._connection.close()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Fallible]:
    """The connections that stores make from now on, the newest one last."""
    made: list[Fallible] = []
    connect = sqlite.connect

    def connect_fallible(path: Path, *, check: bool = True) -> Fallible:
        made.append(Fallible(connect(path, check=check)))
        return made[-1]

    monkeypatch.setattr(sqlite, "connect", connect_fallible)
    return made

"""The file as it is made: complete or not there, marked as ours, for us alone."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.directory.state.node import Record, Tombstone
from openred_central.storage import private_files
from openred_central.storage.sqlite.schema import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    check_marks,
    create_database,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_database_is_private_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    create_database(path)
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    header = path.read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    assert header[68:72] == b"ORed"
    with closing(sqlite3.connect(path)) as connection:
        assert check_marks(connection, path) == SCHEMA_VERSION


def test_a_new_database_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "openred.db"
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        private_files, "sync", lambda synced_path: synced.append((synced_path, path.exists()))
    )
    create_database(path)
    assert [(folder == tmp_path, named) for folder, named in synced] == [(False, False), (True, True)]
    assert synced[0][0].name == path.name


@pytest.mark.parametrize(("table", "fields"), [("node", Record._fields), ("tombstone", Tombstone._fields)])
def test_the_columns_are_the_fields(table: str, fields: tuple[str, ...], tmp_path: Path) -> None:
    create_database(tmp_path / "openred.db")
    with closing(sqlite3.connect(tmp_path / "openred.db")) as connection:
        columns = tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
        indexes = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ?", (table,)
        ).fetchall()
    numbered = {"commit_number"} if table == "node" else set()
    assert set(columns) == {*fields, *numbered}
    assert indexes == []

"""A database is read as it was at one moment, and does not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from openred_central.maintenance.reading import existing_database, reading, reading_snapshot
from openred_central.storage.store import StoreError
from tests.support.maintenance import fill, take
from tests.support.records import batch, opened, record, records_of


def nothing(done: int, total: int) -> None:
    """Progress that nobody looks at."""


def test_a_moment_is_read_while_a_server_writes(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    fill(database, [record(1)])
    with opened(database) as store, reading(database, nothing) as copy:
        store.commit(batch(record(2)))
        assert records_of(copy) == [record(1)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_reading_a_snapshot_leaves_it_unchanged(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    fill(database, [record(1)])
    snapshot = take(database)
    before = snapshot.database.read_bytes()
    with reading_snapshot(database, snapshot) as copy:
        copy.commit(batch(record(2)))
    assert snapshot.database.read_bytes() == before
    assert len(list(snapshot.folder.iterdir())) == 2


def test_a_damaged_database_is_reported_by_its_own_name(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    fill(database, [record(slot) for slot in range(100)])
    with database.open("r+b") as file:
        file.seek(3 * 4_096)
        file.write(b"\xff" * 4_096)
    with pytest.raises(StoreError) as caught, reading(database, nothing):
        pass
    assert f" {database}: " in str(caught.value)
    assert "unfinished" not in str(caught.value)


def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        existing_database(str(tmp_path / "openred.db"))
    with pytest.raises(StoreError, match="memory: keeps nothing"):
        existing_database("memory:")
    assert list(tmp_path.iterdir()) == []

"""A database that is no longer the one that is open is noticed, and nothing that was promised is lost."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.directory.state.node import Record
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import StoreError
from tests.support.records import alter, batch, opened, record, records_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "openred.db"


def replaced_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.replace(path)


def all_removed(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


@pytest.mark.parametrize("happens", [replaced_by_a_copy, all_removed, Path.unlink])
def test_no_commit_into_a_lost_file_is_acknowledged(path: Path, happens: Callable[[Path], None]) -> None:
    store = SqliteStore(path)
    store.open()
    store.commit(batch(record(1)))
    assert store.find_loss() is None
    happens(path)
    assert store.find_loss() is not None
    for doing in (
        lambda: store.commit(batch(record(2))),
        lambda: store.save_secret("key", b"value"),
        lambda: store.look(0.0),
        store.tidy,
    ):
        with pytest.raises(StoreError, match=rf"^{path} (is gone|was replaced): .*; the saved data is in"):
            doing()
    store.release()
    assert not path.exists() or records_of_closed(path) == []


def records_of_closed(path: Path) -> list[Record]:
    with opened(path) as store:
        return records_of(store)


def test_a_lost_file_is_kept_once_as_the_error_says(path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    store.commit(batch(record(1)))
    store.commit(batch(record(2)))
    all_removed(path)
    kept = path.with_name("openred.db.lost-1")
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"; the saved data is in {kept}: stop this server, and put"):
            store.commit(batch(record(3)))
    store.release()
    assert [file.name for file in path.parent.iterdir() if "lost" in file.name] == [kept.name]
    kept.rename(path)
    assert records_of_closed(path) == [record(1), record(2)]


def test_a_failed_rescue_is_reported(path: Path) -> None:
    path = path.parent / "folder" / path.name
    store = SqliteStore(path)
    store.open()
    store.commit(batch(record(1)))
    shutil.rmtree(path.parent)
    with pytest.raises(StoreError, match=r"put that very file back, no copy; the saved data could not be"):
        store.look(0.0)
    store.release()


def test_a_file_that_is_back_is_used_on(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        away = path.rename(path.with_name("away.db"))
        with pytest.raises(
            StoreError, match="is gone: it was removed or renamed; put that very file back, no"
        ):
            store.look(0.0)
        assert not list(path.parent.glob("*.lost-*"))
        away.rename(path)
        store.look(1.0)
        store.commit(batch(record(2)))
        assert records_of(store) == [record(1), record(2)]


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_a_log_that_was_removed_loses_nothing(path: Path, ending: str) -> None:
    """SQLite would go on writing into it, and the next server would not find it."""
    with opened(path) as store:
        store.commit(batch(record(1)))
        path.with_name(path.name + ending).unlink()
        with pytest.raises(StoreError, match=rf"{path}{ending} was removed or replaced"):
            store.commit(batch(record(2)))
        store.commit(batch(record(2)))
        copy = Path(shutil.copy(path, path.with_name("copy.db")))
        shutil.copy(path.with_name("openred.db-wal"), copy.with_name("copy.db-wal"))
        assert records_of_closed(copy) == [record(1), record(2)]


def test_a_removed_lock_file_is_made_again_and_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = path.with_name("openred.db.lock")
    with opened(path) as store:
        lock.unlink()
        store.look(0.0)
        store.look(1.0)
        assert caplog.messages == [f"{lock} was removed or replaced, and has been made again"]
        with pytest.raises(StoreError, match="is in use by another server"):
            SqliteStore(path).open()


@pytest.mark.parametrize("before", [0, 8])
def test_nothing_follows_the_commit_of_another_program(path: Path, before: int) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        alter(path, f"UPDATE vitals SET commit_number = {before}")
        for doing in (
            lambda: store.commit(batch(record(2))),
            lambda: store.save_secret("key", b"value"),
            lambda: store.look(0.0),
        ):
            with pytest.raises(
                StoreError, match=rf"holds {before} commits where 1 were made: another program"
            ):
                doing()
        alter(path, "UPDATE vitals SET commit_number = 1")
        store.commit(batch(record(2)))
        assert records_of(store) == [record(1), record(2)]


# Readers that do not end.


def test_a_log_held_by_a_reader_is_reported_and_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("openred_central.storage.sqlite.open_files.LOG_BYTES_WARNED", 1_000_000)
    monkeypatch.setattr("openred_central.storage.sqlite.open_files.LOG_BYTES_MAX", 4_000_000)
    log = path.with_name("openred.db-wal")
    many = batch(*(record(slot) for slot in range(1_000)))
    with opened(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM node").fetchone()
        for second in range(5):
            store.commit(many)
            store.look(float(second))
            while store.tidy_due:
                store.tidy()
            assert store.log_bytes == log.stat().st_size
        while store.log_bytes <= 4_000_000:
            store.commit(many)
        with pytest.raises(StoreError, match="allowed are 4000000: a program that reads the database keeps"):
            store.commit(many)
        assert 4_000_000 < log.stat().st_size < 6_000_000
        assert [message.count("has grown to") for message in caplog.messages if "the log of" in message] == [
            1
        ]
        reader.execute("COMMIT")
        store.look(200.0)
        assert log.stat().st_size == store.log_bytes == 0
        store.commit(many)
        assert [message for message in caplog.messages if "is short again" in message]

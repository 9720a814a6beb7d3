"""After an error of the disk nothing is tried again on the same connection, and nothing is lost by it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import StoreError
from tests.support.records import alter, batch, opened, pages_of, record, records_of

from .conftest import Fallible
from .sqlite.test_faults import sqlite_error

FSYNC_FAILED = sqlite3.SQLITE_IOERR_FSYNC


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "openred.db"


@pytest.mark.parametrize("code", [FSYNC_FAILED, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT])
@pytest.mark.parametrize("done", [False, True], ids=["not committed", "committed after all"])
def test_a_failed_commit_is_made_again_on_a_new_connection(
    connections: list[Fallible], done: bool, code: int, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard = record(1, last_seen_at=7.0, last_seen_s=8.0, usual_gap_s=9.0)
    pages = pages_of([heard])
    with opened(path) as store:
        store.commit(batch(record(1)))
        failing = connections[-1]
        failing.fail("COMMIT", code, done=done)
        with pytest.raises(StoreError, match=rf"^cannot write {path}: disk I/O error; "):
            store.commit(batch(record(2), pages=pages))
        assert not failing.closed, "only when it is asked for again"
        assert failing.after_failure == ["ROLLBACK"]
        store.commit(batch(record(2), record(3), pages=pages))
        assert failing.closed
        assert failing.after_failure == ["ROLLBACK"]
        expected = [heard, record(2), record(3)]
        assert records_of(store) == expected
        store.commit(batch(record(4)))
    with opened(path) as store:
        assert records_of(store) == [*expected, record(4)]
    assert f"the commit under way is {'in it' if done else 'not in it'}" in caplog.text


def test_nothing_follows_an_unsynced_commit_in_the_log(connections: list[Fallible], path: Path) -> None:
    log = path.with_name("openred.db-wal")
    # Another connection, or a disk that still fails, keeps SQLite from emptying the log by itself.
    with opened(path) as store, closing(sqlite3.connect(path)) as onlooker:
        onlooker.execute("SELECT count(*) FROM node").fetchone()
        store.commit(batch(*(record(slot) for slot in range(500))))
        before = log.stat().st_size
        connections[-1].fail("COMMIT", done=True)
        with pytest.raises(StoreError):
            store.commit(batch(record(501)))
        assert log.stat().st_size > before
        store.commit(batch(record(501)))
        assert 0 < log.stat().st_size < before, "it began anew"


def test_the_lock_is_held_all_the_while(connections: list[Fallible], path: Path) -> None:
    with opened(path) as store:
        connections[-1].fail("COMMIT")
        with pytest.raises(StoreError):
            store.commit(batch(record(1)))
        with pytest.raises(StoreError, match="in use by another server"):
            SqliteStore(path).open()
        store.commit(batch(record(1)))
        with pytest.raises(StoreError, match="in use by another server"):
            SqliteStore(path).open()
    with opened(path) as store:
        assert records_of(store) == [record(1)]


def test_a_full_disk_poisons_nothing(connections: list[Fallible], path: Path) -> None:
    with opened(path) as store:
        failing = connections[-1]
        failing.fail("COMMIT", sqlite3.SQLITE_FULL)
        with pytest.raises(StoreError, match="make room"):
            store.commit(batch(record(1)))
        failing.fail("nothing")
        store.commit(batch(record(1)))
        assert connections == [failing]


def test_a_replaced_file_is_refused_until_it_is_back(
    connections: list[Fallible], path: Path, tmp_path: Path
) -> None:
    """No commit may be lost silently, and no older file taken for the newest one."""
    with opened(path) as store:
        store.commit(batch(record(1)))
    older = tmp_path / "older.db"
    shutil.copy(path, older)
    store = SqliteStore(path)
    store.open()
    store.commit(batch(record(2)))
    connections[-1].fail("COMMIT")
    with pytest.raises(StoreError):
        store.commit(batch(record(3)))
    connections[-1].close()
    newer = path.rename(tmp_path / "newer.db")
    with pytest.raises(StoreError, match=rf"^{path} is gone: it was removed or renamed; put"):
        store.commit(batch(record(3)))
    assert not path.exists()
    shutil.copy(older, path)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"^{path} was replaced: another file has its name; put that"):
            store.commit(batch(record(3)))
    newer.replace(path)
    store.commit(batch(record(3)))
    assert records_of(store) == [record(1), record(2), record(3)]
    store.close()


def test_a_commit_of_another_program_is_noticed(connections: list[Fallible], path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        connections[-1].fail("COMMIT")
        with pytest.raises(StoreError):
            store.commit(batch(record(2)))
        alter(path, "UPDATE vitals SET commit_number = 9")
        with pytest.raises(StoreError, match=r"holds 9 commits where 1 were made"):
            store.commit(batch(record(2)))
        alter(path, "UPDATE vitals SET commit_number = 1")


def test_reopening_that_fails_is_tried_again(
    connections: list[Fallible], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path) as store:
        connections[-1].fail("COMMIT")
        with pytest.raises(StoreError):
            store.commit(batch(record(1)))

        def connect(path: Path) -> sqlite3.Connection:
            raise sqlite_error(sqlite3.SQLITE_IOERR_READ, "still broken")

        with monkeypatch.context() as patch:
            patch.setattr("openred_central.storage.sqlite.sqlite.connect", connect)
            for _ in range(2):
                with pytest.raises(StoreError, match="still broken"):
                    store.commit(batch(record(1)))
            assert not store.tidy_due
        store.commit(batch(record(1)))
        assert records_of(store) == [record(1)]


def test_housekeeping_that_met_the_error_is_done_again(connections: list[Fallible], path: Path) -> None:
    with opened(path) as store:
        while not store.tidy_due:
            store.commit(batch(*(record(slot) for slot in range(500))))
        failing = connections[-1]
        failing.fail("PRAGMA wal_checkpoint")
        with pytest.raises(StoreError):
            store.tidy()
        store.commit(batch(record(1, region="later")))
        assert failing.closed
        while store.tidy_due:
            store.tidy()
        assert records_of(store)[1] == record(1, region="later")


def test_a_poisoned_store_can_be_closed_and_opened(connections: list[Fallible], path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    store.commit(batch(record(1)))
    connections[-1].fail("COMMIT")
    with pytest.raises(StoreError):
        store.commit(batch(record(2)))
    store.close()
    store.open()
    assert records_of(store) == [record(1)]
    store.close()
    assert sorted(os.listdir(path.parent)) == ["openred.db", "openred.db.lock"]


def test_closing_releases_a_store_that_cannot_be_reopened(
    connections: list[Fallible], path: Path, tmp_path: Path
) -> None:
    store = SqliteStore(path)
    store.open()
    store.commit(batch(record(1)))
    connections[-1].fail("COMMIT")
    with pytest.raises(StoreError):
        store.commit(batch(record(2)))
    connections[-1].close()
    away = path.rename(tmp_path / "away.db")
    with pytest.raises(StoreError, match="is gone"):
        store.close()
    store.close()
    away.rename(path)
    with opened(path) as store:
        assert records_of(store) == [record(1)]


# Files that may not grow: SQLite takes that for an error of the disk, so this poisons for real.
WITHIN_A_LIMIT = """
import resource, sys
from pathlib import Path
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import StoreError
from tests.support.records import batch, record, records_of

store = SqliteStore(Path(sys.argv[1]))
store.open()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
acknowledged, failures = 0, 0
while failures < 5:
    try:
        store.commit(batch(*(record(acknowledged + slot) for slot in range(50))))
        acknowledged += 50
    except StoreError as error:
        failures += 1
        print(error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for _ in range(3):
    store.commit(batch(*(record(acknowledged + slot) for slot in range(50))))
    acknowledged += 50
assert [row.slot for row in records_of(store)] == list(range(acknowledged)), "in this process"
store.close()
print(acknowledged)
"""


def test_a_limit_of_file_sizes_is_reported_and_survived(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHIN_A_LIMIT, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *errors, acknowledged = done.stdout.splitlines()
    assert len(errors) == 5
    assert all("no file of this server may grow beyond 262144 bytes: raise that limit" in e for e in errors)
    with opened(path) as store:
        assert [row.slot for row in records_of(store)] == list(range(int(acknowledged)))


BEGIN_WITHIN_A_LIMIT = """
import resource, sys
from pathlib import Path
from openred_central.storage.sqlite.sqlite import SqliteStore
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    SqliteStore(Path(sys.argv[1])).open()
except Exception as error:
    sys.stderr.write(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("bytes_max", [1, 5_000, 20_000])
def test_a_first_start_without_room_can_be_repeated(bytes_max: int, path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN_WITHIN_A_LIMIT, str(path), str(bytes_max)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.startswith(f"PassingError: cannot open {path}: "), done.stderr
    assert f"no file of this server may grow beyond {bytes_max} bytes: raise that limit" in done.stderr
    with opened(path) as store:
        assert records_of(store) == []

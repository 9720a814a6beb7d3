"""A snapshot is the database at one moment, whole and verified, or it is not there."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from openred_central.directory.state.changes import Vitals
from openred_central.storage.copies import snapshots as module
from openred_central.storage.copies.snapshots import (
    MANIFEST,
    Manifest,
    Snapshot,
    SnapshotError,
    Snapshots,
    copy_database,
)
from openred_central.storage.private_files import PREFIX
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import StoreError
from tests.support.records import ROOT, VITALS, alter, batch, opened, record, records_of, tombstone

AT = 1_800_000_000.0
NAME = "openred.db-000001-20270115T080000Z"


def nothing(done: int, total: int) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An open store with a few records, a tombstone and a secret."""
    with opened(tmp_path / "openred.db") as store:
        store.commit(batch(*(record(slot) for slot in range(50)), tombstones=[tombstone("a")]))
        store.save_secret("claim_key", b"\0secret")
        yield store


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "openred.db", tmp_path / "snapshots")


def take(snapshots: Snapshots, at: float = AT, kept: int = 24) -> Snapshot:
    return snapshots.take(at, kept=kept, progress=nothing)[0]


def stored(snapshot: Snapshot, folder: Path) -> SqliteStore:
    """A store on a copy of a snapshot, open."""
    shutil.copy(snapshot.database, folder / "copy.db")
    store = SqliteStore(folder / "copy.db")
    store.open()
    return store


def test_a_snapshot_holds_all_that_the_database_held(
    store: SqliteStore, snapshots: Snapshots, tmp_path: Path
) -> None:
    snapshot, manifest = snapshots.take(AT, kept=24, progress=nothing)
    store.commit(batch(record(99)))
    assert (snapshot.name, snapshot.number) == (NAME, 1)
    assert snapshots.verify(snapshot) == manifest
    assert manifest.database == "openred.db"
    assert (manifest.taken_at, manifest.records, manifest.tombstones) == (AT, 50, 1)
    assert manifest.vitals == VITALS
    assert manifest.file_bytes == snapshot.database.stat().st_size
    with closing(stored(snapshot, tmp_path)) as copy:
        assert records_of(copy) == [record(slot) for slot in range(50)]
        assert copy.load_secret("claim_key") == b"\0secret"


def test_a_snapshot_is_one_private_file_and_its_manifest(store: SqliteStore, snapshots: Snapshots) -> None:
    snapshot = take(snapshots)
    assert sorted(path.name for path in snapshot.folder.iterdir()) == [MANIFEST, "openred.db"]
    assert [path.stat().st_mode & 0o777 for path in snapshot.folder.iterdir()] == [0o600, 0o600]
    assert snapshot.folder.stat().st_mode & 0o777 == 0o700
    assert snapshots.folder.stat().st_mode & 0o777 == 0o700
    with closing(sqlite3.connect(f"{snapshot.database.as_uri()}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT count(*) FROM node").fetchone() == (50,)


def test_commits_during_a_copy_are_not_in_it(
    store: SqliteStore, snapshots: Snapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every commit writes all records; a copy of two moments would hold two kinds of them."""
    monkeypatch.setattr(module, "STEP_PAGES", 1)
    steps = 0

    def commit(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        # Not for ever: a copy that begins anew with every commit would never end.
        if steps > 10:
            return
        store.commit(batch(*(record(slot, region=f"step-{steps}") for slot in range(60))))

    snapshot, manifest = snapshots.take(AT, kept=24, progress=commit)
    assert steps > 3
    assert manifest.records == 50
    with closing(stored(snapshot, tmp_path)) as copy:
        assert records_of(copy) == [record(slot) for slot in range(50)]
    assert {one.region for one in records_of(store)} == {f"step-{min(steps, 10)}"}


def test_an_interrupted_snapshot_leaves_nothing(store: SqliteStore, snapshots: Snapshots) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        snapshots.take(AT, kept=24, progress=stop)
    assert list(snapshots.folder.iterdir()) == []


def test_the_newest_are_kept_whatever_the_clock_says(store: SqliteStore, snapshots: Snapshots) -> None:
    for number in range(5):
        take(snapshots, AT - number * 1e6, kept=3)
    assert [snapshot.number for snapshot in snapshots.newest_first()] == [5, 4, 3]
    assert len(list(snapshots.folder.iterdir())) == 3
    assert snapshots.newest_at() == AT - 4e6


def test_older_snapshots_stay_if_a_new_one_fails(
    store: SqliteStore, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = take(snapshots, kept=1)

    def spoil(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(5_000)
            file.write(b"\xff" * 64)

    monkeypatch.setattr(module, "_drop_from_memory", spoil)
    with pytest.raises(SnapshotError, match="is not the file that was written"):
        take(snapshots, kept=1)
    assert [path.name for path in snapshots.folder.iterdir()] == [older.name]
    assert snapshots.verify(older).records == 50


def test_a_damaged_database_makes_no_snapshot(tmp_path: Path, snapshots: Snapshots) -> None:
    with opened(tmp_path / "openred.db") as store:
        store.commit(batch(*(record(slot) for slot in range(200))))
    with (tmp_path / "openred.db").open("r+b") as file:
        file.seek(3 * 4_096)
        file.write(b"\xff" * 4_096)
    with pytest.raises(SnapshotError):
        take(snapshots)
    assert snapshots.newest_first() == []
    assert list(snapshots.folder.iterdir()) == []


def test_snapshots_of_other_databases_are_none_of_ours(store: SqliteStore, snapshots: Snapshots) -> None:
    for name in (f"other.{NAME}", f"{NAME}.zip", "openred.db-1-20270115T080000Z", f"{PREFIX}x"):
        (snapshots.folder / name).mkdir(parents=True)
    assert snapshots.newest_first() == []
    assert snapshots.newest_at() is None
    take(snapshots, kept=1)
    assert take(snapshots, kept=1).number == 2
    assert (snapshots.folder / f"other.{NAME}").is_dir()


def test_two_at_the_same_time_get_different_numbers(
    store: SqliteStore, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(snapshots)
    with monkeypatch.context() as patched:
        # As another process would see the folder a moment before the first one was finished.
        patched.setattr(Snapshots, "newest_first", lambda self: [])
        second = take(snapshots)
    assert [snapshot.number for snapshot in snapshots.newest_first()] == [2, 1]
    assert snapshots.verify(first) == snapshots.verify(second)._replace(sha256=snapshots.verify(first).sha256)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda one: os.truncate(one.database, 4_096), "has 4096 bytes, its manifest says"),
        (lambda one: one.database.write_bytes(os.urandom(one.database.stat().st_size)), "SHA-256"),
        (lambda one: (one.folder / MANIFEST).unlink(), "manifest.json: No such file"),
        (lambda one: (one.folder / MANIFEST).write_bytes(b"{}"), "the manifest of snapshot"),
        (lambda one: one.database.unlink(), "No such file"),
        (lambda one: alter(one.database, "UPDATE node SET region = 'us' WHERE slot = 7"), "SHA-256"),
    ],
)
def test_a_changed_snapshot_does_not_verify(
    store: SqliteStore, snapshots: Snapshots, damage: object, complaint: str
) -> None:
    snapshot = take(snapshots)
    damage(snapshot)  # type: ignore[operator]
    with pytest.raises(SnapshotError, match=complaint) as caught:
        snapshots.verify(snapshot)
    assert NAME in str(caught.value)


def test_a_failed_copy_is_reported_in_one_line(tmp_path: Path, snapshots: Snapshots) -> None:
    with pytest.raises(StoreError, match=r"cannot make snapshots of .*: unable to open database file"):
        take(snapshots)
    (tmp_path / "snapshots").rmdir()
    (tmp_path / "snapshots").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot make snapshots of .*snapshots: File exists"):
        take(snapshots)


def test_a_database_of_another_program_is_not_copied(tmp_path: Path, snapshots: Snapshots) -> None:
    alter(tmp_path / "openred.db", "CREATE TABLE node (a)")
    with pytest.raises(StoreError, match="of another program"):
        take(snapshots)


def test_a_copy_reports_its_progress(store: SqliteStore, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    copy_database(
        tmp_path / "openred.db", tmp_path / "copy.db", lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1] > 0


KILLED = """
import os, signal, sys
from pathlib import Path
from openred_central.storage.copies import snapshots
snapshots.STEP_PAGES = 1
moment = sys.argv[2]
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if moment != "copy":
    setattr(snapshots, moment, kill)
made = snapshots.Snapshots(Path(sys.argv[1]) / "openred.db", Path(sys.argv[1]) / "snapshots")
made.take(1.8e9, kept=1, progress=kill if moment == "copy" else (lambda done, total: None))
"""


@pytest.mark.parametrize("moment", ["copy", "sha256_of", "write_whole", "_drop_from_memory", "discard"])
def test_a_kill_leaves_older_snapshots_and_no_junk(
    store: SqliteStore, snapshots: Snapshots, tmp_path: Path, moment: str
) -> None:
    older = take(snapshots)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), moment], cwd=ROOT, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert snapshots.verify(older).records == 50
    snapshots.clear()
    left = snapshots.newest_first()
    assert sorted(path.name for path in snapshots.folder.iterdir()) == sorted(one.name for one in left)
    assert [snapshots.verify(one).records for one in left] == [50] * len(left)
    assert len(left) == (2 if moment == "discard" else 1)


SAMPLE = Manifest("openred.db", 1_800_000_000.25, 1, 4_096, "00ff", 3, 2, Vitals(1.5, 7, 0.25))


@pytest.mark.parametrize("vitals", [SAMPLE.vitals, None])
def test_a_manifest_is_read_as_it_was_written(vitals: Vitals | None) -> None:
    manifest = SAMPLE._replace(vitals=vitals)
    assert Manifest.decode(manifest.encode()) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"records": None},
        {"records": "3"},
        {"taken_at": "now"},
        {"vitals": {"attended_s": 1.0}},
        {"vitals": 3},
        {"more": 1},
    ],
)
def test_a_manifest_with_other_values_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Manifest.decode(orjson.dumps(orjson.loads(SAMPLE.encode()) | change))


@pytest.mark.parametrize("written", [b"", b"[]", b"{", b"{}", SAMPLE.encode()[:-20]])
def test_a_bad_manifest_is_refused(written: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whatever is wrong with it)
        Manifest.decode(written)

"""A damaged database is set aside and its newest good snapshot used; nothing else is taken for damage."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.directory.state.node import Record
from openred_central.errors import InternalBug
from openred_central.storage.copies import restoring
from openred_central.storage.copies.restoring import (
    Restored,
    database_path,
    decided_swaps,
    find_damage,
    finish_swap,
    is_damage,
    open_or_restore,
    snapshots_of,
    swap_in,
)
from openred_central.storage.copies.snapshots import Snapshots
from openred_central.storage.sqlite.lock import FileLock
from openred_central.storage.sqlite.schema import APPLICATION_ID
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import DamageError, Store, StoreError
from tests.support.records import alter, batch, opened, record, tombstone

AT = 1_800_000_000.0
ASIDE = "openred.db.damaged-20270115T090000Z"


def load(store: Store) -> list[Record]:
    """All records, of which none may be in the region ``nowhere``; tombstones are read as well."""
    records = [row for rows in store.load_records(100) for row in rows]
    for _ in store.load_tombstones(100):
        pass
    if any(one.region == "nowhere" for one in records):
        raise DamageError("a node is nowhere")
    return records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with records 0 to 299, of which snapshots hold those up to 99 and up to 199."""
    path = tmp_path / "openred.db"
    snapshots = snapshots_of(path, "")
    with opened(path) as store:
        for begin in (0, 100, 200):
            stones = [tombstone("hash of a name")]
            store.commit(batch(*(record(slot) for slot in range(begin, begin + 100)), tombstones=stones))
            if begin < 200:
                snapshots.take(AT + begin, kept=24, progress=lambda done, total: None)
    return path


def start(path: Path, *, restore: bool = True) -> tuple[int, Restored | None]:
    """How many records a server would start with, and what was restored."""
    store, loaded, restored = open_or_restore(str(path), "", load, restore=restore, wall_s=AT + 3_600)
    store.close()
    return len(loaded), restored


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def without_header(path: Path) -> None:
    overwrite(path, 0, os.urandom(100))


def without_a_page(path: Path) -> None:
    overwrite(path, 3 * 4_096, b"\xff" * 4_096)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def without_text(path: Path) -> None:
    """Replace text by bytes that are no UTF-8."""
    overwrite(path, path.read_bytes().index(b"hash of a name"), b"\xff\xfe")


def without_sense(path: Path) -> None:
    alter(path, "UPDATE node SET region = 'nowhere' WHERE slot = 250")


DAMAGES = [without_header, without_a_page, cut, emptied, without_text, without_sense]


def test_a_sound_database_is_only_opened(path: Path) -> None:
    assert start(path) == (300, None)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "openred.db",
        "openred.db.lock",
        "snapshots",
    ]


def test_a_missing_database_with_snapshots_is_no_first_start(path: Path) -> None:
    path.unlink()
    with pytest.raises(StoreError) as missing:
        start(path)
    newest = snapshots_of(path, "").newest_first()[0].name
    assert str(missing.value) == (
        f"{path} is missing, and there are snapshots of it: put it back, or run "
        f"`openred-central restore {newest}`; to begin with an empty directory, start once with --begin-anew"
    )
    assert not path.exists()
    store, loaded, restored = open_or_restore(
        str(path), "", load, restore=True, begin_anew=True, wall_s=AT + 3_600
    )
    store.close()
    assert (len(loaded), restored) == (0, None)
    assert start(path) == (0, None)


def test_a_missing_database_without_snapshots_is_a_first_start(tmp_path: Path) -> None:
    assert start(tmp_path / "openred.db") == (0, None)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_replaced_by_the_newest_snapshot(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    damaged = path.read_bytes()
    records, restored = start(path)
    assert records == 200
    assert restored is not None
    assert restored.set_aside == path.with_name(ASIDE)
    assert restored.set_aside.read_bytes() == damaged
    assert restored.snapshot.startswith("openred.db-000002-")
    assert (restored.taken_at, restored.age_s) == (AT + 100, 3_500)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not [entry for entry in path.parent.iterdir() if entry.name.startswith(".")]
    # From then on it is a database like any other.
    assert start(path) == (200, None)


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_good_snapshot_changes_nothing(path: Path, damage: Callable[[Path], None]) -> None:
    shutil.rmtree(path.parent / "snapshots")
    damage(path)
    damaged = path.read_bytes()
    with pytest.raises(StoreError, match=r"no good snapshot of it in .*/snapshots") as caught:
        start(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == damaged
    assert not list(path.parent.glob("*.damaged-*"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_restored_if_restore_is_never(path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    damaged = path.read_bytes()
    with pytest.raises(StoreError, match="restore is never"):
        start(path, restore=False)
    assert path.read_bytes() == damaged


def newest(path: Path) -> Path:
    return snapshots_of(path, "").newest_first()[0].database


def changed(path: Path) -> None:
    """A sound database, and not the one that was written."""
    alter(path, "UPDATE node SET region = 'us' WHERE slot = 7")


@pytest.mark.parametrize("damage", [without_header, without_a_page, cut, emptied, os.unlink, changed])
def test_a_damaged_snapshot_gives_way_to_the_one_before(path: Path, damage: Callable[[Path], None]) -> None:
    damage(newest(path))
    without_a_page(path)
    records, restored = start(path)
    assert records == 100
    assert restored is not None
    assert restored.snapshot.startswith("openred.db-000001-")


def test_a_snapshot_that_cannot_be_loaded_gives_way(path: Path) -> None:
    """It is what was written, and that was damaged already."""
    with opened(path) as store:
        store.commit(batch(record(150, region="nowhere")))
        snapshots_of(path, "").take(AT + 200, kept=24, progress=lambda done, total: None)
    records, restored = start(path)
    assert records == 200
    assert restored is not None
    assert restored.reason == "a node is nowhere"
    assert restored.snapshot.startswith("openred.db-000002-")


def test_a_damaged_database_takes_its_log_with_it(path: Path, tmp_path: Path) -> None:
    """Commits in the log alone stay with the file they belong to, and never reach the restored one."""
    crashed = tmp_path / "crashed" / path.name
    crashed.parent.mkdir()
    shutil.copytree(tmp_path / "snapshots", crashed.parent / "snapshots")
    with opened(path) as store:
        store.commit(batch(*(record(slot, region="late") for slot in range(300, 320))))
        for name in (path.name, f"{path.name}-wal"):
            shutil.copy(path.with_name(name), crashed.parent)
    log = crashed.with_name(f"{path.name}-wal").read_bytes()
    emptied(crashed)
    records, restored = start(crashed)
    assert records == 200
    assert restored is not None
    assert restored.set_aside.with_name(restored.set_aside.name + "-wal").read_bytes() == log
    with opened(crashed) as store:
        assert not [one for one in load(store) if one.region == "late"]


def test_an_interrupted_restore_is_finished_first(path: Path) -> None:
    """The database had been set aside; a start that finds none must not begin with an empty one."""
    copy = path.with_name(f"{path.name}.instead-of.damaged-20270115T080000Z")
    shutil.copy(newest(path), copy)
    path.rename(path.with_name(f"{path.name}.damaged-20270115T080000Z"))
    assert start(path) == (200, None)
    assert not copy.exists()


def of_another_program(path: Path) -> None:
    alter(path, "PRAGMA application_id = 7")


def of_a_newer_version(path: Path) -> None:
    alter(path, "PRAGMA user_version = 999")


def gone(path: Path) -> None:
    path.with_name(path.name + "-wal").write_bytes(b"log")
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [of_another_program, of_a_newer_version, gone, a_folder])
def test_other_faults_than_damage_leave_the_file_alone(path: Path, change: Callable[[Path], None]) -> None:
    change(path)
    before = sorted(entry.name for entry in path.parent.iterdir())
    with pytest.raises(StoreError) as caught:
        start(path)
    assert "snapshot" not in str(caught.value)
    assert sorted(entry.name for entry in path.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [("PRAGMA user_version = 999", "schema version 999"), ("PRAGMA application_id = 7", "another program")],
)
def test_a_damaged_file_of_another_program_is_left_alone(path: Path, statement: str, complaint: str) -> None:
    alter(path, statement)
    without_a_page(path)
    with pytest.raises(StoreError, match=complaint):
        start(path)
    assert path.exists()


def test_a_running_database_is_never_restored(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    try:
        emptied(path)
        with pytest.raises(StoreError, match="in use by another server"):
            start(path)
    finally:
        lock.release()
    assert path.stat().st_size == 0


@pytest.mark.parametrize(
    ("code", "damaged"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_CORRUPT_VTAB, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_IOERR_READ, False),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_CANTOPEN, False),
        (sqlite3.SQLITE_PERM, False),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_BUSY, False),
        (sqlite3.SQLITE_NOMEM, False),
    ],
)
def test_only_some_of_the_errors_of_sqlite_are_damage(code: int, damaged: bool) -> None:
    cause = sqlite3.OperationalError()
    cause.sqlite_errorcode = code
    error = StoreError("cannot read it")
    error.__cause__ = cause
    assert is_damage(error) is damaged


def test_errors_of_the_system_are_no_damage() -> None:
    error = StoreError("cannot open it")
    error.__cause__ = PermissionError()
    assert not is_damage(error)
    assert not is_damage(StoreError("is in use"))


def test_a_memory_store_has_no_file_and_no_snapshots() -> None:
    assert database_path("memory:") is None
    store, loaded, restored = open_or_restore("memory:", "", load, restore=True, wall_s=AT)
    assert (store.durable, loaded, restored) == (False, [], None)


def test_an_error_while_loading_closes_the_store(path: Path) -> None:
    def fail(store: Store) -> None:
        raise RuntimeError("broke")

    with pytest.raises(RuntimeError):
        open_or_restore(str(path), "", fail, restore=True, wall_s=AT)
    assert start(path) == (300, None)


def test_snapshots_lie_beside_the_database_or_as_set(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    assert snapshots_of(database, "").folder == tmp_path / "snapshots"
    assert snapshots_of(database, "/elsewhere").folder == Path("/elsewhere")


def test_damage_is_found_only_in_a_file_of_ours(path: Path, tmp_path: Path) -> None:
    assert find_damage(path) is None
    assert find_damage(tmp_path / "missing") is None
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID + 1}")
        connection.execute("CREATE TABLE other (a)")
    assert find_damage(tmp_path / "other.db") is None


def test_a_link_leads_to_the_snapshots_of_the_file_itself(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    without_a_page(path)
    records, restored = start(link)
    assert records == 200
    assert restored is not None
    assert link.is_symlink()
    assert Snapshots(link, tmp_path / "snapshots").newest_first()
    assert SqliteStore(link).location == str(path)


OLD = {"openred.db": "old", "openred.db-wal": "old log", "openred.db-shm": "old index"}
SWAPPED = {
    "openred.db": "new",
    "openred.db.damaged": "old",
    "openred.db.damaged-wal": "old log",
    "openred.db.damaged-shm": "old index",
}

# Renames and fsyncs on the way.
STEPS = 8


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def make(folder: Path) -> Path:
    """The old database with its companions, and a new one, in `folder`."""
    folder.mkdir(exist_ok=True)
    for name, content in OLD.items():
        (folder / name).write_text(content)
    (folder / "copy").write_text("new")
    return folder / "openred.db"


def test_the_former_database_is_kept_with_its_log(tmp_path: Path) -> None:
    database = make(tmp_path)
    assert swap_in(database, tmp_path / "copy", "damaged") == tmp_path / "openred.db.damaged"
    assert files(tmp_path) == SWAPPED
    assert decided_swaps(database) == []


def test_an_older_file_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    database = make(tmp_path)
    (tmp_path / "openred.db.damaged-wal").write_text("older log")
    assert swap_in(database, tmp_path / "copy", "damaged").name == "openred.db.damaged-2"
    assert (tmp_path / "openred.db.damaged-wal").read_text() == "older log"
    assert (tmp_path / "openred.db.damaged-2-wal").read_text() == "old log"


def test_a_swap_without_a_former_database_works(tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("new")
    swap_in(tmp_path / "openred.db", tmp_path / "copy", "damaged")
    assert files(tmp_path) == {"openred.db": "new"}


def test_a_database_that_is_not_closed_is_not_taken(tmp_path: Path) -> None:
    database = make(tmp_path)
    (tmp_path / "copy-wal").write_text("commits")
    with pytest.raises(InternalBug, match="was not closed"):
        swap_in(database, tmp_path / "copy", "damaged")


class Died(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_a_killed_swap_is_old_or_finished_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    done = 0

    def dying(call: Callable[..., object]) -> Callable[..., object]:
        def one(*arguments: object) -> object:
            nonlocal done
            if done == steps:
                raise Died
            done += 1
            return call(*arguments)

        return one

    database = make(tmp_path)
    with monkeypatch.context() as patched, contextlib.suppress(Died):
        patched.setattr(Path, "rename", dying(Path.rename))
        patched.setattr(restoring, "sync", dying(restoring.sync))
        swap_in(database, tmp_path / "copy", "damaged")
    assert done == steps
    finish_swap(database)
    assert files(tmp_path) == (SWAPPED if steps else {**OLD, "copy": "new"})


def test_nothing_is_done_where_nothing_was_decided(tmp_path: Path) -> None:
    database = make(tmp_path)
    finish_swap(database)
    assert files(tmp_path) == {**OLD, "copy": "new"}
    assert decided_swaps(tmp_path / "missing" / "openred.db") == []

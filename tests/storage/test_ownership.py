"""Files that root makes beside a server belong to its user, who has to be able to use and remove them.

Root gives the database to another user first. Anybody else owns it already, and makes nothing that is not
their own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from openred_central.storage.copies.restoring import swap_in
from openred_central.storage.copies.snapshots import Snapshots
from openred_central.storage.keys.admin_secret import read_or_make
from openred_central.storage.keys.key_files import KeyFiles
from openred_central.storage.private_files import clear, create_folder, give, scratch_folder
from openred_central.storage.sqlite.lock import FileLock
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import StoreError

USER = 10001 if os.geteuid() == 0 else os.geteuid()
WALL_S = 1_800_000_000.0


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in a folder of its own; both belong to USER."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "openred.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    for made in (folder, *folder.iterdir()):
        os.chown(made, USER, -1)
    return path


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in _below(folder)}


def _below(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")


def test_a_file_is_given_to_the_owner_of_another(database: Path) -> None:
    made = database.parent / "made"
    made.touch()
    give(made, database)
    assert made.stat().st_uid == USER


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_nothing_is_written_or_given_through_a_link(
    database: Path, link: Callable[[Path, Path], None]
) -> None:
    precious = database.parent.parent / "precious"
    precious.write_text("of root")
    for name in ("openred.db.lock", "made"):
        database.with_name(name).unlink(missing_ok=True)
        link(precious, database.with_name(name))
    with pytest.raises(StoreError):
        SqliteStore(database).open()
    with suppress(OSError):
        give(database.with_name("made"), database)
    assert precious.read_text() == "of root"
    assert precious.stat().st_uid == os.geteuid()


def test_a_snapshot_belongs_to_the_owner_of_the_database(database: Path) -> None:
    for folder in (database.parent / "snapshots", database.parent.parent / "backup" / "openred"):
        snapshot, _ = Snapshots(database, folder).take(WALL_S, kept=2, progress=lambda done, total: None)
        assert owners(snapshot.folder) == {USER}
        assert folder.stat().st_uid == USER


def test_a_snapshot_leaves_an_existing_folder_as_it_is(database: Path) -> None:
    folder = database.parent.parent / "backup"
    folder.mkdir()
    snapshot, _ = Snapshots(database, folder).take(WALL_S, kept=2, progress=lambda done, total: None)
    assert owners(snapshot.folder) == {USER}
    assert folder.stat().st_uid == os.geteuid()


def test_files_of_a_start_get_the_owner_of_the_folder(database: Path) -> None:
    for path in database.parent.iterdir():
        path.unlink()
    store = SqliteStore(database)
    store.open()
    keys = KeyFiles(database.parent / "keys", os.urandom)
    keys.open()
    keys.write("root.key", b"secret")
    read_or_make(database.parent / "openred.db.admin-secret", os.urandom)
    assert {"openred.db", "openred.db.lock", "keys"} <= {path.name for path in database.parent.iterdir()}
    assert owners(database.parent) == {USER}
    store.close()


def test_the_lock_belongs_to_the_owner_of_the_database(database: Path) -> None:
    os.chown(database.parent, os.geteuid(), -1)
    lock = FileLock(database)
    lock.acquire()
    assert database.with_name("openred.db.lock").stat().st_uid == USER
    lock.release()


def test_a_new_database_gets_the_owner_of_the_old_one(database: Path) -> None:
    with scratch_folder(database.parent) as scratch:
        assert scratch.stat().st_uid == USER
        new = scratch / "new.db"
        new.touch()
        aside = swap_in(database, new, "replaced")
    assert database.stat().st_uid == USER
    assert aside.stat().st_uid == USER


def test_new_folders_get_the_owner_of_their_parent(database: Path) -> None:
    create_folder(database.parent / "one" / "two")
    assert owners(database.parent) == {USER}


def test_folders_of_other_users_are_left_alone() -> None:
    # Not in a folder of pytest's: another user has to come in.
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent, ".openred-unfinished-of-another")
        folder.mkdir(mode=0o700 if os.geteuid() == 0 else 0)
        os.seteuid(USER)
        try:
            clear(Path(parent))
        finally:
            os.seteuid(os.getuid())
        assert folder.exists()

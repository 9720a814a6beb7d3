"""An operator puts a snapshot in the place of the database, which is kept, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openred_central.directory.state.blocks import Block, Kind, name_of, pack
from openred_central.directory.state.changes import Batch
from openred_central.directory.state.node import BLOCKED, DISCOVERABLE
from openred_central.storage.sqlite.lock import FileLock
from openred_central.storage.store import StoreError
from tests.support.maintenance import VITALS, command, fill, take
from tests.support.records import opened, record, records_of

# Anybody but root owns all files already.
USER = 10001 if os.geteuid() == 0 else os.geteuid()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of two nodes, with a snapshot from when it had one."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "openred.db"
    fill(path, [record(0)])
    take(path)
    fill(path, [record(1)])
    return path


def nodes(database: Path) -> int:
    with opened(database) as store:
        return len(records_of(store))


def replaced(database: Path) -> list[Path]:
    return sorted(database.parent.glob("openred.db.replaced-*Z"))


def test_a_snapshot_takes_the_place_of_the_database(database: Path) -> None:
    done = command("restore", database, snapshot="newest")
    (aside,) = replaced(database)
    assert (done.code, nodes(database), nodes(aside)) == (0, 1, 2)
    assert "restored openred.db-000001-" in done.said[0]
    assert f"the former database is now {aside}; it alone has later changes" in done.said[1]
    assert not list(database.parent.glob(".openred-*"))


def test_a_snapshot_is_named_by_number_name_or_folder(database: Path) -> None:
    first = take(database)
    fill(database, [record(2)])
    for named in (str(first.number), first.name, f"{first.folder}/"):
        command("restore", database, snapshot=named)
        assert nodes(database) == 2
        fill(database, [record(2)])
    command("restore", database, snapshot="1")
    assert nodes(database) == 1


def test_an_unknown_snapshot_is_refused_with_those_that_there_are(database: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"'7' is none of the snapshots in .*: openred.db-000001-"):
        command("restore", database, snapshot="7")
    with pytest.raises(StoreError, match="there is no snapshot of"):
        command("restore", tmp_path / "other.db", snapshot="newest")
    with pytest.raises(StoreError, match="memory: has no snapshots"):
        command("restore", "memory:", snapshot="newest")
    assert nodes(database) == 2


def test_a_damaged_snapshot_changes_nothing(database: Path) -> None:
    snapshot = take(database)
    with snapshot.database.open("r+b") as file:
        file.seek(5_000)
        file.write(b"damage")
    with pytest.raises(StoreError, match="its SHA-256 is another one"):
        command("restore", database, snapshot="newest")
    assert (nodes(database), replaced(database)) == (2, [])


def test_a_running_server_keeps_its_database(database: Path) -> None:
    with FileLock(database).hold(), pytest.raises(StoreError, match="is in use by another server"):
        command("restore", database, snapshot="newest")
    assert (nodes(database), replaced(database)) == (2, [])


def test_a_database_that_is_lost_or_damaged_is_restored(database: Path) -> None:
    database.write_bytes(b"damage")
    command("restore", database, snapshot="newest")
    assert nodes(database) == 1
    database.unlink()
    for ending in ("-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)
    done = command("restore", database, snapshot="newest")
    assert (nodes(database), len(done.said)) == (1, 2)


def block(database: Path, **blocks: bytes | None) -> None:
    with opened(database) as store:
        kept = [(name_of(Block(Kind.ID, name, "", 0.0, None)), value) for name, value in blocks.items()]
        store.commit(Batch([], [], [], [], VITALS, 1, kept=kept))


def test_blocks_stay_as_they_are_now(database: Path) -> None:
    first, second = (pack(Block(Kind.ID, "", reason, 1.0, None)) for reason in ("spam", "more spam"))
    block(database, was=first, stays=first)
    fill(database, [record(0, flags=DISCOVERABLE | BLOCKED)])
    snapshot = take(database)
    block(database, was=None, stays=second, came=second)
    with opened(database) as store:
        store.commit(Batch([], [], [], [], VITALS, 1, kept=[("patience", b"1.5")]))
    command("restore", database, snapshot=snapshot.name)
    with opened(database) as store:
        assert dict(store.load_kept()) == {"block/id/came": second, "block/id/stays": second}
    # The log of a killed server has the last ones.
    with opened(database) as store:
        store.commit(Batch([], [], [], [], VITALS, 1, kept=[("block/id/late", second)]))
        shutil.copytree(database.parent, database.parent.parent / "killed")
    killed = database.parent.parent / "killed" / database.name
    log = killed.with_name("openred.db-wal").read_bytes()
    command("restore", killed, snapshot=snapshot.name)
    (kept,) = killed.parent.glob("openred.db.replaced-*-wal")
    assert kept.read_bytes() == log
    with opened(killed) as store:
        assert [name for name, _ in store.load_kept()] == ["block/id/came", "block/id/late", "block/id/stays"]
    # Nobody knows the blocks of a database that cannot be read.
    database.write_bytes(b"damage")
    command("restore", database, snapshot=snapshot.name)
    with opened(database) as store:
        assert dict(store.load_kept()) == {"block/id/was": first, "block/id/stays": first}


KILLED = """
import os, pathlib, signal, sys
from openred_central.cli.main import main
left = int(sys.argv.pop(1))
rename = pathlib.Path.rename
def counted(self, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
pathlib.Path.rename = counted
sys.exit(main())
"""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_in_the_middle_leaves_one_of_both_whole(database: Path, renames: int) -> None:
    words = [str(renames), "restore", "newest", "--database", str(database)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, timeout=60, check=False, text=True
    )
    # The new one gets its decided name, the old one is set aside, the new one takes its place.
    assert done.returncode == -signal.SIGKILL, done.stderr
    if renames == 0:
        assert (nodes(database), replaced(database)) == (2, [])
    command("restore", database, snapshot="newest")
    assert nodes(database) == 1
    assert nodes(replaced(database)[0]) == 2
    assert not [path for path in database.parent.iterdir() if "instead-of" in path.name]
    assert not list(database.parent.glob(".openred-*"))


@pytest.mark.parametrize("is_closed", [True, False])
def test_commands_of_root_leave_nothing_that_the_user_of_the_server_cannot_use(
    database: Path, tmp_path: Path, is_closed: bool
) -> None:
    if not is_closed:
        # As a killed server leaves it: with its log.
        with opened(database) as store:
            store.commit(Batch([record(2)], [], [], [], VITALS, 1))
            shutil.copytree(database.parent, tmp_path / "killed")
        shutil.rmtree(database.parent)
        (tmp_path / "killed").rename(database.parent)
        assert database.with_name("openred.db-wal").stat().st_size
    for path in (database.parent, *database.parent.rglob("*")):
        os.chown(path, USER, -1)
    command("snapshot", database)
    command("verify", database)
    exported = command("export", database, file="-").output
    command("restore", database, snapshot="newest")
    command("import", database, file="-", standard_input=exported, replace=True)
    others = {str(path) for path in database.parent.rglob("*") if path.lstat().st_uid != USER}
    assert others == set()

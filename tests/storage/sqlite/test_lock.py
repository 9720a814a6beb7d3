"""One server per database, and no lock outlives its holder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openred_central.storage.sqlite.lock import FileLock
from openred_central.storage.store import StoreError

HOLD = """
import sys
from pathlib import Path
from openred_central.storage.sqlite.lock import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_naming_the_first(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    first, second = FileLock(database), FileLock(database)
    first.acquire()
    with pytest.raises(
        StoreError, match=rf"{database} is in use by another server \(process {os.getpid()}\)"
    ):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_a_holder_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    command = [sys.executable, "-c", HOLD, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = FileLock(database)
        with pytest.raises(StoreError, match=rf"process {holder.pid}\)"):
            lock.acquire()
        holder.kill()
        holder.wait()
    lock.acquire()
    lock.release()


def test_an_earlier_lock_file_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "openred.db.lock").write_text("123456789\n")
    lock = FileLock(tmp_path / "openred.db")
    lock.acquire()
    assert (tmp_path / "openred.db.lock").read_text() == f"{os.getpid()}\n"
    lock.release()


def held_by_another(database: Path) -> subprocess.Popen[bytes]:
    """A process that holds the lock of `database`."""
    command = [sys.executable, "-c", HOLD, str(database)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_a_second_name_of_a_held_database_is_refused(tmp_path: Path) -> None:
    """A hard link, as a file that is mounted into two containers, has a log of its own under each name."""
    database, second = tmp_path / "openred.db", tmp_path / "elsewhere" / "second.db"
    database.write_bytes(b"content")
    second.parent.mkdir()
    os.link(database, second)
    with held_by_another(database) as holder:
        lock = FileLock(second)
        with pytest.raises(StoreError, match=rf"{second} is in use by another server under another name"):
            lock.acquire()
        assert not lock.held
        holder.kill()
    lock.acquire()
    lock.release()


HOLD_BYTES = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_that_shuts_out_sqlite_is_released(tmp_path: Path) -> None:
    """On NFS the lock of the whole file is one that SQLite meets; here another process has one like it."""
    database, second = tmp_path / "openred.db", tmp_path / "second.db"
    database.write_bytes(b"content")
    os.link(database, second)
    command = [sys.executable, "-c", HOLD_BYTES, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        first, other = FileLock(database), FileLock(second)
        first.acquire()
        other.acquire()
        assert first.database_descriptor is not None
        holder.kill()
        first.release()
        other.release()


def test_a_database_made_after_the_lock_is_locked(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    lock = FileLock(database)
    lock.acquire()
    assert lock.find_loss() is None
    database.touch()
    lock.acquire_database()
    os.link(database, tmp_path / "second.db")
    with pytest.raises(StoreError, match="under another name"):
        FileLock(tmp_path / "second.db").acquire()
    lock.release()


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        (lambda path: path.unlink(), "is gone: it was removed or renamed"),
        (lambda path: path.rename(path.with_name("moved.db")), "is gone: it was removed or renamed"),
        (lambda path: replace_by_copy(path), "was replaced: another file has its name"),
    ],
)
def test_a_name_that_leads_elsewhere_is_seen(
    tmp_path: Path, happens: Callable[[Path], object], told: str
) -> None:
    database = tmp_path / "openred.db"
    database.write_bytes(b"content")
    lock = FileLock(database)
    lock.acquire()
    assert lock.find_loss() is None
    happens(database)
    assert lock.find_loss() == told
    lock.release()


def replace_by_copy(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.replace(path)


def test_a_link_that_is_given_another_target_is_seen(tmp_path: Path) -> None:
    database, link = tmp_path / "openred.db", tmp_path / "link.db"
    for path in (database, tmp_path / "other.db"):
        path.write_bytes(b"content")
    link.symlink_to(database)
    lock = FileLock(database, link)
    lock.acquire()
    assert lock.find_loss() is None
    link.unlink()
    link.symlink_to(tmp_path / "other.db")
    assert lock.find_loss() == "was replaced: another file has its name"
    lock.release()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_removed_lock_file_is_made_again(tmp_path: Path, replaced: bool) -> None:
    database, beside = tmp_path / "openred.db", tmp_path / "openred.db.lock"
    database.write_bytes(b"content")
    lock = FileLock(database)
    lock.acquire()
    assert not lock.renew()
    beside.unlink()
    # Until it is there again, the lock on the database itself refuses a second one.
    with pytest.raises(StoreError, match="is in use by another server"):
        FileLock(database).acquire()
    if not replaced:
        beside.unlink()
    assert lock.renew()
    assert not lock.renew()
    with pytest.raises(StoreError, match=rf"is in use by another server \(process {os.getpid()}\)"):
        FileLock(database).acquire()
    lock.release()
    assert not lock.renew()


def test_the_store_reports_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    database.mkdir()
    lock = FileLock(database)
    lock.acquire()
    with pytest.raises(IsADirectoryError):
        lock.acquire_database()
    lock.release()

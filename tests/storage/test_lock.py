"""One server per database, and no lock outlives its holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openred_central.storage.lock import FileLock
from openred_central.storage.store import StoreError

HOLD = """
import sys
from pathlib import Path
from openred_central.storage.lock import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_the_first_one_named(tmp_path: Path) -> None:
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


def test_what_an_earlier_holder_wrote_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "openred.db.lock").write_text("123456789\n")
    lock = FileLock(tmp_path / "openred.db")
    lock.acquire()
    assert (tmp_path / "openred.db.lock").read_text() == f"{os.getpid()}\n"
    lock.release()

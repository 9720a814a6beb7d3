"""Errors below the store are told in one line, with the true cause and what to do."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from openred_central.storage.sqlite import faults
from openred_central.storage.sqlite.faults import (
    ADVICE,
    ROOM_BYTES_MIN,
    Damage,
    lack_of_room,
    poisons,
    reported,
)
from openred_central.storage.store import DamageError, StoreError


def sqlite_error(code: int, message: str = "it failed") -> sqlite3.Error:
    """Return an error of `sqlite3` with one of SQLite's extended result codes."""
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


def told(error: Exception, path: Path) -> StoreError:
    with pytest.raises(StoreError) as told, reported("open", path):
        raise error
    assert told.value.__cause__ is error
    return told.value


def set_room(monkeypatch: pytest.MonkeyPatch, bytes_free: int) -> None:
    disk = SimpleNamespace(f_bavail=bytes_free // 4_096, f_frsize=4_096)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)


def set_limit(monkeypatch: pytest.MonkeyPatch, bytes_max: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (bytes_max, bytes_max))


@pytest.mark.parametrize("code", ADVICE)
def test_every_error_of_sqlite_comes_with_its_advice(code: int, tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    # The extended code tells more of the same.
    assert str(told(sqlite_error(code | 17 << 8), path)) == f"cannot open {path}: it failed; {ADVICE[code]}"


def test_an_unknown_error_points_to_the_log_of_the_system(tmp_path: Path) -> None:
    assert str(told(sqlite3.OperationalError("odd"), tmp_path / "a.db")).endswith("odd; see the system's log")


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_ERROR])
def test_every_error_of_a_full_disk_says_so(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_room(monkeypatch, ROOM_BYTES_MIN - 4_096)
    error = sqlite_error(code, "cannot commit - no transaction is active")
    assert str(told(error, tmp_path / "a.db")).endswith("is active; the disk is full: make room on it")
    set_room(monkeypatch, ROOM_BYTES_MIN)
    assert "disk is full" not in str(told(error, tmp_path / "a.db"))


def test_a_damaged_file_on_a_full_disk_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_room(monkeypatch, 0)
    assert "disk is full" not in str(told(sqlite_error(sqlite3.SQLITE_CORRUPT), tmp_path / "a.db"))


@pytest.mark.parametrize("name", ["a.db", "a.db-wal"])
def test_a_limit_of_file_sizes_is_reported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(bytes(10_000))
    set_limit(monkeypatch, 10_000 + ROOM_BYTES_MIN)
    assert lack_of_room(tmp_path / "a.db") is None
    set_limit(monkeypatch, 10_000 + ROOM_BYTES_MIN - 1)
    advice = f"no file of this server may grow beyond {10_000 + ROOM_BYTES_MIN - 1} bytes: raise that limit"
    assert advice in str(told(sqlite_error(sqlite3.SQLITE_IOERR_WRITE), tmp_path / "a.db"))


def test_no_limit_and_no_folder_are_no_lack_of_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_limit(monkeypatch, resource.RLIM_INFINITY)
    assert lack_of_room(tmp_path / "a.db") is None
    assert lack_of_room(tmp_path / "missing" / "a.db") is None


@pytest.mark.parametrize("number", sorted(faults.NO_ROOM))
def test_a_system_without_room_is_no_lack_of_permission(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert (
        str(told(OSError(number, "No room"), path)) == f"cannot open {path}: No room; make room on that disk"
    )


def test_errors_of_the_system_name_the_file(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/data/lock")
    assert "a.db: /data/lock: Permission denied; let the user of this" in str(told(error, tmp_path / "a.db"))


def test_damage_is_reported_as_damage(tmp_path: Path) -> None:
    error = told(Damage("row 7 is odd"), tmp_path / "a.db")
    assert isinstance(error, DamageError)
    assert "a.db: row 7 is odd; the file is damaged: restore it" in str(error)


def test_only_errors_of_the_disk_poison_a_connection() -> None:
    poisonous = [
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    ]
    harmless = [sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CONSTRAINT]
    assert [poisons(sqlite_error(code)) for code in poisonous] == [True] * len(poisonous)
    assert [poisons(sqlite_error(code)) for code in harmless] == [False] * len(harmless)
    assert not poisons(sqlite3.ProgrammingError("Cannot operate on a closed database."))
    assert not poisons(OSError())
    assert not poisons(None)

"""The exit code of a failed start says whether another try may help."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import ssl
from pathlib import Path

import pytest

from openred_central.exit_codes import ExitCode
from openred_central.listening import Certificate, StartError, listeners
from openred_central.server.server import exit_code
from openred_central.storage.sqlite.faults import reported
from openred_central.storage.sqlite.lock import FileLock
from openred_central.storage.store import StoreError


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("a message of SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (OSError(errno.ENOSPC, "no room"), ExitCode.FAILED),
        (OSError(errno.EDQUOT, "no room"), ExitCode.FAILED),
        (OSError(errno.EIO, "the disk"), ExitCode.FAILED),
        (OSError(errno.EMFILE, "descriptors"), ExitCode.FAILED),
        (OSError(errno.EACCES, "not allowed"), ExitCode.CONFIG),
        (OSError(errno.EROFS, "read-only"), ExitCode.CONFIG),
        (OSError(errno.ENOTDIR, "no folder"), ExitCode.CONFIG),
        (sqlite_error(sqlite3.SQLITE_BUSY), ExitCode.FAILED),
        (sqlite_error(sqlite3.SQLITE_FULL), ExitCode.FAILED),
        # An extended result code.
        (sqlite_error(sqlite3.SQLITE_IOERR_WRITE), ExitCode.FAILED),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), ExitCode.CONFIG),
        (sqlite_error(sqlite3.SQLITE_NOTADB), ExitCode.CONFIG),
        (sqlite_error(sqlite3.SQLITE_READONLY), ExitCode.CONFIG),
    ],
)
def test_a_failed_opening_is_judged_by_its_cause(cause: Exception, expected: int, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as raised, reported("open", tmp_path / "nodes.db"):
        raise cause
    assert exit_code(raised.value) == expected


def test_a_database_in_use_may_be_free_later(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "nodes.db"), FileLock(tmp_path / "nodes.db")
    first.acquire()
    with pytest.raises(StoreError) as raised:
        second.acquire()
    first.release()
    assert exit_code(raised.value) == ExitCode.FAILED


def listen(host: str, port: int = 0, unix_socket: str = "", **environment: str) -> StartError:
    with pytest.raises(StartError) as raised:
        listeners(host, port, unix_socket, backlog=5, environment=environment, process_id=os.getpid())
    return raised.value


def test_an_unavailable_address_passes_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert exit_code(listen("127.0.0.1", taken.getsockname()[1])) == ExitCode.FAILED
    assert exit_code(listen("203.0.113.1")) == ExitCode.FAILED
    assert exit_code(listen("nö..host")) == ExitCode.CONFIG
    assert exit_code(listen("127.0.0.1", unix_socket=str(tmp_path / "none" / "s"))) == ExitCode.CONFIG
    (tmp_path / "file").touch()
    assert exit_code(listen("127.0.0.1", unix_socket=str(tmp_path / "file"))) == ExitCode.CONFIG
    passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}
    assert exit_code(listen("127.0.0.1", **passed)) == ExitCode.CONFIG


def test_an_unusable_certificate_has_to_be_fixed(tmp_path: Path) -> None:
    with pytest.raises(StartError) as raised:
        Certificate(str(tmp_path / "none.pem"), str(tmp_path / "none.pem"))
    assert exit_code(raised.value) == ExitCode.CONFIG
    # TLS errors have numbers of their own: elsewhere, this one means a stale file handle.
    mismatch = StartError("key values mismatch")
    mismatch.__cause__ = ssl.SSLError(errno.ESTALE, "[X509: KEY_VALUES_MISMATCH]")
    assert exit_code(mismatch) == ExitCode.CONFIG


def test_an_error_without_a_cause_has_to_be_fixed() -> None:
    assert exit_code(StartError("there are no keys")) == ExitCode.CONFIG

"""Errors below a store: one line for the operator with what to do, and which of them spoil a connection."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..private_files import NO_ROOM, advice
from ..store import Damage, DamageError, PassingError, StoreError
from .schema import COMPANIONS, companion

# Advice by SQLite's primary result code.
ADVICE = {
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup, or move it away to start empty",
    sqlite3.SQLITE_NOTADB: "it is damaged or no database: restore it from a backup, or choose another path",
    sqlite3.SQLITE_READONLY: "let the user of this server write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "let the user of this server read and write the file and its folder",
    sqlite3.SQLITE_PERM: "let the user of this server read and write the file and its folder",
    sqlite3.SQLITE_FULL: "make room on that disk",
    sqlite3.SQLITE_IOERR: "the disk or its file system failed: see the system's log",
    sqlite3.SQLITE_BUSY: "another program is using it: let it finish or stop it",
}
# After one of these a connection cannot know what it has really written.
POISONOUS = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# The least that any step needs: eight pages of the log's index, a few of the log and of the file.
ROOM_BYTES_MIN = 64 * 1024


def result_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 for an error that is not SQLite's own."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def poisons(error: BaseException | None) -> bool:
    """Return whether the connection that raised `error` must not be used again."""
    return isinstance(error, sqlite3.Error) and result_code(error) in POISONOUS


@contextmanager
def reported(doing: str, path: Path) -> Iterator[None]:
    """Raise `StoreError` for errors of SQLite and of the system, with the error as its cause.

    `Damage` becomes `DamageError`. `doing` is a verb, `path` the database.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = result_code(error)
        # SQLite shows a file system without room in many ways, some of them misleading.
        room = None if code in ADVICE and code != sqlite3.SQLITE_IOERR else lack_of_room(path)
        kind = PassingError if room else StoreError
        what_to_do = room or ADVICE.get(code, "see the system's log")
        raise kind(f"cannot {doing} {path}: {error}; {what_to_do}") from error
    except Damage as error:
        raise DamageError(f"cannot {doing} {path}: {error}; {ADVICE[sqlite3.SQLITE_CORRUPT]}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        room = lack_of_room(path) if error.errno in NO_ROOM else None
        raise StoreError(
            f"cannot {doing} {path}: {where}{error.strerror}; {room or advice(error)}"
        ) from error


def lack_of_room(path: Path) -> str | None:
    """Return what keeps the database at `path` from growing, and what to do; None where it may grow."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return None
    if disk.f_bavail * disk.f_frsize < ROOM_BYTES_MIN:
        return "the disk is full: make room on it"
    bytes_max, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if bytes_max == resource.RLIM_INFINITY:
        return None
    files = (path, *(companion(path, ending) for ending in COMPANIONS))
    largest = max((file.stat().st_size for file in files if file.exists()), default=0)
    if largest + ROOM_BYTES_MIN > bytes_max:
        return f"no file of this server may grow beyond {bytes_max} bytes: raise that limit (ulimit -f)"
    return None

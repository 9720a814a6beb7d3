"""Checks of the files of an open database: by what they are, not by their names.

If a file is removed, replaced or cut, no call fails: the process keeps writing to a file that no other
process finds, or SQLite serves from memory until nothing fits together.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
from pathlib import Path

from ..store import StoreError
from .schema import PAGE_BYTES, companion

log = logging.getLogger("openred.storage")

ENDINGS = ("-wal", "-shm")
LOG_BYTES_WARNED = 64 * 1024 * 1024
LOG_BYTES_MAX = 1024 * 1024 * 1024
HELD_LOG = "a program that reads the database keeps it from being shortened: find that program and end it"


class Companions:
    """The log and its index, as the connection to the database at `path` has just opened them."""

    def __init__(self, path: Path) -> None:
        self._log = companion(path, "-wal")
        # While they are open no other file can have their numbers.
        self._opened = [(file, os.stat(file)) for file in (companion(path, ending) for ending in ENDINGS)]

    def lost(self) -> Path | None:
        """Return the first of them whose name leads to another file or to none. Raises `OSError`."""
        for file, status in self._opened:
            try:
                if not os.path.samestat(status, os.stat(file)):
                    return file
            except FileNotFoundError:
                return file
        return None

    def measure_log(self) -> int:
        """Return the size of the log in bytes; 0 where it is gone. Raises `OSError`."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0


class FileLength:
    """The length of the open database at `path`, as it was last seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = 0

    def check(self, descriptor: int, connection: sqlite3.Connection) -> None:
        """Raise `StoreError` where a part of the open file `descriptor` was cut off.

        `connection` knows the required length: a VACUUM makes the file shorter, too.
        """
        found = os.fstat(descriptor).st_size
        if found < self._bytes and found < _bytes_expected(connection):
            raise StoreError(
                f"{self._path} was cut to {found} bytes of {self._bytes}: another program has written into "
                "it; stop this server, and put a whole database in its place, such as the newest snapshot"
            )
        self._bytes = found


class LogSize:
    """The size in bytes of the log of the database at `path`, as it was last seen.

    Only a reader that does not end lets the log grow beyond its usual size: SQLite must keep what the reader
    may still look at. The operator is warned early. At the second limit no more is written, because a full
    disk would harm other programs, too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._warned = False
        self.bytes = 0

    @property
    def is_long(self) -> bool:
        """True if only a reader can have kept the log from being shortened."""
        return self.bytes > LOG_BYTES_WARNED

    def update(self, log_bytes: int) -> None:
        """Take in the present size, and warn the operator when it passes the first limit."""
        self.bytes = log_bytes
        if self.is_long and not self._warned:
            self._warned = True
            log.warning(
                "the log of %s has grown to %d bytes: %s; beyond %d bytes no more changes are taken",
                self._path,
                log_bytes,
                HELD_LOG,
                LOG_BYTES_MAX,
            )
        elif self._warned and not self.is_long:
            self._warned = False
            log.warning("the log of %s is short again: %d bytes", self._path, log_bytes)

    def refuse_more(self) -> None:
        """Raise `StoreError` where the log must not grow any more."""
        if self.bytes > LOG_BYTES_MAX:
            raise StoreError(
                f"the log of {self._path} has {self.bytes} bytes, allowed are {LOG_BYTES_MAX}: {HELD_LOG}"
            )


def _bytes_expected(connection: sqlite3.Connection) -> float:
    """Return the length the file must have; infinity where too little is left to read it."""
    try:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    except sqlite3.DatabaseError:
        return math.inf
    return float(pages * PAGE_BYTES)

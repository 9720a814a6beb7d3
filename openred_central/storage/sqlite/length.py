"""Whether the database was cut while it is in use, as a program does that writes a copy over it.

The connection does not notice: what it needs is in its memory or in the log, until nothing fits together.
"""

from __future__ import annotations

import math
import os
import sqlite3
from pathlib import Path

from ..store import StoreError
from .schema import PAGE_BYTES


class Length:
    """The length of the open database at `path`, in bytes, as it was last seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = 0

    def see(self, descriptor: int, connection: sqlite3.Connection) -> None:
        """Look at the open file `descriptor`. Raises `StoreError` where a part of it was cut off.

        `connection` tells how long it has to be: whoever makes it compact makes it shorter, too.
        """
        found = os.fstat(descriptor).st_size
        if found < self._bytes and found < _bytes_expected(connection):
            raise StoreError(
                f"{self._path} was cut to {found} bytes of {self._bytes}: somebody has written into it; "
                "stop this server, and put a whole database in its place, such as the newest snapshot"
            )
        self._bytes = found


def _bytes_expected(connection: sqlite3.Connection) -> float:
    """How long the file has to be; infinite where so much is missing that not even that can be read."""
    try:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    except sqlite3.DatabaseError:
        return math.inf
    return float(pages * PAGE_BYTES)

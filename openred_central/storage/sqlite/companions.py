"""The files that SQLite keeps open beside a database, by what they are and not by their names.

Where one of them is removed, or another file gets its name, nothing fails: this process goes on writing into
what nobody else will ever find.
"""

from __future__ import annotations

import os
from pathlib import Path

from .schema import companion

ENDINGS = ("-wal", "-shm")


class Companions:
    """The log and its index, as the connection to the database at `path` has just opened them."""

    def __init__(self, path: Path) -> None:
        self._log = companion(path, "-wal")
        # As long as they are open no other file can have their numbers.
        self._opened = [(file, os.stat(file)) for file in (companion(path, ending) for ending in ENDINGS)]

    def lost(self) -> Path | None:
        """The first of them whose name leads to it no more. Raises `OSError` where that cannot be seen."""
        for file, status in self._opened:
            try:
                if not os.path.samestat(status, os.stat(file)):
                    return file
            except FileNotFoundError:
                return file
        return None

    @property
    def log_bytes(self) -> int:
        """The size of the log; 0 where it is gone. Raises `OSError` where that cannot be seen."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

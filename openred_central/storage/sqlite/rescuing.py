"""Copy a database that lost its name while in use: its content would end with the process."""

from __future__ import annotations

import os
import sqlite3
from itertools import count
from pathlib import Path

from ..private_files import written_whole
from .connecting import truncate_log
from .lock import FileLock

STEP_BYTES = 1024 * 1024
BACK = "put that very file back, no copy"


class Rescue:
    """The rescue, made once, of what the server has saved in the database at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: Path | None = None

    def make(self, lock: FileLock, connection: sqlite3.Connection | None) -> str:
        """Bring all commits into the file that `lock` has open, and copy it where it has no name.

        `connection` is the one that has the log open, if there is one. Return what the operator is to do.
        """
        descriptor = lock.database_descriptor
        try:
            is_whole = connection is not None and truncate_log(connection, wait=False)
            if self._kept is None and is_whole and descriptor is not None:
                self._kept = keep_copy(descriptor, self._path)
        except (sqlite3.Error, OSError) as error:
            return f"{BACK}; the saved data could not be copied: {error}"
        if self._kept is None:
            return BACK
        return (
            f"the saved data is in {self._kept}: stop this server, and put that file in the place of the "
            "database"
        )


def keep_copy(descriptor: int, database: Path) -> Path | None:
    """Copy the open file `descriptor` to `<database>.lost-<n>`, and return that; None if it has a name.

    No part of it may be in a log. Raises `OSError`.
    """
    if os.fstat(descriptor).st_nlink:
        return None
    names = (database.with_name(f"{database.name}.lost-{number}") for number in count(1))
    kept = next(name for name in names if not name.exists())
    with written_whole(kept, replace=False) as copy, copy.open("wb") as target:
        while piece := os.pread(descriptor, STEP_BYTES, target.tell()):
            target.write(piece)
    return kept

"""One server per database: a lock that lives exactly as long as the process that holds it.

The lock is `flock` on a file of its own beside the database, because

- the kernel lets go of it when the process ends, however it ends, so that `kill -9` leaves nothing stale;
  the file stays, and its presence means nothing;
- it survives a change of the database file (a snapshot renamed into place), which a lock on that file does
  not, and SQLite's own locks on the database are lost when any other descriptor of that file is closed;
- SQLite's exclusive locking mode would shut out readers too: online backup, `verify`, the sqlite3 shell.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .ownership import give
from .store import StoreError

HOLDER_BYTES_MAX = 32


class FileLock:
    """The right to be the only server on the database at `database`."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether it was taken and not let go."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock. Raises `StoreError` where another process, or another store of this one, has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give(self._path, self._database if self._database.exists() else self._path.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, HOLDER_BYTES_MAX, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreError(
                f"{self._database} is in use by another server (process {holder or 'unknown'}); "
                "stop that one first, or choose another database"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the lock; harmless where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

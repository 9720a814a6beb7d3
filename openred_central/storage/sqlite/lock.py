"""One server per database: locks that live exactly as long as the process that holds them.

The lock is `flock`, on a file of its own beside the database and on the database itself, because

- the kernel releases it when the process ends, however it ends, so that `kill -9` leaves nothing stale;
  the file stays, and its presence means nothing;
- the file beside it survives a change of the database file (a snapshot renamed into place);
- the database itself has one lock under all its names: hard links, and mounts in several containers, each of
  which would have a write-ahead log of its own;
- SQLite's exclusive locking mode would shut out readers too: online backup, `verify`, the sqlite3 shell.

SQLite loses its own locks on the database when any other descriptor of that file is closed. So our descriptor
is closed when no connection is left.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..private_files import give, refuse_links
from ..store import PassingError

HOLDER_BYTES_MAX = 32
# Behind the bytes of a database that SQLite locks (SQLite file format §1.4).
UNUSED_BYTE = 0x40000000 + 1_024


class FileLock:
    """The right to be the only server on the database at `database`.

    `name` is the operator's path to that file, such as a symbolic link.
    """

    def __init__(self, database: Path, name: Path | None = None) -> None:
        self._database = database
        # A link can get another target, and a process another working folder.
        self._name = Path(os.path.abspath(name or database))
        self._path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None
        self._database_descriptor: int | None = None
        self._counts_links = False

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    @property
    def database_descriptor(self) -> int | None:
        """The locked descriptor of the database; None where there is no database yet."""
        return self._database_descriptor

    def acquire(self) -> None:
        """Take the lock. Raises `PassingError` where another process, or another store here, holds it."""
        self._descriptor = self._lock_beside()
        try:
            # If the file cannot be opened, the store reports why when it opens the file next.
            with suppress(OSError):
                self.acquire_database()
        except BaseException:
            self.release()
            raise

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock during the block. Raises as `acquire`."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire_database(self) -> None:
        """Take the lock on the database itself, if that is not taken yet.

        Raises `PassingError` where another process holds it, by whatever name, and `OSError` where the file
        cannot be opened.
        """
        if self._database_descriptor is not None:
            return
        descriptor = os.open(self._database, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _shuts_out_sqlite(descriptor):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        except BlockingIOError:
            os.close(descriptor)
            raise PassingError(
                f"{self._database} is in use by another server under another name of the same file (a hard "
                "link, or a mount in another container); stop that one first, or choose another database"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        self._database_descriptor = descriptor
        # Some file systems do not count links.
        self._counts_links = os.fstat(descriptor).st_nlink > 0

    def find_loss(self) -> str | None:
        """Return how the database has ceased to be the locked file; None while its name leads to it.

        Any thread may call this. Raises `OSError`.
        """
        descriptor = self._database_descriptor
        if descriptor is None:
            return None
        held = os.fstat(descriptor)
        try:
            there = os.stat(self._name)
        except FileNotFoundError:
            return "is gone: it was removed or renamed"
        if not os.path.samestat(held, there):
            return "was replaced: another file has its name"
        # If the file alone is mounted, its name stays after the file was removed outside.
        if self._counts_links and not held.st_nlink:
            return "is gone: it was removed outside of this container"
        return None

    def renew(self) -> bool:
        """Make the lock file again, and return True, where it is gone or was replaced.

        No other server can have started meanwhile: the lock on the database was held all along.
        """
        if self._descriptor is None or _is_at(self._descriptor, self._path):
            return False
        descriptor = self._lock_beside()
        os.close(self._descriptor)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock; harmless where it is not held."""
        descriptors = (self._database_descriptor, self._descriptor)
        self._database_descriptor = self._descriptor = None
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)

    def _lock_beside(self) -> int:
        # This may be root, acting in a folder of a user who has put a link there: never write through it.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            refuse_links(os.fstat(descriptor), self._path)
            give(self._path, self._database if self._database.exists() else self._path.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, HOLDER_BYTES_MAX, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise PassingError(
                f"{self._database} is in use by another server (process {holder or 'unknown'}); "
                "stop that one first, or choose another database"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _shuts_out_sqlite(descriptor: int) -> bool:
    """Return whether the lock on a database shuts out SQLite's own locks, as on NFS (flock(2)).

    There a second name is not refused, and one server can run all the same.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, UNUSED_BYTE)
    except (BlockingIOError, PermissionError):
        return True
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, UNUSED_BYTE)
    return False


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether `path` still leads to the open file `descriptor`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False

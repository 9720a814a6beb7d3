"""Folders for files that are being made, which nobody may take for finished ones.

A file is made in a folder of its own and renamed out of it, or the folder itself is renamed, when all is
complete and on the disk. A process that is killed leaves its folder behind; whoever works there next takes
it away. Whether a folder still has its process is told by a lock on it, which the kernel lets go when the
process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .ownership import give

# No snapshot and no database is called so.
PREFIX = ".openred-unfinished-"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, for us alone; what is still in it at the end goes away with it.

    Raises `OSError` where it cannot be made.
    """
    clear(parent)
    folder, descriptor = _make(parent)
    try:
        yield folder
    finally:
        # It may have been renamed: then it is finished, and no longer ours to remove.
        _remove(folder)
        os.close(descriptor)


def clear(parent: Path) -> None:
    """Remove what killed processes have left in `parent`."""
    for folder in parent.glob(f"{PREFIX}*"):
        descriptor = _lock(folder)
        if descriptor is not None:
            _remove(folder)
            os.close(descriptor)


def discard(folder: Path) -> None:
    """Remove a finished `folder` so that it is never seen half removed, not even after a crash."""
    condemned = _new(folder.parent)
    folder.rename(condemned)
    _remove(condemned)


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        folder = _new(parent)
        descriptor = _lock(folder)
        # Another process may have taken it for a left one before it was locked.
        if descriptor is not None and folder.exists():
            return folder, descriptor
        if descriptor is not None:
            os.close(descriptor)


def _new(parent: Path) -> Path:
    # Here and not above, as `shutil` below: both take 2 ms, and a start looks only whether something is left.
    from tempfile import mkdtemp

    folder = Path(mkdtemp(prefix=PREFIX, dir=parent))
    give(folder, parent)
    return folder


def _remove(folder: Path) -> None:
    from shutil import rmtree

    rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the lock of `folder`.

    None where another process has it, where it is another user's, or where it is gone.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor

"""Private files of the server: mode 0600, the right owner, written whole or not at all.

A new file is made in a scratch folder beside its destination, synced, and renamed out of it. A killed process
leaves its scratch folder behind, and the next process that works there removes it. A lock on the folder shows
that its process lives: the kernel releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# No snapshot and no database has such a name.
PREFIX = ".openred-unfinished-"
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def written_whole(path: Path, *, owner_of: Path | None = None, replace: bool = True) -> Iterator[Path]:
    """Yield a new private file that becomes `path` at the end of the block, after it was synced.

    If the block raises, `path` stays as it was. `owner_of` names the file or folder whose owner gets the new
    file, see `give`. With `replace` false, an existing `path` raises `FileExistsError`. Raises `OSError` with
    `path` as its file name.
    """
    try:
        with scratch_folder(path.parent) as scratch:
            new = scratch / path.name
            os.close(create_file(new))
            yield new
            sync(new)
            if owner_of is not None:
                give(new, owner_of)
            if replace:
                new.rename(path)
            else:
                _place_new(new, path)
        sync(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: Path, content: bytes, *, owner_of: Path | None = None, replace: bool = True) -> None:
    """Write `content` to the private file `path`, durably before this returns. See `written_whole`."""
    with written_whole(path, owner_of=owner_of, replace=replace) as new:
        new.write_bytes(content)


def describe(error: OSError, path: Path) -> str:
    """Return one line for the operator: the file, what the system reports, and what to do.

    `path` is the file to name where `error` names none.
    """
    return f"{error.filename or path}: {error.strerror or error}; {advice(error)}"


def advice(error: OSError) -> str:
    """Return what the operator can do about `error`."""
    if error.errno in NO_ROOM:
        return "make room on that disk"
    if error.errno == errno.EEXIST:
        return "remove it, or choose another path"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "create it, or choose another path"
    return "let the user of this program read and write it and its folder, or choose another path"


def create_file(path: Path) -> int:
    """Create the private file `path`, and return its descriptor for reading and writing.

    Raises `FileExistsError` where the name is taken, also by a link.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def create_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, mode 0700, each durably before this returns."""
    if folder.is_dir():
        return
    create_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    give(folder, folder.parent)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Bring the content of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give(made: Path, like: Path) -> None:
    """Make the owner of `like` the owner of `made`, if this process is root's.

    Other users own what they make, and cannot give it away. Raises `OSError`, also where `made` has become a
    link: the user may have put it there, and must not be given its target.
    """
    if os.geteuid() != 0:
        return
    owner = like.stat()
    descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISDIR(found.st_mode):
            refuse_links(found, made)
        # A unit's filter of system calls refuses any change of owner, also one that changes nothing.
        if (owner.st_uid, owner.st_gid) != (found.st_uid, found.st_gid):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)


def refuse_links(found: os.stat_result, path: Path) -> None:
    """Raise `OSError` unless `found`, the status of `path`, is that of a regular file with one name."""
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EPERM, "this is no regular file, or has another name as well", str(path))


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new private folder in `parent`; the rest of its content is removed with it at the end.

    Raises `OSError` where it cannot be made.
    """
    clear(parent)
    folder, descriptor = _make_scratch(parent)
    try:
        # Not before it is locked: another process may remove it until then.
        give(folder, parent)
        yield folder
    finally:
        # A renamed folder is finished, and stays.
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def clear(parent: Path) -> None:
    """Remove the scratch folders of killed processes in `parent`."""
    for folder in parent.glob(f"{PREFIX}*"):
        descriptor = _lock(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def discard(folder: Path) -> None:
    """Remove a finished `folder` so that no crash leaves a part of it under its name."""
    condemned = _new_folder(folder.parent)
    # Another process may have removed it.
    with suppress(FileNotFoundError):
        folder.rename(condemned)
    shutil.rmtree(condemned, ignore_errors=True)


def _place_new(new: Path, path: Path) -> None:
    """Give the file `new` the name `path`. Raises `FileExistsError` where that is taken."""
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:
        # FAT and some network file systems have no hard links.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        new.rename(path)


def _make_scratch(parent: Path) -> tuple[Path, int]:
    while True:
        folder = _new_folder(parent)
        descriptor = _lock(folder)
        # Another process may have removed it before it was locked.
        if descriptor is not None and folder.exists():
            return folder, descriptor
        if descriptor is not None:
            os.close(descriptor)


def _new_folder(parent: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))


def _lock(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of `folder`.

    None where another process holds it, where the folder is another user's, or where it is gone.
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

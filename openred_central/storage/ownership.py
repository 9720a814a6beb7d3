"""Gives files that root makes beside a server of another user to that user."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def give(made: Path, like: Path) -> None:
    """Let `made` belong to the owner of `like`, where root made it.

    Anybody but root makes files that are their own, and cannot give them away. Raises `OSError`, also where
    `made` has become a link: the user may put one there, and is not to be given what it leads to.
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
    """Raise `OSError` unless what was `found` at `path` is a regular file that has no other name."""
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EPERM, "this is no regular file, or has another name as well", str(path))

"""Gives files that root makes beside a server of another user to that user."""

from __future__ import annotations

import os
from pathlib import Path


def give(made: Path, like: Path) -> None:
    """Let `made` belong to the owner of `like`, where root made it.

    Anybody but root makes files that are their own, and cannot give them away. Raises `OSError`.
    """
    if os.geteuid() == 0:
        owner, made_by = like.stat(), made.lstat()
        # A unit's filter of system calls refuses any change of owner, also one that changes nothing.
        if (owner.st_uid, owner.st_gid) != (made_by.st_uid, made_by.st_gid):
            os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=False)

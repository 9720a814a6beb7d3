"""The exit codes of every command."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended. A service manager starts a server again after `FAILED`, not after `CONFIG`."""

    DONE = 0
    # Also a start that may succeed later: another process holds the port or the database, the disk is full.
    FAILED = 1
    USAGE = 2
    UNREACHED = 3
    LATER = 4
    # The server cannot start until the operator fixes a setting or a file: EX_CONFIG of sysexits.h.
    CONFIG = 78
    INTERRUPTED = 130

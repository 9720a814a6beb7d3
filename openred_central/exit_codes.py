"""Which exit code a failed start ends with: one that lets a service manager try again, or one that does not.

A cause that passes by itself is worth another try: a port or a database that another process still has, an
address that comes up later, a disk without room. Everything else stays as it is until somebody mends a
setting or a file: to try that every two seconds fills logs and mends nothing.
"""

from __future__ import annotations

import errno
import sqlite3
import ssl
from typing import Final

from .storage.sqlite.faults import result_code
from .storage.store import PassingError

FAILED: Final = 1
# EX_CONFIG of sysexits.h.
TO_BE_MENDED: Final = 78

_PASSING_ERRORS: Final = frozenset(
    {
        *(errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENOBUFS, errno.ETIMEDOUT),
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EBUSY),
        *(errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    }
)
_PASSING_RESULTS: Final = frozenset(
    {
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL),
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL),
    }
)


def exit_code(error: BaseException) -> int:
    """The exit code for a start that ended with `error`, judged by that and by what caused it."""
    cause: BaseException | None = error
    while cause is not None:
        if _passes(cause):
            return FAILED
        cause = cause.__cause__
    return TO_BE_MENDED


def _passes(error: BaseException) -> bool:
    if isinstance(error, PassingError):
        return True
    if isinstance(error, sqlite3.Error):
        return result_code(error) in _PASSING_RESULTS
    # The numbers of TLS errors are their own.
    return (
        isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno in _PASSING_ERRORS
    )

"""How long the log has grown: only a reader that does not end lets it grow beyond its usual size.

SQLite cannot shorten the log before what a reader may still look at, and cannot end a reader. So it is told
early, and at the second bound no more is written: a full disk would harm others too.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ..store import StoreError

log = logging.getLogger("openred.storage")

LOG_BYTES_WARNED = 64 * 1024 * 1024
LOG_BYTES_MAX = 1024 * 1024 * 1024
ADVICE = "a program that reads the database keeps it from being shortened: find that one and end it"


class LogSize:
    """The size of the log of the database at `path` in bytes, as it was last seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = False
        self.bytes = 0

    @property
    def is_long(self) -> bool:
        """Whether it is so long that a reader must hold it."""
        return self.bytes > LOG_BYTES_WARNED

    def see(self, log_bytes: int) -> None:
        """Take in the size of this moment, and tell the operator where it passes the first bound."""
        self.bytes = log_bytes
        if self.is_long and not self._told:
            self._told = True
            log.warning(
                "the log of %s has grown to %d bytes: %s; at %d bytes no more changes are taken",
                self._path,
                log_bytes,
                ADVICE,
                LOG_BYTES_MAX,
            )
        elif self._told and not self.is_long:
            self._told = False
            log.warning("the log of %s is short again: %d bytes", self._path, log_bytes)

    def refuse_more(self) -> None:
        """Raise `StoreError` where the log may not grow any more."""
        if self.bytes > LOG_BYTES_MAX:
            raise StoreError(
                f"the log of {self._path} has {self.bytes} bytes, allowed are {LOG_BYTES_MAX}: {ADVICE}"
            )

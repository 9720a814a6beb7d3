"""Wipes deleted records out of the files: out of the database and the log.

In the database SQLite overwrites deleted rows (`secure_delete`). The log holds former pages of the file until
it is written over. So it is copied into the database and emptied, between commits.

SQLite does not overwrite the former place of a record that it moved when it split or joined pages. Only a
VACUUM reaches that place, and it would hold up commits for seconds.
"""

from __future__ import annotations

import logging
import sqlite3

from .connecting import truncate_log

log = logging.getLogger("openred.storage")

# However often records are deleted, the log is emptied no more often than this.
WIPE_INTERVAL_S = 4.0
# The operator is warned of a reader that keeps the log from being emptied for longer than this.
HELD_S = 10.0


class Wiper:
    """Wipes the files behind `connection`. Raises errors of SQLite as they are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # The log may still hold records that were deleted before a kill.
        self._wanted = True
        self._wiping = False
        self._held = False
        self._began_s: float | None = None
        self._warned = False

    def want(self) -> None:
        self._wanted = True

    @property
    def due(self) -> bool:
        """True if `step` has something to do now."""
        return self._wiping and not self._held

    def look(self, now_s: float) -> None:
        """Begin where something was deleted, or go on where a reader was in the way.

        `now_s` is monotonic time. Call this about once a second.
        """
        began_s = self._began_s
        if self._wiping:
            self._held = False
            if began_s is not None and now_s - began_s > HELD_S and not self._warned:
                self._warned = True
                log.warning(
                    "forgotten records are still in the log of the database after %g s: a program that reads "
                    "the database keeps it from being emptied; find that program and end it",
                    HELD_S,
                )
        elif self._wanted and (began_s is None or now_s - began_s >= WIPE_INTERVAL_S):
            self._wanted, self._began_s, self._wiping = False, now_s, True

    def step(self) -> None:
        """Empty the log, unless a program still reads an earlier state of the database."""
        if not self._wiping:
            return
        try:
            self._held = not truncate_log(self._connection, wait=False)
        except BaseException:
            self._wiping, self._wanted = False, True
            raise
        if self._held:
            return
        self._wiping = False
        if self._warned:
            self._warned = False
            log.warning("forgotten records are out of the log of the database")

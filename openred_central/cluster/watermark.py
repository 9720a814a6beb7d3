"""The latest state of the database that a run has seen, to know one that is of long ago. Pure."""

from __future__ import annotations

from typing import Final

from ..storage.postgres.leasing import LeaseRow

# A database that went back further was restored from a backup, or is the wrong one: an operator decides.
BACK_S_MAX: Final = 600.0


class Watermark:
    """The latest row that was seen. The wall times of leaders only tell how far a database went back."""

    def __init__(self) -> None:
        self._latest: LeaseRow | None = None

    def refuses(self, row: LeaseRow) -> bool:
        """Note the row as it was just read; return whether it is of a time long before the latest one."""
        latest = self._latest
        if latest is None or (row.term, row.renewals) >= (latest.term, latest.renewals):
            self._latest = row
            return False
        return latest.at - row.at > BACK_S_MAX

    def accept(self) -> None:
        """Take the next row as it is."""
        self._latest = None

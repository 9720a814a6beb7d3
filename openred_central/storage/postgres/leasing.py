"""The row of the cluster: who leads, since which commit; and what a fenced statement may meet. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..store import NotLeading, PassingError, StoreError


class LeaseRow(NamedTuple):
    """The one row that says who leads.

    `lineage` names the database, `holder` the run that leads, "" for none. `renewals` grows with each commit
    and each renewal. `seq` is the number of the last commit, `tag` was drawn for it. `at` is the wall time of
    the last holder, `attended_s` the attended time there. `leader` describes the holder: name, address,
    version; it is empty without one.
    """

    lineage: str
    term: int
    holder: str
    renewals: int
    seq: int
    tag: int
    at: float
    attended_s: float
    leader: Mapping[str, Any]


class Fenced(NotLeading):
    """Another run leads, or led since: this run must not write."""


class Conflict(StoreError):
    """The rows in the database are not those that the copy of the directory in this run comes from.

    Somebody has changed them by hand, so the next commits would be refused as well.
    """


class RolledBack(PassingError):
    """The run still holds its term, but the database is at an earlier commit, or at one of another tag.

    `seq` is where the database is; `common_s` is how many seconds ago that was the last commit of this run,
    None if it never was.
    """

    def __init__(self, seq: int, common_s: float | None) -> None:
        ago = "" if common_s is None else f", the last commit of this run {common_s:.1f} s ago"
        super().__init__(f"the database went back to commit {seq}{ago}")
        self.seq = seq
        self.common_s = common_s

"""The lease as a pure machine: what one run knows of who leads, and when it may lead itself.

All times are elapsed seconds of this machine (`Clock.elapsed_s`): no wall clock, neither of this machine nor
of the database, says anything about a lease. The times keep the peace between runs. Safety is the business of
the database, which takes a statement of the latest holder alone.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import NamedTuple

from ..storage.postgres.leasing import LeaseRow


class Role(Enum):
    """The part that a run plays at present.

    `CATCHING_UP`: it holds the lease and does not lead yet. `WITHOUT_LEASE`: it led, its lease has run out,
    and nobody else was seen to lead; its parts stay, and nothing changes.
    """

    FOLLOWER = "follower"
    CATCHING_UP = "catching up"
    LEADER = "leader"
    WITHOUT_LEASE = "without lease"


class LeaseTimes(NamedTuple):
    """How long things may take, in seconds.

    A holder believes itself leader for `valid_s` after it sent the last statement that succeeded. A candidate
    takes the lease that it has seen unchanged for `idle_s`, or `behind_s` later if its replica is behind. One
    with other settings than the former leader takes any lease `differs_s` later: all others have looked by
    then. A candidate that has not looked for `gap_s` begins to count anew: so the holder has its time when
    the database was away for both. Candidates look each `watch_s`; a holder renews each `renew_s`, until its
    main loop has not shown itself for `shown_s`.
    """

    valid_s: float
    idle_s: float
    behind_s: float
    differs_s: float
    gap_s: float
    watch_s: float
    renew_s: float
    shown_s: float


def lease_times(ttl_s: float) -> LeaseTimes:
    """Return the times that belong to a lease of `ttl_s`, with a margin of a fifth on either side."""
    return LeaseTimes(
        valid_s=0.8 * ttl_s,
        idle_s=1.2 * ttl_s,
        behind_s=0.12 * ttl_s,
        differs_s=0.4 * ttl_s,
        gap_s=0.4 * ttl_s,
        watch_s=0.1 * ttl_s,
        renew_s=0.16 * ttl_s,
        shown_s=0.8 * ttl_s,
    )


class Lease:
    """The knowledge of one run, `run`, about the lease.

    `row` is what was read last, None where it is known to be otherwise by now. `term` is the term that this
    run holds, None for none. `term_highest` and `attended_s` are the highest that were ever seen, which the
    row of a database that went back is not.
    """

    def __init__(self, run: str, times: LeaseTimes, *, may_lead: bool) -> None:
        self.run = run
        self.may_lead = may_lead
        self.row: LeaseRow | None = None
        self.term: int | None = None
        self.term_highest = 0
        self.attended_s = 0.0
        self._times = times
        self._caught_up = False
        self._valid_until_s = self._refrains_until_s = -inf
        # The row was first seen as it is then, and last looked at then.
        self._changed_s = self._looked_s = -inf

    def role(self, now_s: float) -> Role:
        """Return the role at `now_s`."""
        if self.term is None:
            return Role.FOLLOWER
        if not self._caught_up:
            return Role.CATCHING_UP
        return Role.LEADER if self.is_valid(now_s) else Role.WITHOUT_LEASE

    def is_valid(self, now_s: float) -> bool:
        """Return whether this run may believe at `now_s` that it holds the lease."""
        return now_s < self._valid_until_s

    def may_change(self, now_s: float) -> bool:
        """Return whether this run may change records at `now_s`."""
        return self._caught_up and self.is_valid(now_s)

    def idle_s(self, now_s: float) -> float:
        """Return for how long the row has been seen without a change."""
        return now_s - self._changed_s

    def observe(self, row: LeaseRow, now_s: float, *, behind: bool = False, differs: bool = False) -> bool:
        """Take the row as it was just read; return whether to take the lease from what it shows.

        `behind` says that the replica of this run lacks commits that the row counts, `differs` that the last
        leader had other settings than this run.
        """
        known, self.row = self.row, row
        looked_s, self._looked_s = self._looked_s, now_s
        self.term_highest = max(self.term_highest, row.term)
        self.attended_s = max(self.attended_s, row.attended_s)
        if known is None or now_s - looked_s > self._times.gap_s or _leading(known) != _leading(row):
            self._changed_s = now_s
        if self.term is not None:
            # A lower term was read before this run took its own, or the database went back: then the
            # next statement finds out whether this run leads there.
            if row.term > self.term or (row.term == self.term and row.holder != self.run):
                self._step_down()
            return False
        if not self.may_lead or now_s < self._refrains_until_s:
            return False
        later_s = self._times.differs_s if differs else 0.0
        # Nobody leads: not even this run, whose answer to the taking of that term is lost. Where the
        # database went back, a leader of the higher term may still be at work.
        if row.holder in ("", self.run) and row.term == self.term_highest:
            return self.idle_s(now_s) >= later_s
        return self.idle_s(now_s) > self._times.idle_s + (self._times.behind_s if behind else 0.0) + later_s

    def took(self, term: int, sent_s: float) -> None:
        """Note that this run took the lease for `term`, by a statement that was sent at `sent_s`."""
        if term < self.term_highest or not self.may_lead:
            return
        self._caught_up = False
        self._valid_until_s = -inf
        self._hold(term, sent_s)

    def took_again(self, term: int, sent_s: float) -> None:
        """Note that this run, which held a term that the database has forgotten, holds `term` instead."""
        if self.term is not None and term >= self.term_highest:
            self._hold(term, sent_s)

    def _hold(self, term: int, sent_s: float) -> None:
        self.term = self.term_highest = term
        if self.row is not None:
            self.row = self.row._replace(term=term, holder=self.run)
        self.succeeded(term, sent_s)

    def succeeded(self, term: int, sent_s: float) -> None:
        """Note that a commit or a renewal of `term` succeeded, which was sent at `sent_s`."""
        if term == self.term:
            self._valid_until_s = max(self._valid_until_s, sent_s + self._times.valid_s)

    def fenced(self, term: int) -> None:
        """Note that a statement of `term` was refused, because this run is not the holder any more."""
        if term == self.term:
            self._step_down()

    def caught_up(self, term: int) -> None:
        """Note that this run knows all that was committed before `term`, and can lead in it."""
        if term == self.term:
            self._caught_up = True

    def give_up(self, until_s: float) -> None:
        """Lead no more, and leave the lease to others until `until_s`."""
        self._refrains_until_s = until_s
        self._step_down()

    def end(self) -> None:
        """Lead no more, for good."""
        self.may_lead = False
        self._step_down()

    def _step_down(self) -> None:
        # The holder now has to be read first.
        if self.row is not None and self.row.holder == self.run:
            self.row = None
        self.term = None
        self._caught_up = False
        self._valid_until_s = -inf


def _leading(row: LeaseRow) -> tuple[int, str, int]:
    return row.term, row.holder, row.renewals

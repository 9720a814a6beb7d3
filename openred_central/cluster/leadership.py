"""The task by which this run leads, or sees who does: it drives the lease over a database that may be away.

Calls to the database block, so they run in threads. None is waited for by the task itself: a database that
hangs holds up nothing. While this run holds the lease, the thread of the store renews it, as long as
`shown_s` tells that this task still has its turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

from ..clock import Clock
from ..storage.postgres.leasing import Conflict, Fenced, LeaseRow, RolledBack
from ..storage.store import StoreError
from ..wording import rfc3339
from .lease import Lease, LeaseTimes, Role
from .watermark import Watermark

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

log = logging.getLogger("openred.cluster")

# A term begins so much later than the own wall clock at most: clocks of other machines may be wrong.
AHEAD_S_MAX: Final = 30.0
# The time for giving the lease back; without it, others wait until it runs out.
GOODBYE_S: Final = 2.0
# The time for which a run that cannot lead leaves the lease to others.
REFRAINS_S: Final = 60.0
# The pause before a proof is asked for again after a failure.
RETRY_S: Final = 0.1
# A reading, a proof, and a goodbye at one time.
THREADS: Final = 3


class LeaseStore(Protocol):
    """The part of `PostgresStore` that has to do with the lease; its methods block, and any thread calls."""

    @property
    def run(self) -> str:
        """The random name of this run."""

    @property
    def term(self) -> int | None:
        """The term that was taken last; None before, and after `goodbye`."""

    @property
    def ended(self) -> StoreError | None:
        """The reason why nothing is written in `term` any more; None while all is well."""

    @property
    def confirmed_s(self) -> float:
        """The elapsed time at which the last fenced statement that succeeded was sent; -inf before."""

    @property
    def shown_s(self) -> float:
        """The elapsed time at which the main loop was last seen; without it the lease is not renewed."""

    @shown_s.setter
    def shown_s(self, elapsed_s: float) -> None: ...

    def watch(self) -> LeaseRow:
        """Return the row of the cluster as the primary has it. Raises `StoreError`."""

    def take_lease(self, seen: LeaseRow, term_least: int, leader: Mapping[str, Any], at: float) -> bool:
        """Take the lease if the row is as it was `seen`, in a higher term; return whether it is taken."""

    def renew(self) -> None:
        """Renew the lease now. Raises `Fenced`, `RolledBack`, `StoreError`."""

    def goodbye(self) -> None:
        """Give the lease back. Raises `StoreError`."""

    def go_on_after_rollback(self) -> None:
        """Go on from the row as it is now, in a higher term if need be. Raises `StoreError`."""


class Leadership:
    """The knowledge of this run about the leader, and its own part in that.

    `leader` describes this run to others. `is_behind` returns whether the replica of this run lacks the
    commit of a number, `differs` whether the last leader had other settings. `changed` is called whenever the
    role, the term or the holder changes. `went_back` is called when the database was found at an earlier
    state: this run leads on, and has to write again what is missing there.
    """

    def __init__(
        self,
        store: LeaseStore,
        clock: Clock,
        times: LeaseTimes,
        *,
        may_lead: bool,
        leader: Mapping[str, Any],
        is_behind: Callable[[int], bool],
        differs: Callable[[], bool],
        changed: Callable[[], None],
        went_back: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._times = times
        self._leader = leader
        self._is_behind, self._differs = is_behind, differs
        self._changed = changed
        self._went_back = went_back
        self._lease = Lease(store.run, times, may_lead=may_lead)
        self._watermark = Watermark()
        # The database is of long ago, and nobody has accepted that.
        self.refuses_database = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lease")
        self._ended = asyncio.Event()
        # It ends `run`.
        self._failure: StoreError | None = None
        # Work beside `run`, each of a kind one at a time.
        self._reading: asyncio.Task[None] | None = None
        self._proof: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._told: tuple[Role, int | None, str] | None = None
        self._report = Report()
        self.term_began_s = 0.0

    @property
    def role(self) -> Role:
        """The role at this moment."""
        self._heed()
        return self._lease.role(self._clock.elapsed_s())

    @property
    def term(self) -> int | None:
        """The term that this run holds; None where it holds none."""
        return self._lease.term

    @property
    def row(self) -> LeaseRow | None:
        """The row as it was last read, or taken by this run; None where it is not known."""
        row = self._lease.row
        return row._replace(leader=self._leader) if row and row.holder == self._lease.run else row

    @property
    def is_led(self) -> bool:
        """True while this run leads, or has seen lately that another one holds the lease."""
        self._heed()
        now_s, row = self._clock.elapsed_s(), self._lease.row
        if self._lease.term is not None:
            return self._lease.may_change(now_s)
        # A holder that has not renewed its lease for longer does not believe in it either.
        is_held = row is not None and row.holder not in ("", self._lease.run)
        return is_held and self._lease.idle_s(now_s) <= self._times.valid_s

    @property
    def attended_s(self) -> float:
        """The highest attended time that was ever read: the time of a new leader begins no earlier."""
        return self._lease.attended_s

    def may_change(self) -> bool:
        """Return whether this run may change records at this very moment."""
        self._heed()
        return self._lease.may_change(self._clock.elapsed_s())

    async def confirmed(self, since_s: float, timeout_s: float) -> bool:
        """Wait for the proof that this run led at some time after `since_s`, elapsed time; return whether.

        The proof is the success of a fenced statement that was sent after that. It serves all who wait.
        """
        term = self._lease.term
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while term is not None and self._lease.term == term:
                    if self._store.confirmed_s > since_s:
                        return True
                    await self._prove()
        return False

    def caught_up(self, term: int) -> None:
        """Lead in `term`, if this run still holds it: it knows all that was committed before."""
        self._lease.caught_up(term)
        self._tell()

    def accept_database(self) -> bool:
        """Take a database that is of long ago as it is; return whether this run had refused it."""
        refused = self.refuses_database
        if refused:
            self._watermark.accept()
        return refused

    async def run(self) -> None:
        """Take the lease when nobody leads, and follow who does, until `goodbye`.

        Raises `StoreError` if this run has led, and the database is at a state that it never saw.
        """
        while not self._ended.is_set():
            self.step()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._times.watch_s):
                    await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    def step(self) -> None:
        """Note what has happened, and begin what is due."""
        now_s = self._clock.elapsed_s()
        self._store.shown_s = now_s
        self._heed()
        self._tell()
        self._report.on_step(self._lease, self._times, now_s)
        ended = self._store.ended
        if self._lease.term is not None and isinstance(ended, RolledBack):
            if self._recovery is None or self._recovery.done():
                self._recovery = asyncio.create_task(self._recover(ended))
        elif self._reading is None or self._reading.done():
            # A holder hears by its renewals that it leads; when they fail, the row may tell why.
            unheard_s = now_s - self._store.confirmed_s
            if self._lease.term is None or unheard_s > 2 * self._times.renew_s:
                self._reading = asyncio.create_task(self._read())

    async def give_up(self, why: Exception) -> None:
        """Give the lease back, which this run cannot use now, and leave it to others for a while."""
        log.error("leaves the lease to others for %g s: %s", REFRAINS_S, why)
        self._lease.give_up(self._clock.elapsed_s() + REFRAINS_S)
        self._tell(is_reported=True)
        await self._give_back()

    async def goodbye(self) -> None:
        """Give the lease back, if this run has it, and end `run`. This run leads no more."""
        self._lease.end()
        self._ended.set()
        self._tell()
        if self._reading is not None:
            # The lease may be taken just now.
            await asyncio.wait({self._reading}, timeout=GOODBYE_S)
        await self._give_back()
        for task in (self._reading, self._proof, self._recovery):
            if task is not None:
                task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _give_back(self) -> None:
        if self._store.term is not None:
            try:
                async with asyncio.timeout(GOODBYE_S):
                    await self._in_thread(self._store.goodbye)
                log.info("gave the lease back")
            except (StoreError, TimeoutError) as error:
                log.warning("could not give the lease back, others wait until it runs out: %s", error)

    def _heed(self) -> None:
        """Note the last success of the store, and whether nothing more can be written in this term."""
        term = self._lease.term
        if term is not None:
            self._lease.succeeded(term, self._store.confirmed_s)
            if isinstance(self._store.ended, Fenced | Conflict):
                self._lease.fenced(term)

    async def _read(self) -> None:
        """Read the row, and take the lease if nobody leads."""
        lease = self._lease
        try:
            row = await self._in_thread(self._store.watch)
            now_s = self._clock.elapsed_s()
            self.refuses_database = self._watermark.refuses(row)
            self._report.refuses(row, self.refuses_database)
            if self.refuses_database:
                return
            if lease.observe(row, now_s, behind=self._is_behind(row.seq), differs=self._differs()):
                await self._take(row, now_s)
            self._report.works()
        except StoreError as error:
            self._report.fails(error)
        self._tell()

    async def _take(self, row: LeaseRow, now_s: float) -> None:
        idle_s, wall_s = self._lease.idle_s(now_s), self._clock.wall_s()
        term_least = self._lease.term_highest
        if not await self._in_thread(self._store.take_lease, row, term_least, self._leader, wall_s):
            return
        if (term := self._store.term) is None:
            return
        self.term_began_s = max(wall_s, min(row.at, wall_s + AHEAD_S_MAX))
        self._lease.took(term, self._store.confirmed_s)
        if not row.holder:
            log.info("took the lease, which was free, in term %d", term)
        else:
            log.warning(
                "took the lease in term %d: %s has not renewed it for %.1f s", term, _name(row), idle_s
            )

    async def _recover(self, error: RolledBack) -> None:
        """Go on leading a database that went back, if it is known how far."""
        if error.common_s is None:
            self._failure = StoreError(
                f"{error}, which this run never saw, so it writes nothing there; if that is the right state, "
                "start this instance again"
            )
            self._lease.end()
            self._ended.set()
        else:
            log.warning("%s; this run goes on from there and writes again what is missing", error)
            try:
                await self._in_thread(self._store.go_on_after_rollback)
            except StoreError as failure:
                self._report.fails(failure)
                return
            if (term := self._store.term) is not None:
                self._lease.took_again(term, self._store.confirmed_s)
            self._went_back()
        self._tell()

    async def _prove(self) -> None:
        """Wait for a fenced statement, for the one on its way if there is one."""
        if self._proof is None or self._proof.done():
            self._proof = asyncio.create_task(self._renew())
        await asyncio.wait({self._proof})

    async def _renew(self) -> None:
        try:
            await self._in_thread(self._store.renew)
        except StoreError:
            self._heed()
            await asyncio.sleep(RETRY_S)

    def _tell(self, *, is_reported: bool = False) -> None:
        """Call `changed` if anything has changed since the last call; `is_reported`: the log has it."""
        row = self._lease.row
        role = self._lease.role(self._clock.elapsed_s())
        now = (role, row.term if row else None, row.holder if row else "")
        if now == self._told:
            return
        former, self._told = self._told, now
        if former and former[0] is not role and self._lease.may_lead and not is_reported:
            self._report.role_changed(role, self._lease.term_highest, row, self._store.ended)
        self._changed()

    def _in_thread(
        self, work: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


class Report:
    """The lines in the log about who leads: each trouble once, with its end."""

    def __init__(self) -> None:
        self._failing = False
        self._leaderless = False
        self._refusing = False

    def fails(self, error: StoreError) -> None:
        """Note that the row could not be read, or the lease not be taken."""
        if not self._failing:
            log.warning("cannot read or take the lease: %s", error)
        self._failing = True

    def works(self) -> None:
        """Note that the row was read."""
        if self._failing:
            log.info("reads the lease again")
        self._failing = False

    def refuses(self, row: LeaseRow, refused: bool) -> None:
        """Note whether the row is of a time long ago."""
        if refused and not self._refusing:
            log.error(
                "the database is at commit %d as of %s, long before what this run knows: it takes no lease "
                "there; `openred-central cluster accept-database`, or a restart, takes it as it is",
                row.seq,
                rfc3339(row.at),
            )
        self._refusing = refused

    def on_step(self, lease: Lease, times: LeaseTimes, now_s: float) -> None:
        """Note how long nobody has led."""
        if lease.row is None:
            return
        idle_s = lease.idle_s(now_s)
        is_leaderless = lease.term is None and idle_s > 2 * times.idle_s
        if is_leaderless and not self._leaderless:
            log.warning("nobody was seen to lead for %.0f s: nothing can be changed", idle_s)
        self._leaderless = is_leaderless

    def role_changed(self, role: Role, term: int, row: LeaseRow | None, ended: StoreError | None) -> None:
        """Note another role of this run; `ended` is why it can write no more, `term` the highest known."""
        if role is Role.WITHOUT_LEASE:
            log.warning("without lease in term %d: nothing is changed until the database answers", term)
        elif role is Role.LEADER:
            log.info("leads in term %d", term)
        elif isinstance(ended, Conflict):
            log.error("leads no more with this copy of the directory, and loads it anew: %s", ended)
        elif role is Role.FOLLOWER:
            log.warning("lost the lease: %s", ended or f"{_name(row)} leads in term {term}")


def _name(row: LeaseRow | None) -> str:
    """Return the name of the holder, for people."""
    return str(row.leader.get("name") or row.holder or "nobody") if row else "another run"

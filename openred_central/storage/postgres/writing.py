"""The writes of the run that leads: one after the other, each behind the fence. For one loop.

A statement passes the fence only where the row of the cluster still names the term and the run, and the
number and the tag of the last write. So nothing is written once another run has led, nor into a database that
went back. Each write draws a new tag; a renewal keeps it.

If an answer is lost, nothing else is sent until the outcome is known: the row tells by its tag. A renewal
with a new tag settles it: what might still be on its way is refused from then on, and all before is durable.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson

from ..store import PassingError, StoreError
from .access import Access
from .faults import Hindered, Interrupted
from .history import History
from .leasing import Conflict, Fenced, LeaseRow, RolledBack
from .link import Link, call_of

log = logging.getLogger("openred.storage")

# Longer than the database lets a statement run.
WRITE_TIMEOUT_S: Final = 6.0
# A renewal touches one row, and a lease is short.
RENEW_TIMEOUT_S: Final = 1.0
# A newer schema, for instance, locks tables for a moment, and callers wait for the write.
WRITE_ATTEMPTS_MAX: Final = 3
# A conflict ends a term, unless another one did within so long: then loading the directory did not help.
CONFLICT_PAUSE_S: Final = 60.0
# The pause before the row is looked at again.
LOOK_AGAIN_S: Final = 0.25

SELECT_ROW: Final = f"SELECT {', '.join(LeaseRow._fields)} FROM openred.cluster"


class Position(NamedTuple):
    """Where the row of the cluster stands: the number of the last commit, and the tag of the last write."""

    seq: int
    tag: int


async def look(link: Link) -> LeaseRow:
    """Return the row of the cluster. Raises `StoreError`."""
    row = await link.read(SELECT_ROW, (), RENEW_TIMEOUT_S)
    if row is None:
        raise StoreError(f"{link.server.address.location} has lost its row `cluster`: restore a backup")
    *values, written = row
    leader = orjson.loads(written)
    # Anybody may have written there by hand.
    return LeaseRow._make([*values, leader if isinstance(leader, dict) else {}])


class Writer:
    """The fenced writes of a run, over one connection.

    `term` is the term that this run leads, `ended` what ended that; None for neither. `seq` is the number of
    the last own commit; `confirmed_s` is when the last fenced statement that succeeded was sent, `shown_s`
    when the main loop was last seen, both in elapsed time.
    """

    def __init__(self, link: Link, access: Access) -> None:
        self._link = link
        self._run = access.run
        self._timing = access.timing
        self._new_tag = access.new_tag
        self._elapsed_s = access.elapsed_s
        self._wall_s = access.wall_s
        self._turn = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self._history = History()
        self.term: int | None = None
        self.ended: StoreError | None = None
        self._leader: Mapping[str, Any] = {}
        self._at = Position(0, 0)
        self.seq = 0
        self._conflict_s = -math.inf
        self.confirmed_s = self.shown_s = -math.inf

    async def take(self, seen: LeaseRow, term_least: int, leader: Mapping[str, Any], at: float) -> bool:
        """Take the lease if the row is as it was `seen`; return whether it is taken. Raises `StoreError`."""
        async with self._turn:
            if not await self._take(seen, term_least, leader, at):
                return False
            self._history = History()
            self.ended = None
            self.seq = self._at.seq
            self._remember()
            self._begin_keeping()
            return True

    async def _take(self, seen: LeaseRow, term_least: int, leader: Mapping[str, Any], at: float) -> bool:
        term, sent_s = max(seen.term, term_least) + 1, self._elapsed_s()
        row = await self._link.write(
            # Both numbers in one value.
            f"SELECT ARRAY[seq, tag] FROM {call_of('take_lease_1', 7)}",
            (seen.lineage, seen.term, seen.renewals, term, self._run, orjson.dumps(leader).decode(), at),
            RENEW_TIMEOUT_S,
        )
        if row is None:
            return False
        self._at, self.term, self._leader = Position(*row), term, leader
        self.confirmed_s = sent_s
        return True

    async def write(self, function: str, *values: Any, is_commit: bool = False) -> None:
        """Write by a function of the schema; try again where another client is in the way for a moment.

        `values` are what it gets after the fence. Raises `Fenced` or `RolledBack` where the row refuses it,
        `Conflict` where other rows do, another `StoreError` where it was not written.
        """
        for _ in range(WRITE_ATTEMPTS_MAX - 1):
            # A renewal that waits has its turn between two attempts.
            with suppress(Hindered):
                await self._write(function, *values, is_commit=is_commit)
                return
        await self._write(function, *values, is_commit=is_commit)

    async def _write(self, function: str, *values: Any, is_commit: bool) -> None:
        """Write with as many attempts as it takes until the outcome is known. Raises as `write` does."""
        async with self._turn:
            self._require_term()
            following = Position(self.seq + is_commit, self._new_tag())
            named = following if is_commit else following[1:]
            while True:
                try:
                    passed = await self._send(
                        function, (*named, self._wall_s(), *values), self._at, WRITE_TIMEOUT_S
                    )
                except Interrupted as error:
                    log.warning("the outcome of a write is unknown: %s", error)
                    if await self._settle(following):
                        break
                    continue
                except Conflict as error:
                    now_s, former_s = self._elapsed_s(), self._conflict_s
                    if now_s - former_s > CONFLICT_PAUSE_S:
                        self.ended, self._conflict_s = error, now_s
                    raise
                if passed:
                    self._at = following
                    self._remember()
                    break
                raise self._ending(await look(self._link))
            self.seq = following.seq

    async def renew(self) -> None:
        """Renew the lease. Raises `Fenced` or `RolledBack` where the row refuses it, else `StoreError`."""
        async with self._turn:
            self._require_term()
            if not await self._renew(self._at.tag, self._at):
                raise self._ending(await look(self._link))

    async def _renew(self, tag: int, at: Position) -> bool:
        return await self._send("renew_1", (tag, self._wall_s()), at, RENEW_TIMEOUT_S)

    async def goodbye(self) -> None:
        """Give the lease back. Raises as `renew` does; from then on nothing is written in any case."""
        async with self._turn:
            self._require_term()
            try:
                values = self._at.tag, self._wall_s()
                if not await self._send("goodbye_1", values, self._at, RENEW_TIMEOUT_S):
                    raise self._ending(await look(self._link))
            finally:
                self.term = None

    async def go_on_after_rollback(self) -> None:
        """Go on from the row as it is, with commits above all numbers known.

        Raises `RolledBack` where the row is no commit of this run, `Fenced`, or another `StoreError`.
        """
        async with self._turn:
            if self.term is None or not isinstance(self.ended, RolledBack):
                raise StoreError("nothing was rolled back under a term of this run")
            row = await look(self._link)
            found = self._judge(row)
            if isinstance(found, Fenced) or found.common_s is None:
                # Another run has written since the row was last looked at.
                self.ended = found
                raise found
            if row.term == self.term:
                self._at = Position(row.seq, row.tag)
            elif not await self._take(row, self.term, self._leader, self._wall_s()):
                raise PassingError("another run was quicker to take the lease after the database went back")
            self.seq = max(self.seq, row.seq)
            self.ended = None
            self._remember()
            self._begin_keeping()

    async def close(self, timeout_s: float) -> None:
        """Write nothing any more, and end the connection. Raises nothing."""
        self.ended = StoreError(f"{self._link.server.address.location} is closed")
        if self._keeping is not None:
            self._keeping.cancel()
        await self._link.close(timeout_s)

    def _begin_keeping(self) -> None:
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        """Renew the lease as long as this run leads and its main loop is seen."""
        while self.term is not None and self.ended is None:
            await asyncio.sleep(self._timing.renew_s)
            now_s = self._elapsed_s()
            # A commit was a renewal as well.
            due = now_s - self.confirmed_s >= self._timing.renew_s
            if due and now_s - self.shown_s <= self._timing.shown_s:
                try:
                    await self.renew()
                except StoreError as error:
                    log.debug("the lease was not renewed: %s", error)

    async def _send(self, function: str, values: tuple[Any, ...], at: Position, timeout_s: float) -> bool:
        """Send a fenced statement from the position `at`; return whether it passed the fence."""
        # Connected first: what was not sent is not in doubt.
        await self._link.connected()
        sent_s = self._elapsed_s()
        fenced = (self.term, self._run, *at, *values)
        statement = f"SELECT {call_of(function, len(fenced))}"
        passed: bool = await self._link.write(statement, fenced, timeout_s)
        if passed:
            self.confirmed_s = sent_s
        return passed

    async def _settle(self, following: Position) -> bool:
        """Return whether a write to `following` whose answer was lost is there, durably; know it for good.

        It takes as long as it takes: until then nothing else may be sent. Raises `Fenced` and `RolledBack`.
        """
        written = {self._at: False, following: True}
        while True:
            try:
                row = await look(self._link)
                found = Position(row.seq, row.tag)
                if not self._is_mine(row) or found not in written:
                    raise self._ending(row)
                fresh = Position(found.seq, self._new_tag())
                # The answer to this may be lost as well.
                written[fresh] = written[found]
                if await self._renew(fresh.tag, found):
                    self._at = fresh
                    self._remember()
                    return written[fresh]
            except (Fenced, RolledBack):
                raise
            except StoreError as error:
                log.debug("the outcome of a write is still unknown: %s", error)
                await asyncio.sleep(LOOK_AGAIN_S)

    def _remember(self) -> None:
        self._history.add(*self._at, self._elapsed_s())

    def _require_term(self) -> None:
        if self.ended is not None:
            raise self.ended.with_traceback(None)
        if self.term is None:
            raise Fenced("this run does not lead: it must not write")

    def _is_mine(self, row: LeaseRow) -> bool:
        return (row.term, row.holder) == (self.term, self._run)

    def _ending(self, row: LeaseRow) -> StoreError:
        """Return why the row refused a write; from now on every write is refused so."""
        self.ended = self._judge(row)
        return self.ended

    def _judge(self, row: LeaseRow) -> Fenced | RolledBack:
        """Return what the row says about a run whose write it refused, or would refuse."""
        assert self.term is not None
        if row.term > self.term or (row.term == self.term and row.holder != self._run):
            holder = row.leader.get("name", row.holder) or "nobody"
            return Fenced(f"{holder} leads in term {row.term}, this run led in term {self.term}")
        return RolledBack(row.seq, self._history.ago_s(row.seq, row.tag, self._elapsed_s()))

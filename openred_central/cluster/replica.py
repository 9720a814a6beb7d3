"""A follower's side of the link: a copy of the directory that follows the leader, and what was heard here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from ..clock import AttendedTime, Clock
from ..collector import paused
from ..directory.following import Differs, Following, Gap
from ..directory.frame import Frame
from ..directory.state.signs import SignColumns
from ..histogram import Histogram
from ..storage import frames
from .link import Kind, Link, LinkBroken, read_json
from .signs import Signs, pack_signs, unpack_signs

log = logging.getLogger("openred.workers")

# So many signs of life are one message.
SIGNS_PER_MESSAGE: Final = 2_000
TURNS_TO_READ: Final = 3
# Without a word of the leader for so long, nothing is known of its store.
TICKS_MISSED_S: Final = 3.0


class Replica:
    """The copy of the directory in a follower, at the end `link` of the link.

    `following` may have followed another leader before; then the load renews it while it serves.

    `ticked` takes what the leader tells twice a second, `events` the news of its log of events; `renew` reads
    the certificate again.
    """

    def __init__(
        self,
        link: Link,
        following: Following,
        attended: AttendedTime,
        clock: Clock,
        *,
        flush_s: float,
        ticked: Callable[[dict[str, Any]], None],
        events: Callable[[dict[str, Any]], None],
        renew: Callable[[], None],
    ) -> None:
        self._link = link
        self._attended = attended
        self._clock = clock
        self._flush_s = flush_s
        self._ticked = ticked
        self._events = events
        self._renew = renew
        self._following = following
        # Parts of a load under way, and frames and signs of life that came meanwhile.
        self._parts: list[Any] = []
        self._later: list[tuple[Kind, bytes]] = []
        self._is_loading = True
        self._waiters = set[tuple[int, asyncio.Future[bool]]]()
        self._has_ended = False
        # The leader's last word: its attended time, and when it came here.
        self._told_s, self._tick_s = attended.now().attended_s, clock.monotonic_s()
        # From the commit of a frame to the end of its application here.
        self.lag = Histogram()
        # The owner asked the worker to stop.
        self.stopped = asyncio.Event()

    @property
    def seq(self) -> int:
        """Number of the last commit that is here."""
        return self._following.seq

    @property
    def is_current(self) -> bool:
        """True while the replica follows, and the leader was heard lately."""
        return (
            not self._is_loading
            and self._following.settled
            and self._clock.monotonic_s() - self._tick_s <= TICKS_MISSED_S
        )

    @property
    def behind_s(self) -> float:
        """How long ago the leader was heard."""
        return max(0.0, self._clock.monotonic_s() - self._tick_s)

    async def load(self) -> None:
        """Take the first load, and frames until they have caught up with it. Raise `LinkBroken`."""
        with paused():
            while self._is_loading or not self._following.settled:
                await self._take(*await self._link.receive())

    async def run(self) -> None:
        """Follow the leader until the link ends. Raise `LinkBroken` then."""
        try:
            while True:
                await self._take(*await self._link.receive())
        finally:
            # No other commit will come here.
            self._has_ended = True
            self._let_go()

    async def deliver(self) -> None:
        """Send what was heard, again and again, until cancelled. Raise `LinkBroken`."""
        while True:
            await asyncio.sleep(self._flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Send the signs of life that came since the last flush. Raise `LinkBroken`."""
        now = self._attended.now()
        # After a pause of the leader, time stands here until it has caught up.
        through_s = min(now.attended_s, self._told_s + now.monotonic_s - self._tick_s)
        # Requests in sockets came before: after a pause of this process they are read in these turns of the
        # loop, connections first.
        for _ in range(TURNS_TO_READ):
            await asyncio.sleep(0)
        heard, as_of = self._following.heard(), self._following.as_of
        for some in heard.parts(SIGNS_PER_MESSAGE):
            self._link.send(Kind.SIGNS, pack_signs(Signs(through_s, as_of, False, some)))
            await self._link.drain()
        self._link.send(Kind.SIGNS, pack_signs(Signs(through_s, as_of, True, SignColumns())))

    def ready(self, since_s: float) -> None:
        """Tell the leader that this follower serves, and hears signs of life, since attended `since_s`."""
        self._link.tell(Kind.READY, since_s)

    def report(self, figures: Any) -> None:
        """Tell the owner the figures of this worker."""
        self._link.tell(Kind.FIGURES, figures)

    def drained(self, cut: int) -> None:
        """Tell the leader that this follower serves no more, and how many connections it cut."""
        self._link.tell(Kind.DRAINED, cut)

    async def reached(self, seq: int, timeout_s: float) -> bool:
        """Wait until the commit numbered `seq` is here. Return whether it is after `timeout_s`.

        Once `run` has ended, nothing is waited for.
        """
        if self.seq >= seq or self._has_ended:
            return self.seq >= seq
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter := (seq, future))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a commit."""
        return len(self._waiters)

    async def _take(self, kind: Kind, content: bytes) -> None:
        if self._is_loading and kind in (Kind.FRAME, Kind.SIGNS, Kind.ASK):
            self._later.append((kind, content))
        elif kind is Kind.FRAME:
            await self._apply(self._unpacked(frames.unpack, content))
        elif kind is Kind.SIGNS:
            self._following.take_signs(self._unpacked(unpack_signs, content).heard)
        elif kind is Kind.ASK:
            # All frames before it have been applied.
            self._link.send(Kind.SEEN, content)
        elif kind is Kind.TICK:
            self._take_tick(read_json(kind, content))
        elif kind is Kind.LOAD:
            part = self._unpacked(frames.unpack_part, content)
            # Taken as it comes, while the leader makes the next one.
            (self._parts.append if self._following.has_loaded else self._following.load_part)(part)
        elif kind is Kind.LOADED:
            await self._take_load()
        elif kind is Kind.EVENTS:
            self._events(read_json(kind, content))
        elif kind is Kind.RENEW:
            self._renew()
        elif kind is Kind.STOP:
            self.stopped.set()
        else:
            raise LinkBroken(f"the leader sent {kind.name}, which is for leaders")

    async def _apply(self, frame: Frame) -> None:
        try:
            for _ in self._following.apply(frame):
                await asyncio.sleep(0)
        except (Gap, Differs) as error:
            log.error("this copy of the directory is read anew from the leader: %s", error)
            self._is_loading = True
            self._link.send(Kind.RESYNC)
            return
        self.lag.observe(max(0.0, self._clock.wall_s() - frame.at))
        self._let_go()

    def _let_go(self) -> None:
        """End the waits for commits that are here, or will never be."""
        for seq, future in self._waiters:
            if (seq <= self.seq or self._has_ended) and not future.done():
                future.set_result(seq <= self.seq)

    async def _take_load(self) -> None:
        """End a load, and apply the frames that came meanwhile."""
        if self._following.has_loaded:
            parts, self._parts = self._parts, []
            for _ in self._following.resync(parts):
                await asyncio.sleep(0)
        else:
            self._following.end_first_load()
        self._is_loading = False
        waiting, self._later = self._later, []
        for kind, content in waiting:
            await self._take(kind, content)

    def _take_tick(self, told: dict[str, Any]) -> None:
        self._told_s, self._tick_s = told["attended_s"], self._clock.monotonic_s()
        self._attended.follow(told["attended_s"], attending=told["attending"])
        self._ticked(told)

    @staticmethod
    def _unpacked(unpack: Callable[[bytes], Any], content: bytes) -> Any:
        try:
            return unpack(content)
        except ValueError as error:
            raise LinkBroken(f"the leader sent what cannot be read: {error}") from error

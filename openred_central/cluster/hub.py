"""The leader's side of the links: load followers, send them each commit, and take what they heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final

import orjson

from ..clock import Now
from ..directory.leading import Leading
from ..directory.merging import Merger
from ..directory.state.changes import Batch
from ..storage import frames
from .link import Kind, Link, LinkBroken, read_json
from .signs import pack_signs, unpack_signs

log = logging.getLogger("openred.workers")

# Followers hear this often what time it is, and how the store does.
TICK_S: Final = 0.5


class Member:
    """One follower, as the leader sees it: `name` is for people, such as "worker 1" or "instance a".

    `through_s`: all its signs of life up to that attended time are here; None until it serves, unless it had
    another link before. `heard_s` is the monotonic time of its last message. At its end it tells that it has
    drained, and how many connections it cut.
    """

    def __init__(self, name: str, link: Link, now: Now, through_s: float | None = None) -> None:
        self.name = name
        self.link = link
        self.through_s = through_s
        self.heard_s = now.monotonic_s
        self.has_drained = False
        self.cut = 0
        # The number of the last question that it answered.
        self.seen = 0
        # How far it knows the log of events.
        self.cursor: Any = None
        self.ready = asyncio.Event()


class Hub:
    """All links of a leader.

    `leading` makes frames; `merger` takes signs of life. `now` reads the time. `hello` returns what a
    follower needs to begin, `tick` what all of them hear twice a second, `news` what is new in the log of
    events since a cursor (None at first), with the next cursor; all is plain data. `reported` takes the
    figures of a member, with its name.
    """

    def __init__(
        self,
        leading: Leading,
        merger: Merger,
        now: Callable[[], Now],
        *,
        hello: Callable[[], Mapping[str, Any]],
        tick: Callable[[], Mapping[str, Any]],
        news: Callable[[Any], tuple[Mapping[str, Any], Any]],
        reported: Callable[[str, Any], None],
    ) -> None:
        self._leading = leading
        self._merger = merger
        self._now = now
        self._hello = hello
        self._tick = tick
        self._news = news
        self._reported = reported
        self.members: set[Member] = set()
        self._asked = 0
        # Set whenever a follower has answered or is gone.
        self._answered = asyncio.Event()

    def committed(self, batch: Batch) -> None:
        """Send a batch that was just committed to all followers. `Saver.on_committed` calls this."""
        pack = cache(partial(frames.pack, self._leading.frame(batch, self._now())))
        for member in list(self.members):
            self._send(member, Kind.FRAME, pack(member.link.version))

    def horizon_s(self) -> float:
        """Return the attended time up to which all signs of life are here, wherever they were heard."""
        delivered_s = (each.through_s for each in self.members if each.through_s is not None)
        return min(delivered_s, default=self._now().attended_s)

    async def known_to_all(self, timeout_s: float) -> bool:
        """Wait until all followers know each commit so far. Return whether they do after `timeout_s`."""
        self._asked = number = self._asked + 1
        self.send_all(Kind.ASK, orjson.dumps(number))
        try:
            async with asyncio.timeout(timeout_s):
                while any(member.seen < number for member in self.members):
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            return False
        return True

    async def serve(self, member: Member) -> None:
        """Load the follower of `member`, and take its messages until its link ends."""
        self.members.add(member)
        try:
            member.link.tell(Kind.HELLO, self._hello())
            # It knows the log of events when it begins to serve.
            self._send_news(member)
            await self._load(member)
            while True:
                await self._take(member, *await member.link.receive())
        except LinkBroken as error:
            log.debug("the link to %s: %s", member.name, error)
        finally:
            self.members.discard(member)
            self._answered.set()
            member.link.abort()

    async def run(self) -> None:
        """Tell all followers the time, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """Tell all followers the time, and what else is new."""
        if not self.members:
            return
        self.send_all(Kind.TICK, orjson.dumps(self._tick()))
        for member in list(self.members):
            self._send_news(member)

    def _send_news(self, member: Member) -> None:
        news, cursor = self._news(member.cursor)
        while cursor != member.cursor:
            member.cursor = cursor
            self._send(member, Kind.EVENTS, orjson.dumps(news))
            news, cursor = self._news(cursor)

    async def _load(self, member: Member) -> None:
        """Send the whole directory, in slices; the frames of what changes meanwhile go in between."""
        for part in self._leading.load():
            member.link.send(Kind.LOAD, frames.pack_part(part, member.link.version))
            # Requests have their turn, and what was sent leaves the queue.
            await asyncio.sleep(0)
            await member.link.drain()
        member.link.send(Kind.LOADED)

    async def _take(self, member: Member, kind: Kind, content: bytes) -> None:
        """Take one message. Raise `LinkBroken` for one that no follower sends."""
        member.heard_s = self._now().monotonic_s
        if kind is Kind.SIGNS:
            self._merge(member, content)
        elif kind is Kind.FIGURES:
            self._reported(member.name, read_json(kind, content))
        elif kind is Kind.READY:
            since_s = read_json(kind, content)
            if not isinstance(since_s, int | float):
                raise LinkBroken(f"{member.name} sent no time since when it serves")
            # All that it heard before its former link ended comes with its next signs of life.
            member.through_s = since_s if member.through_s is None else member.through_s
            member.ready.set()
        elif kind is Kind.DRAINED:
            member.has_drained, member.cut = True, read_json(kind, content)
        elif kind is Kind.SEEN:
            member.seen = read_json(kind, content)
            self._answered.set()
        elif kind is Kind.RESYNC:
            await self._load(member)
        else:
            raise LinkBroken(f"{member.name} sent {kind.name}, which is for followers")

    def _merge(self, member: Member, content: bytes) -> None:
        try:
            signs = unpack_signs(content)
        except ValueError as error:
            raise LinkBroken(f"{member.name} sent no signs of life: {error}") from error
        heard = self._merger.merge(signs.heard, signs.as_of, self._now())
        if heard is None:
            raise LinkBroken(f"{member.name} lags too far behind")
        if heard:
            # Their form is one in all versions of the link: they pass on as they came.
            if len(heard) < len(signs.heard.slots):
                content = pack_signs(signs._replace(heard=signs.heard.only(heard)))
            for other in self.members - {member}:
                self._send(other, Kind.SIGNS, content)
        if signs.is_last and member.through_s is not None:
            member.through_s = signs.through_s

    def send_all(self, kind: Kind, content: bytes = b"") -> None:
        """Send a message to all followers; one that cannot take it is cut off."""
        for member in list(self.members):
            self._send(member, kind, content)

    def _send(self, member: Member, kind: Kind, content: bytes) -> None:
        try:
            member.link.send(kind, content)
        except LinkBroken as error:
            log.warning("%s is cut off: %s", member.name, error)
            self.members.discard(member)
            member.link.abort()

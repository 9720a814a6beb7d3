"""Server-sent events to very many readers at once: one timer, one piece of bytes, one write for each reader.

A reader is a number in the log of events and a future that it waits on. Nothing is queued for it: one that
is slow is given the newest figures when it comes again, and one that does not come again for long is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from .event_feed import EventFeed
from .event_log import event_bytes
from .figure_history import FigureHistory

TICK_S = 1.0
# A comment this often keeps proxies and address translators from believing that the connection is dead.
COMMENT_TICKS = 15
COMMENT = b": alive\n\n"
# A reader that took nothing for so many ticks while there was something for it is dropped.
LAG_TICKS_MAX = 30
# A point of the history of figures is kept this often, whoever reads.
HISTORY_TICKS = 10
# So many readers are woken in one turn of the loop: a millisecond.
WAKES_PER_TURN = 64


class Reader:
    """One subscription: the pieces of its stream, one after the other. Ends when it is closed.

    `number` is the last event that it has, `tick` the tick of which it has the figures.
    """

    def __init__(self, broadcast: Broadcast, first_piece: bytes, number: int) -> None:
        self._broadcast = broadcast
        self._first_piece = first_piece
        self.number = number
        self.tick = 0
        self.task: asyncio.Task[Any] | None = None

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        if self.task is None:
            # Who sends this stream is kept, to end it where its client does not read.
            self.task = asyncio.current_task()
            return self._first_piece + self._broadcast.take(self)
        while self in self._broadcast.readers:
            piece = self._broadcast.take(self)
            if piece:
                return piece
            if self._broadcast.stopped:
                break
            await self._broadcast.next_tick()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Leave, once or again."""
        self._broadcast.readers.discard(self)


class Broadcast:
    """All readers, and the timer that serves them. Run it with `run`, end it with `stop`.

    Arguments: `feed` writes down what happened; `figures` makes the document of the event ``figures``, asked
    while anybody reads, and for the `history`; `wall_s` tells the time; `readers_max` is how many may read at
    once.
    """

    def __init__(
        self,
        feed: EventFeed,
        figures: Callable[[], Mapping[str, Any]],
        wall_s: Callable[[], float],
        *,
        readers_max: int,
    ) -> None:
        self._feed = feed
        self.log = feed.log
        self._figures = figures
        self._wall_s = wall_s
        self.readers_max = readers_max
        self.readers: set[Reader] = set()
        self.history = FigureHistory()
        self.ticks = 0
        self.dropped = 0
        self.refused = 0
        self.stopped = False
        self._waiting: list[asyncio.Future[None]] = []
        self._stopping = asyncio.Event()
        # What the figures of this tick look like, and what a reader gets who had everything before it.
        self._latest = b""
        self._piece = b""
        self._piece_from = 0

    @property
    def full(self) -> bool:
        """Whether no more readers may come."""
        return len(self.readers) >= self.readers_max

    def join(self, head: bytes, number: int) -> Reader:
        """A new reader behind the event `number`, which the log holds. `head` is sent first."""
        if not self.readers:
            # Nobody has asked for a while.
            self._latest = self._figures_event(self._figures())
        reader = Reader(self, head, number)
        # The figures name the last event as theirs, so they come behind all that is still to be told.
        reader.tick = self.ticks - 1
        self.readers.add(reader)
        return reader

    def take(self, reader: Reader) -> bytes:
        """What `reader` has not got yet, or a part of it; nothing where it has all."""
        if reader.tick == self.ticks and reader.number == self.log.last:
            return b""
        if self._feed.conceal():
            # It was made before, and may tell a name that nobody is to be told any more.
            self._piece = b""
        if self._piece and reader.tick == self.ticks - 1 and reader.number == self._piece_from:
            reader.tick, reader.number = self.ticks, self.log.last
            return self._piece
        piece, reader.number = self.log.read(reader.number)
        if reader.number == self.log.last and reader.tick != self.ticks:
            reader.tick = self.ticks
            piece += self._latest
        return piece

    def next_tick(self) -> asyncio.Future[None]:
        """Done when there may be something new."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def tick(self) -> None:
        """Write down what happened, drop who does not read, and have the others served."""
        before = self.log.last
        self._feed.tick(self._wall_s())
        self.ticks += 1
        self._piece = b""
        to_keep = self.ticks % HISTORY_TICKS == 0
        if not self.readers and not to_keep:
            return
        figures = self._figures()
        if to_keep:
            self.history.add(figures)
        if not self.readers:
            return
        self._latest = self._figures_event(figures)
        if self.ticks % COMMENT_TICKS == 0:
            self._latest = COMMENT + self._latest
        self._piece_from = before
        news, end = self.log.read(before)
        # More news than one piece is read by everybody on their own.
        if end == self.log.last:
            self._piece = news + self._latest
        for reader in [reader for reader in self.readers if self._lags(reader)]:
            self._drop(reader)
        self._wake()

    async def run(self) -> None:
        """Tick until `stop`. To be run as a task, once."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_S)
            if not self._stopping.is_set():
                self.tick()

    def stop(self) -> None:
        """End every stream in good order, and `run`."""
        self.stopped = True
        self._stopping.set()
        self._wake()

    def _figures_event(self, figures: Mapping[str, Any]) -> bytes:
        # With the id of the last event: whoever saw no event yet can go on from here.
        return event_bytes(self.log.event_id(self.log.last), "figures", figures)

    def _lags(self, reader: Reader) -> bool:
        return self.ticks - reader.tick > LAG_TICKS_MAX or not self.log.holds(reader.number)

    def _drop(self, reader: Reader) -> None:
        self.dropped += 1
        self.readers.discard(reader)
        if reader.task is not None:
            reader.task.cancel()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._wake_some(waiting)

    def _wake_some(self, waiting: list[asyncio.Future[None]]) -> None:
        """Wake some now and the others in later turns of the loop, between which everybody else is served."""
        for future in waiting[-WAKES_PER_TURN:]:
            if not future.done():
                future.set_result(None)
        del waiting[-WAKES_PER_TURN:]
        if waiting:
            asyncio.get_running_loop().call_soon(self._wake_some, waiting)

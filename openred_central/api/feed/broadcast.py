"""Server-sent events for very many subscribers: one timer, one piece of bytes, one write for each subscriber.

A subscriber is a number in the log of events and a future that it waits on; nothing is queued for it. A slow
subscriber gets the newest figures when it returns, and is disconnected if it does not return for long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ...directory.lifecycle import LIVE_STATES
from .event_log import EventLog, event_bytes

TICK_S = 1.0
# Comments keep proxies and address translators from dropping the connection.
COMMENT_TICKS = 15
COMMENT = b": alive\n\n"
# A subscriber that takes nothing of what it is offered for so many ticks is disconnected.
LAG_TICKS_MAX = 30
# A point of the history of figures is kept this often, also without subscribers.
HISTORY_TICKS = 10
# An hour of points.
HISTORY_POINTS_MAX = 360
# The most subscribers woken in one turn of the loop.
WAKES_PER_TURN = 64

_STATES = tuple(state.wire for state in LIVE_STATES)
_RATES = ("requests_per_s", "heartbeats_per_s", "transitions_per_s")
_LATENCIES = ("p50", "p99")


class FigureHistory:
    """The last `points_max` points of live figures, for plots; sent column by column."""

    def __init__(self, *, points_max: int = HISTORY_POINTS_MAX) -> None:
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=points_max)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, figures: Mapping[str, Any]) -> None:
        """Keep what a plot needs of the document of the event ``figures``; a missing value is None."""
        by_state, latency = figures.get("by_state", {}), figures.get("latency_ms", {})
        self._rows.append(
            (
                figures.get("time"),
                *(by_state.get(state) for state in _STATES),
                *(figures.get(rate) for rate in _RATES),
                *(latency.get(quantile) for quantile in _LATENCIES),
            )
        )

    def rows(self) -> list[list[Any]]:
        """Return the points, oldest first, as plain data for `restore`."""
        return [list(row) for row in self._rows]

    def restore(self, rows: Iterable[Sequence[Any]]) -> None:
        """Keep the `rows` of another history in place of the own points."""
        self._rows.clear()
        self._rows.extend(map(tuple, rows))

    def document(self) -> dict[str, Any]:
        """Return the points, oldest first, as lists of equal length: time, states, rates and quantiles."""
        columns = iter([list(column) for column in zip(*self._rows, strict=True)])
        return {
            "time": next(columns, []),
            "by_state": {state: next(columns, []) for state in _STATES},
            **{rate: next(columns, []) for rate in _RATES},
            "latency_ms": {quantile: next(columns, []) for quantile in _LATENCIES},
        }


class Feed(Protocol):
    """A writer of events to `log`, which grows in `tick` alone; `EventFeed` or `FollowingFeed`."""

    @property
    def log(self) -> EventLog: ...

    def conceal(self) -> bool: ...

    def tick(self, wall_s: float, /) -> None: ...


class Subscriber:
    """One subscriber: iterates over the pieces of its stream until it is closed.

    `number` is the last event that it got, `tick` the tick whose figures it got.
    """

    def __init__(self, broadcast: Broadcast, first_piece: bytes, number: int) -> None:
        self._broadcast = broadcast
        self._first_piece = first_piece
        self.number = number
        self.tick = 0
        self.task: asyncio.Task[Any] | None = None

    def __aiter__(self) -> Subscriber:
        return self

    async def __anext__(self) -> bytes:
        if self.task is None:
            # The task that sends this stream: cancelled if its client does not read.
            self.task = asyncio.current_task()
            return self._first_piece + self._broadcast.take(self)
        while self in self._broadcast.subscribers:
            piece = self._broadcast.take(self)
            if piece:
                return piece
            if self._broadcast.stopped:
                break
            await self._broadcast.next_tick()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Unsubscribe; may be called again."""
        self._broadcast.subscribers.discard(self)


class Broadcast:
    """All subscribers, and the timer that serves them. Run it with `run`, end it with `stop`.

    Arguments: `feed` writes events; `figures` makes the document of the event ``figures``, for subscribers
    and for the `history`; `wall_s` reads the wall clock; `subscribers_max` is the limit of subscribers.
    """

    def __init__(
        self,
        feed: Feed,
        figures: Callable[[], Mapping[str, Any]],
        wall_s: Callable[[], float],
        *,
        subscribers_max: int,
    ) -> None:
        self._feed = feed
        self.log = feed.log
        self._figures = figures
        self._wall_s = wall_s
        self.subscribers_max = subscribers_max
        self.subscribers: set[Subscriber] = set()
        # Subscribers of single nodes, which take places as well (`Watching.watchers`).
        self.others: Collection[object] = ()
        self.history = FigureHistory()
        self.ticks = 0
        self.dropped = 0
        self.refused = 0
        self.stopped = False
        self._waiting: list[asyncio.Future[None]] = []
        self._stopping = asyncio.Event()
        # The figures of this tick, and the piece for subscribers that had everything before it.
        self._latest = b""
        self._piece = b""
        self._piece_from = 0

    @property
    def places_taken(self) -> int:
        """Number of all subscribers."""
        return len(self.subscribers) + len(self.others)

    def join(self, head: bytes, number: int) -> Subscriber:
        """Add a subscriber behind the event `number`, which the log holds; it gets `head` first."""
        if not self.subscribers:
            # Without subscribers, ticks make no figures.
            self._latest = self._figures_event(self._figures())
        subscriber = Subscriber(self, head, number)
        # The figures carry the id of the last event, so they come behind all other events.
        subscriber.tick = self.ticks - 1
        self.subscribers.add(subscriber)
        return subscriber

    def take(self, subscriber: Subscriber) -> bytes:
        """Return what `subscriber` has not got yet, or a part of it; nothing if it has everything."""
        if subscriber.tick == self.ticks and subscriber.number == self.log.last:
            return b""
        if self._feed.conceal():
            # The piece may hold a name that was concealed since.
            self._piece = b""
        if self._piece and subscriber.tick == self.ticks - 1 and subscriber.number == self._piece_from:
            subscriber.tick, subscriber.number = self.ticks, self.log.last
            return self._piece
        piece, subscriber.number = self.log.read(subscriber.number)
        if subscriber.number == self.log.last and subscriber.tick != self.ticks:
            subscriber.tick = self.ticks
            piece += self._latest
        return piece

    def next_tick(self) -> asyncio.Future[None]:
        """Return a future that is done when there may be something new."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def tick(self) -> None:
        """Write events, disconnect subscribers that do not read, and wake the others."""
        before, emptied = self.log.last, self.log.emptied
        self._feed.tick(self._wall_s())
        self.ticks += 1
        self._piece = b""
        if self.log.emptied != emptied:
            # Their place in the log is gone: end their streams, so that they return and are told.
            self.subscribers.clear()
            self._wake()
        to_keep = self.ticks % HISTORY_TICKS == 0
        if not self.subscribers and not to_keep:
            return
        figures = self._figures()
        if to_keep:
            self.history.add(figures)
        if not self.subscribers:
            return
        self._latest = self._figures_event(figures)
        if self.ticks % COMMENT_TICKS == 0:
            self._latest = COMMENT + self._latest
        self._piece_from = before
        news, end = self.log.read(before)
        # News of more than one piece is read by each subscriber on its own.
        if end == self.log.last:
            self._piece = news + self._latest
        for subscriber in list(self.subscribers):
            if self.ticks - subscriber.tick > LAG_TICKS_MAX or not self.log.holds(subscriber.number):
                self._drop(subscriber)
        self._wake()

    async def run(self) -> None:
        """Tick until `stop`. Run it as a task, once."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_S)
            if not self._stopping.is_set():
                self.tick()

    def stop(self) -> None:
        """End every stream and `run`."""
        self.stopped = True
        self._stopping.set()
        self._wake()

    def _figures_event(self, figures: Mapping[str, Any]) -> bytes:
        # With the id of the last event: a subscriber that got no event yet can resume from here.
        return event_bytes(self.log.event_id(self.log.last), "figures", figures)

    def _drop(self, subscriber: Subscriber) -> None:
        self.dropped += 1
        self.subscribers.discard(subscriber)
        if subscriber.task is not None:
            subscriber.task.cancel()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._wake_some(waiting)

    def _wake_some(self, waiting: list[asyncio.Future[None]]) -> None:
        """Wake some now, the others in later turns of the loop, so that requests are served in between."""
        for future in waiting[-WAKES_PER_TURN:]:
            if not future.done():
                future.set_result(None)
        del waiting[-WAKES_PER_TURN:]
        if waiting:
            asyncio.get_running_loop().call_soon(self._wake_some, waiting)

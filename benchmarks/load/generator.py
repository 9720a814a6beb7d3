"""One generator: its connections, the loop that keeps them busy, and its tally.

Closed loop: each connection keeps `pipeline` requests in flight and sends the next when an answer arrives.
A kind in `fresh` is sent over a new connection, which the server closes after the answer.
Open loop: requests are due at a fixed rate (`Schedule`), go to any free connection, and are timed from when
they were due. A timer of the event loop is a millisecond coarse, so the generator polls when the next request
is nearer than that: an open loop uses its whole core.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from itertools import cycle
from time import perf_counter, process_time
from typing import cast

from .answers import AnswerReader, UnreadableError
from .requests import KINDS, LoadOptions, Source, WithSession, deal, tls_context
from .tally import Histogram, Second, Tally

# Time to wait for the last answers.
LAST_ANSWERS_S = 2.0
# Due requests without a free connection; with more of them the run ends.
WAITING_MAX = 1_000_000
# Requests that are sent before answers are read again.
DUE_AT_ONCE_MAX = 256
POLL_WITHIN_S = 0.002
SECOND_S = 1.0
CONNECTING_AT_ONCE = 256
_END = b"\r\n\r\n"
_CLOSE = b"\r\nConnection: close\r\n\r\n"


class Schedule:
    """Due times of one of several generators that share a rate, evenly between those of the others.

    A request that finds no free connection is timed from when it was due. To time it from when it was sent
    would leave out the waiting that a slow server causes: "coordinated omission".
    """

    def __init__(self, start_s: float, rate: float, generator: int = 0, generators: int = 1) -> None:
        self._interval_s = generators / rate
        self._first_s = start_s + generator / rate
        self._taken = 0

    def next_s(self) -> float:
        """Return when the next request is due."""
        return self._first_s + self._taken * self._interval_s

    def take_due(self, now_s: float, limit: int) -> list[float]:
        """Take up to `limit` of the requests that are due by `now_s`: their due times, in order."""
        first = self._taken
        due = int((now_s - self._first_s) / self._interval_s + 1) - first if now_s >= self._first_s else 0
        self._taken += max(0, min(due, limit))
        return [self._first_s + number * self._interval_s for number in range(first, self._taken)]


class Connection(asyncio.Protocol):
    """One connection of a generator; `in_flight` holds kind and start of each request without an answer.

    A new connection for one `request` of another, its `home`, gives the room for the next one back to that.
    """

    def __init__(
        self, generator: Generator, number: int, home: Connection | None = None, request: bytes = b""
    ) -> None:
        self._generator = generator
        self.number = number
        self.home = home
        self._request = request
        self._reader = AnswerReader()
        self.in_flight: deque[tuple[int, float]] = deque()
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._generator.opened(self)
        if self._request:
            self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now_s = perf_counter()
        try:
            statuses = self._reader.feed(data)
        except UnreadableError as error:
            self._generator.tally.error = str(error)
            self.transport.abort()
            return
        if len(statuses) > len(self.in_flight):
            self._generator.tally.error = "an answer came without a request"
            self.transport.abort()
            return
        for status in statuses:
            kind, since_s = self.in_flight.popleft()
            self._generator.count(kind, status, now_s - since_s)
        if statuses and (take := self._generator.take_answer[kind]) is not None:
            take(self.number, self._reader.body)
        self.answered += len(statuses)
        if self._reader.closing or (statuses and self.home):
            self.transport.close()
        elif statuses:
            self._generator.ready(self, len(statuses), now_s)

    def connection_lost(self, error: Exception | None) -> None:
        self._generator.lost(self)


class Idle(asyncio.Protocol):
    """A connection that sends at most one request, expects the status 200, and drops everything else."""

    def __init__(self, generator: Generator, request: bytes) -> None:
        self._generator = generator
        self._request = request
        self._answered = not request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._request:
            cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._answered and not data.startswith(b"HTTP/1.1 200 "):
            self._generator.tally.error = f"an idle connection was answered {data[:40]!r}"
        self._answered = True


class Generator:
    """Drives all connections of one process; `on_second` takes the figures of each second."""

    def __init__(self, options: LoadOptions, on_second: Callable[[Second], None]) -> None:
        self._options = options
        self._on_second = on_second
        self._kinds = list(options.mix)
        self.tally = Tally(self._kinds)
        sources = [KINDS[kind].source(options) for kind in self._kinds]
        # By kind, the source that reads answers, if it does.
        self.take_answer = [
            source.take_answer if isinstance(source, WithSession) else None for source in sources
        ]
        self._requests = self._sequence(sources)
        self._connections: set[Connection] = set()
        self._idle: list[asyncio.BaseTransport] = []
        self._fresh = [kind in options.fresh for kind in self._kinds]
        self._tls = tls_context() if options.tls else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._schedule: Schedule | None = None
        self._sending = False
        self._measuring = False
        self._overtime = False
        self._finished = False
        self._second = (Histogram(), 0)

    def _sequence(self, sources: list[Source]) -> Iterator[tuple[int, Source]]:
        """Yield kinds and sources in the proportions of the mix, without end."""
        dealt = map(self._kinds.index, deal(self._options.mix, self._options.chance()))
        return cycle([(kind, sources[kind]) for kind in dealt])

    async def run(
        self,
        start: Callable[[], Awaitable[float]],
        edge: Callable[[], None] = lambda: None,
    ) -> Tally:
        """Connect, await the time to begin from `start`, warm up, measure.

        `edge` is called where the measured time starts and where it ends.
        """
        options = self._options
        await self.connect()
        start_s = await start()
        gc.collect()
        gc.disable()
        try:
            self._begin(start_s)
            await asyncio.sleep(max(0.0, start_s + options.warm_up_s - perf_counter()))
            edge()
            self._measuring, began_s, used_s = True, perf_counter(), process_time()
            await self._report_seconds(began_s)
            self._overtime, self.tally.took_s = True, perf_counter() - began_s
            self.tally.busy = (process_time() - used_s) / self.tally.took_s
            edge()
            await self._finish()
        finally:
            gc.enable()
            self.close()
        return self.tally

    def count(self, kind: int, status: int, took_s: float) -> None:
        """Count an answer."""
        if self._measuring:
            time_us = int(took_s * 1e6)
            self.tally.times[kind].add(time_us)
            self.tally.statuses[kind][status] += 1
            self.tally.overdue[kind] += self._overtime
            self._second[0].add(time_us)

    def ready(self, connection: Connection, room: int, now_s: float) -> None:
        """Give a connection up to `room` further requests."""
        if self._schedule is None:
            if self._sending:
                self._send(connection, [now_s] * room)
            return
        for _ in range(room):
            if self._waiting:
                self._send(connection, [self._waiting.popleft()])
            else:
                self._free.append(connection)

    def opened(self, connection: Connection) -> None:
        """Take a connection as one that can be used."""
        self._connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """Count what a lost connection held, and replace it if it had worked and the run goes on."""
        self._connections.discard(connection)
        if self._schedule is not None:
            self._free = deque(each for each in self._free if each is not connection)
        if self._finished:
            return
        if self._measuring:
            self.tally.failed += len(connection.in_flight)
        if not self._sending and not self._waiting:
            return
        if connection.home is not None:
            # A home that is lost has been replaced by one with all its room.
            if connection.home in self._connections:
                self.ready(connection.home, 1, perf_counter())
        elif connection.answered:
            self._spawn(self._replace(connection.number))
        elif not self._connections and not self.tally.error:
            self.tally.error = "the server closed all connections"

    def _send(self, connection: Connection, since: list[float]) -> None:
        """Send one request for each time in `since`, from which it is timed."""
        pieces = []
        for since_s in since:
            kind, source = next(self._requests)
            request = source(connection.number)
            if self._fresh[kind]:
                self._spawn(self._send_alone(connection, request, (kind, since_s)))
            else:
                connection.in_flight.append((kind, since_s))
                pieces.append(request)
        if pieces:
            connection.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    async def _send_alone(self, home: Connection, request: bytes, sent: tuple[int, float]) -> None:
        """Send a request over a new connection, which ends with the answer."""
        alone = Connection(self, home.number, home, request.replace(_END, _CLOSE, 1))
        alone.in_flight.append(sent)
        try:
            await self._connect(alone)
        except OSError as error:
            self.tally.error = f"cannot connect: {error.strerror or error}"

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, start_s: float) -> None:
        options = self._options
        self._sending = True
        if options.rate is not None:
            self._free.extend(connection for _ in range(options.pipeline) for connection in self._connections)
            self._schedule = Schedule(start_s, options.rate, options.generator, options.generators)
            self._tick()
            return
        for connection in list(self._connections):
            self.ready(connection, options.pipeline, perf_counter())

    def _tick(self) -> None:
        """Send due requests, and schedule the next call."""
        schedule, now_s = self._schedule, perf_counter()
        if schedule is None or not self._sending:
            return
        for due_s in schedule.take_due(now_s, DUE_AT_ONCE_MAX):
            if self._measuring:
                self.tally.late.add(int((now_s - due_s) * 1e6))
            if self._free:
                self._send(self._free.popleft(), [due_s])
            else:
                self._waiting.append(due_s)
        if len(self._waiting) > WAITING_MAX:
            self._sending = False
            self.tally.error = f"more than {WAITING_MAX:,} requests are overdue: the rate is too high"
            return
        loop, ahead_s = asyncio.get_running_loop(), schedule.next_s() - perf_counter()
        if ahead_s < POLL_WITHIN_S:
            loop.call_soon(self._tick)
        else:
            loop.call_later(ahead_s - POLL_WITHIN_S, self._tick)

    async def _report_seconds(self, began_s: float) -> None:
        """Pass on the figures of each second of the measured time."""
        duration_s = self._options.duration_s
        for number in range(math.ceil(duration_s / SECOND_S)):
            if not self._connections and not self._tasks:
                break
            ends_s = began_s + min((number + 1) * SECOND_S, duration_s)
            await asyncio.sleep(max(0.0, ends_s - perf_counter()))
            times, failed_before = self._second
            self._second = (Histogram(), self.tally.failed)
            self._on_second(Second(number, times.count, self.tally.failed - failed_before, times))

    async def _finish(self) -> None:
        """Stop; in an open loop wait for the last answers, and time the missing ones up to now."""
        self._sending = False
        if self._schedule is None:
            self._measuring = False
            return
        ends_s = perf_counter() + LAST_ANSWERS_S
        while perf_counter() < ends_s and (
            self._waiting or self._tasks or any(connection.in_flight for connection in self._connections)
        ):
            await asyncio.sleep(0.01)
        self._measuring, now_s = False, perf_counter()
        left = [each for connection in self._connections for each in connection.in_flight]
        left += [(0, due_s) for due_s in self._waiting]
        for kind, since_s in left:
            self.tally.times[kind].add(int((now_s - since_s) * 1e6))
        self.tally.unanswered = len(left)

    async def connect(self) -> None:
        """Open all connections. Raises `OSError`."""
        options, loop = self._options, asyncio.get_running_loop()
        for first in range(0, options.idle_connections, CONNECTING_AT_ONCE):
            last = min(first + CONNECTING_AT_ONCE, options.idle_connections)
            opened = [
                loop.create_connection(
                    partial(self._make_idle, number), options.host, options.port, ssl=self._tls
                )
                for number in range(first, last)
            ]
            self._idle += [transport for transport, _ in await asyncio.gather(*opened)]
        for first in range(0, options.connections, CONNECTING_AT_ONCE):
            last = min(first + CONNECTING_AT_ONCE, options.connections)
            connections = [Connection(self, number) for number in range(first, last)]
            await asyncio.gather(*map(self._connect, connections))

    def _make_idle(self, number: int) -> Idle:
        requests = self._options.idle_requests
        return Idle(self, requests[number % len(requests)] if requests else b"")

    async def _connect(self, connection: Connection) -> None:
        await asyncio.get_running_loop().create_connection(
            lambda: connection, self._options.host, self._options.port, ssl=self._tls
        )

    async def _replace(self, number: int) -> None:
        connection = Connection(self, number)
        try:
            await self._connect(connection)
        except OSError as error:
            self.tally.error = f"cannot connect again: {error.strerror or error}"
            return
        if self._sending or self._waiting:
            self.ready(connection, self._options.pipeline, perf_counter())

    def close(self) -> None:
        """Abort all connections."""
        self._finished = True
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections):
            connection.transport.abort()
        for transport in self._idle:
            cast("asyncio.Transport", transport).abort()

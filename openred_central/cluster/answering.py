"""The leader answers the requests that followers hand on: many at once over each connection."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final, cast

from ..errors import InternalBug
from ..micro_engine.driving import start
from ..micro_engine.engine import Engine
from ..micro_engine.outgoing import close
from ..micro_engine.wire.messages import Request, Response
from ..micro_engine.wire.protocol import content_too_large
from ..micro_engine.wire.responses import as_response
from .asking import BadMessage, Message, Splitter, pack_answer, pack_sign, read_request

# A follower with more requests ready than can be begun in this time lets others go first.
TURN_S_MAX: Final = 0.001

log = logging.getLogger("openred.cluster")


class FollowerConnection(asyncio.Protocol):
    """One connection of a follower, for the routes of `engine`, which counts it as one of its connections.

    For limits and log, requests come from `peer`. Answers go as soon as they are ready, those of one turn of
    the loop together. A request that comes while the engine drains is not taken, and its follower is told.
    """

    # Set by `connection_made`, before which nothing else is called.
    _transport: asyncio.Transport

    def __init__(self, engine: Engine, peer: str) -> None:
        self._engine = engine
        self._shared = engine.shared
        self._peer = peer
        self._messages = Splitter()
        self._tasks = set[asyncio.Task[bytes | None]]()
        self._answers: list[bytes] = []
        self._used_s = self._shared.clock.monotonic_s()
        # Its turn is over with messages left; it goes on in the next turn of the loop.
        self._is_resting = False
        self._is_draining = False
        # Also if it was never taken in.
        self._is_lost = False

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of uvloop have no common base with those of asyncio.
        self._transport = cast(asyncio.Transport, transport)
        if not self._engine.take_in(self):
            self._is_lost = True
            self._transport.abort()
            return
        self._send(pack_sign(0))

    def data_received(self, data: bytes) -> None:
        self._shared.stats.bytes_in += len(data)
        self._messages.feed(data)
        if not self._is_resting:
            self._advance()

    def connection_lost(self, error: Exception | None) -> None:
        # Handlers run to their end: a change must not stop half-way.
        was_lost, self._is_lost = self._is_lost, True
        if not was_lost and not self._tasks:
            self._shared.leave(self, ())

    # Calls of the engine

    @property
    def leaving(self) -> bool:
        return self._is_draining or self._is_lost

    @property
    def waits_since_s(self) -> float:
        return math.inf

    def check_deadlines(self, now_s: float) -> None:
        """End a connection that was idle for long at `now_s`, in monotonic seconds."""
        if not self._tasks and now_s - self._used_s >= self._shared.limits.idle_timeout_s:
            self._transport.abort()

    def give_way(self) -> None:
        self._transport.abort()

    def drain(self) -> None:
        """Take no further request, and tell the follower, which closes when all others are answered."""
        self._is_draining = True
        self._send(pack_sign(0))

    def cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._transport.abort()

    # Requests

    def _advance(self) -> None:
        """Begin what has come, as far as the turn allows."""
        self._is_resting = False
        now_s = self._shared.clock.monotonic_s
        self._used_s = now_s()
        turn_ends_s = self._used_s + TURN_S_MAX
        try:
            while not self._is_lost and (message := self._messages.next()) is not None:
                self._take(message)
                if now_s() > turn_ends_s:
                    self._is_resting = True
                    asyncio.get_running_loop().call_soon(self._advance)
                    return
        except BadMessage as error:
            log.error("what a follower handed on cannot be read: %s", error)
            self._transport.abort()

    def _take(self, message: Message) -> None:
        if self._is_draining or not message.head:
            self._send(pack_sign(message.number))
            return
        task, answer = start(self._answered(message.number, read_request(message, self._peer)))
        if task is None:
            self._send(answer)
        else:
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def _answered(self, number: int, request: Request) -> bytes | None:
        """Return the message that answers a request, also one whose handler failed; None if it was cut."""
        shared, route = self._shared, None
        stats, began_s = shared.stats, shared.clock.monotonic_s()
        stats.requests += 1
        try:
            route, parameters = shared.router.admit(request)
            if len(request.body) > route.body_bytes_max:
                raise content_too_large(route.body_bytes_max)
            response = as_response(await route.handler(request, *parameters))
            if not isinstance(response, Response):
                await close(response.chunks)
                raise InternalBug(f"the answer to {request.path} streams, and cannot be handed back")
            answer = pack_answer(number, response)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            if isinstance(error, asyncio.CancelledError) and self._transport.is_closing():
                # It was cut, which is no bug of the handler.
                return None
            response = shared.error_response(error, request)
            answer = pack_answer(number, response)
        if route is not None:
            route.responses[response.status // 100] += 1
        stats.responses[response.status // 100] += 1
        stats.latency.observe(shared.clock.monotonic_s() - began_s)
        return answer

    def _done(self, task: asyncio.Task[bytes | None]) -> None:
        self._tasks.discard(task)
        self._used_s = self._shared.clock.monotonic_s()
        if not self._is_lost:
            self._send(task.result())
        elif not self._tasks:
            self._shared.leave(self, ())

    def _send(self, message: bytes | None) -> None:
        if message is None:
            return
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._flush)
        self._answers.append(message)

    def _flush(self) -> None:
        """Write all messages that are ready, in one call."""
        data = b"".join(self._answers)
        self._answers.clear()
        if data and not self._transport.is_closing():
            self._shared.stats.bytes_out += len(data)
            self._transport.write(data)

"""One client's connection: bytes in, answers out (RFC 9112).

Every callback has the same rhythm: feed → take → answer → one write for all answers that are ready. Only
the parser raises for what the client sent; that ends in `_refuse_framing`, after which nothing is parsed.

The phases of a connection are described in `channel`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

from ..errors import CallerError, InternalBug
from .channel import BODY, DISCARD, HANDLER, HEAD, LINGER, LOST, STREAM, Channel
from .driving import start
from .gate import GateKey
from .router import Parameters, Route
from .shared import CLIENT_LEFT, Shared
from .shortcut import Shortcut
from .streaming import close, pump
from .wire.messages import Request, Response, StreamingResponse
from .wire.responses import CONTINUE, as_response

# A connection that has more requests ready than can be answered in this time lets others go first.
TURN_S_MAX: Final = 0.001


class Connection(Channel):
    """The protocol of one connection: hears requests and answers them, in order, one at a time."""

    __slots__ = ("_head_at_s", "_pending", "_shortcut")
    # The request that waits for its body or its handler; absent while none does, to hold no memory.
    _pending: tuple[Request, Route, Parameters]
    # When the head of the request at hand was there.
    _head_at_s: float

    def __init__(self, shared: Shared, peer: str, gate_key: GateKey, *, scheme: str) -> None:
        super().__init__(shared, peer, gate_key, scheme=scheme)
        # What answers the next request if it is as the last two were.
        self._shortcut: tuple[Shortcut, Route] | None = None

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        shared = self._shared
        shared.stats.bytes_in += len(data)
        if self._shortcut is not None:
            try:
                data = self._take_shortcut(data, *self._shortcut)
            except Exception as error:  # noqa: BLE001
                # Nothing of it is written yet: the handler answers, or fails in its own way.
                route = self._shortcut[1]
                self._shortcut = None
                shared.report(error, Request(route.method, route.template, peer=self._peer))
            if not data:
                return
        if self.phase >= LINGER:
            self._throw_away(data)
            return
        self._now_s = shared.clock.monotonic_s()
        self._parser.feed(data)
        if self.phase <= DISCARD and not self._resting:
            self._advance()
        else:
            self._count_unread()
            self._balance_reading()

    def eof_received(self) -> bool:
        """Keep the connection open for the answers that are due; over TLS that cannot be (RFC 9112 §9.6)."""
        if self.phase >= LINGER:
            return False
        self._now_s = self._shared.clock.monotonic_s()
        self._input_ended = True
        self._parser.feed_eof()
        if self.phase <= DISCARD and not self._resting:
            self._advance()
        return self._transport.can_write_eof()

    def resume_writing(self) -> None:
        self._out.resume()
        self._now_s = self._shared.clock.monotonic_s()
        if self.phase in (BODY, DISCARD):
            # The client could not go on while reading was paused: its time starts anew.
            self._deadline_s = self._now_s + self._limits.body_timeout_s
        if self.phase <= DISCARD and not self._resting:
            self._advance()
        self._balance_reading()

    # The same, where all of it follows from the requests before

    def _take_shortcut(self, data: bytes, shortcut: Shortcut, route: Route) -> bytes:
        """Answer what `shortcut` can of the requests that `data` is, unless something is under way.

        Returns the rest, all of it where that is not what `data` is.
        """
        shared, out = self._shared, self._out
        if self.phase != HEAD or out.paused or self._resting or shared.draining or not self._parser.at_start:
            return data
        head_at_s = shared.clock.monotonic_s()
        parameter = shortcut.parameter(data)
        if parameter is not None:
            answer = shortcut.answer(parameter)
            if answer is None:
                return data
            out.write(shared.encoder.json(*answer, cors=route.cors))
            answered, data = 1, b""
        else:
            answered, data = self._take_pipelined(data, shortcut, route)
            if not answered:
                return data
        stats = shared.stats
        stats.requests += answered
        stats.responses[2] += answered
        route.responses[2] += answered
        self._now_s = now_s = shared.clock.monotonic_s()
        stats.latency.observe(now_s - head_at_s, answered)
        self._deadline_s = now_s + self._limits.idle_timeout_s
        return data

    def _take_pipelined(self, data: bytes, shortcut: Shortcut, route: Route) -> tuple[int, bytes]:
        """The same for several requests at once: how many were answered, and the rest."""
        encoder, replies, taken_bytes = self._shared.encoder, list[bytes](), 0
        for parameter in shortcut.parameters(data):
            answer = shortcut.answer(parameter)
            if answer is None:
                break
            replies.append(encoder.json(*answer, cors=route.cors))
            taken_bytes += shortcut.framing_bytes + len(parameter)
        if replies:
            self._out.write(b"".join(replies))
        return len(replies), data[taken_bytes:]

    # Feed → take → answer → write

    def _advance(self) -> None:
        """Take and answer what has come, until more must come, a handler waits, the client must read, or
        its turn is over."""
        parser, out = self._parser, self._out
        turn_ends_s, first = self._now_s + TURN_S_MAX, True
        try:
            while not out.paused:
                if first:
                    first = False
                elif not parser.buffered_bytes:
                    # Nearly always all is answered here: trying to read on takes 0.3 µs.
                    if self.phase == HEAD:
                        break
                elif self._shared.clock.monotonic_s() > turn_ends_s:
                    self._rest()
                    break
                if self.phase == HEAD:
                    request = parser.read_head()
                    if request is None:
                        break
                    self._take_head(request)
                elif self.phase > DISCARD or not self._take_body():
                    break
                if out.bytes_ready >= self._limits.write_buffer_bytes_max:
                    out.flush()
        except CallerError as error:
            self._refuse_framing(error)
        out.flush()
        if parser.unread_bytes or self._counted_bytes:
            self._count_unread()
        if self.phase == HEAD and not out.paused and not self._resting:
            self._await_head()
        if self._reading_paused or self.phase != HEAD or self._resting:
            self._balance_reading()

    def _rest(self) -> None:
        """Let the other connections go first, then go on."""
        self._resting = True
        self._shared.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        if self.phase <= DISCARD:
            self._now_s = self._shared.clock.monotonic_s()
            self._advance()
            self._balance_reading()

    def _take_body(self) -> bool:
        """Take a body, or as much of it as is read at once, and answer where one is due. False: more must
        come."""
        if self.phase == DISCARD:
            if self._parser.read_body(self._limits.body_bytes_max, keep=False) is None:
                return self._parser.rests
            self.phase = HEAD
            return True
        request, route, parameters = self._pending
        body = self._parser.read_body(route.body_bytes_max, keep=route.body != "none")
        if body is None:
            return self._parser.rests
        del self._pending
        request.body = body
        self._serve(request, route, parameters)
        return True

    def _take_head(self, request: Request) -> None:
        """Answer a request without a body; have the body of any other read, or thrown away."""
        shared = self._shared
        shared.stats.requests += 1
        self._head_timed = False
        self._head_at_s = self._now_s
        request.peer = self._peer
        try:
            route, parameters = shared.router.admit(request)
        except CallerError as error:
            self._refuse(request, error)
            return
        if request.content_length == 0:
            if route.prepare is not None:
                self._prepare(request, route)
            self._serve(request, route, parameters)
            return
        self._pending = request, route, parameters
        self._await_body(BODY)
        if request.expects_continue and not self._parser.body_started:
            self._out.add(CONTINUE)

    def _prepare(self, request: Request, route: Route) -> None:
        """Keep what answers further requests like `request`, once there were two."""
        section = self._parser.repeated_section
        if section is None or self._shared.observe is not None:
            return
        if self._shortcut is None or self._shortcut[1] is not route or not self._shortcut[0].ends(section):
            shortcut = self._shared.router.shortcut(request, route, section)
            self._shortcut = (shortcut, route) if shortcut is not None else None

    def _serve(self, request: Request, route: Route, parameters: Parameters) -> None:
        """Run the handler in place; where it waits, a task goes on and parsing stops until it is done."""
        try:
            task, result = start(route.handler(request, *parameters), self._shared.loop)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            self._finish(request, route, None, error)
            return
        if task is None:
            self._finish(request, route, result, None)
            return
        self.phase = HANDLER
        self._deadline_s = math.inf
        self._pending = request, route, parameters
        self._task = task
        task.add_done_callback(self._handler_done)

    def _handler_done(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        request, route, _ = self._pending
        del self._pending
        self._now_s = self._shared.clock.monotonic_s()
        error: BaseException | None = asyncio.CancelledError("the handler was cancelled")
        if not task.cancelled():
            error = task.exception()
        result = task.result() if error is None else None
        if self.phase == LOST:
            self._abandon(request, result, error)
        else:
            self._finish(request, route, result, error)
            self._advance()

    def _abandon(self, request: Request, result: object, error: BaseException | None) -> None:
        """Nobody waits for the answer any more; failures are still told, and streams closed."""
        if error is not None:
            self._shared.error_response(error, request)
        self._observe(request, CLIENT_LEFT, 0, self._now_s)
        if isinstance(result, StreamingResponse):
            self._shared.run_aside(close(result.chunks))
        self._shared.leave(self, self._gate_key)

    def _finish(self, request: Request, route: Route, result: object, error: BaseException | None) -> None:
        """Answer with what the handler returned, or with the `error` that it raised."""
        closes = False
        try:
            if error is None:
                response = result if type(result) is Response else as_response(result)
            else:
                closes = isinstance(error, CallerError) and error.close
                response = self._shared.error_response(error, request)
            self._respond(request, response, route.cors, closes)
        except (InternalBug, TypeError) as bug:
            # What the handler returned cannot be sent; nothing of it has been.
            response = self._shared.error_response(bug, request)
            self._respond(request, response, route.cors)
        route.responses[response.status // 100] += 1

    def _refuse(self, request: Request, error: CallerError) -> None:
        """Answer a request whose head is not acceptable; its body will be read and thrown away."""
        cors = self._shared.router.opens_refusal(request)
        self._respond(request, Response.problem(error), cors, error.close)
        if self.phase == HEAD and request.content_length != 0:
            self._await_body(DISCARD)

    def _respond(
        self, request: Request, response: Response | StreamingResponse, cors: bool, closes: bool = False
    ) -> None:
        """Have `response` sent, and decide what comes after it; `closes` says that nothing does.

        `cors` lets pages of any origin read it. Raises what `ResponseEncoder` raises.
        """
        shared = self._shared
        keep_alive = not closes and request.keep_alive and not shared.draining
        if self._input_ended and self._parser.idle:
            keep_alive = False
        head_only = request.method == "HEAD"
        answered_s = shared.clock.monotonic_s()
        shared.stats.latency.observe(answered_s - self._head_at_s)
        if isinstance(response, StreamingResponse):
            self._stream(request, response, cors=cors, keep_alive=keep_alive, head_only=head_only)
            return
        status = response.status
        # Who fails is told the id; all others are spared making one.
        request_id = request.identify(shared.new_request_id) if status >= 400 else ""
        data = shared.encoder.whole(
            response, keep_alive=keep_alive, head_only=head_only, cors=cors, request_id=request_id
        )
        self._out.add(data)
        shared.stats.responses[status // 100] += 1
        if shared.observe is not None:
            self._observe(request, status, len(data), answered_s)
        if keep_alive:
            self.phase = HEAD
        else:
            self._linger()

    def _observe(self, request: Request, status: int, sent_bytes: int, ended_s: float) -> None:
        """Tell whoever observes what became of `request`, which was done with at `ended_s`."""
        observe = self._shared.observe
        if observe is not None:
            observe(request, status, sent_bytes, ended_s - self._head_at_s)

    def _stream(
        self, request: Request, response: StreamingResponse, *, cors: bool, keep_alive: bool, head_only: bool
    ) -> None:
        """Send the head of `response` at once, and let a task send what `chunks` yields."""
        shared = self._shared
        chunked = request.version > 10
        keep_alive = keep_alive and chunked
        self._out.add(
            shared.encoder.streaming_head(response, keep_alive=keep_alive, chunked=chunked, cors=cors)
        )
        shared.stats.responses[response.status // 100] += 1
        before_bytes = self._out.bytes_written
        self._out.flush()
        self.phase = STREAM
        self._deadline_s = math.inf
        chunks = response.chunks
        body = close(chunks) if head_only else pump(chunks, self._out, chunked=chunked)
        self._task = shared.loop.create_task(body)
        self._task.add_done_callback(
            partial(self._stream_done, request, response.status, before_bytes, chunks, chunked, keep_alive)
        )

    def _stream_done(
        self,
        request: Request,
        status: int,
        before_bytes: int,
        chunks: AsyncIterator[bytes],
        chunked: bool,
        keep_alive: bool,
        task: asyncio.Task[Any],
    ) -> None:
        self._task = None
        self._now_s = self._shared.clock.monotonic_s()
        self._observe(request, status, self._out.bytes_written - before_bytes, self._now_s)
        whole = not task.cancelled()
        if not whole:
            # A task that is cancelled before its first step runs none of its own code.
            self._shared.run_aside(close(chunks))
        if whole and (error := task.exception()) is not None:
            self._shared.report(error, request)
            whole = False
        if self.phase == LOST:
            self._shared.leave(self, self._gate_key)
        elif not whole:
            # The client must see that the body is cut: by the missing last chunk, or else by a reset.
            if chunked:
                self._close()
            else:
                self._transport.abort()
        elif keep_alive:
            self.phase = HEAD
            self._advance()
        else:
            self._linger()

"""One client's connection: bytes in, answers out (RFC 9112).

Every callback has the same rhythm: feed → take → answer → one write for all answers that are ready. Only
the parser raises for what the client sent; that ends in `_refuse_framing`, after which nothing is parsed.

    phase     waits for                                    goes on to
    HEAD      a complete head                              BODY, DISCARD, HANDLER, STREAM, LINGER, CLOSING
    BODY      the rest of the body                         HEAD, HANDLER, STREAM, LINGER, CLOSING
    DISCARD   the rest of a body that is answered already  HEAD, LINGER, CLOSING
    HANDLER   the task of a handler                        HEAD, STREAM, LINGER
    STREAM    pieces of a body, and the client to read     HEAD, LINGER, CLOSING
    LINGER    the client to close; input is thrown away    CLOSING
    CLOSING   the transport to be done                     –
    LOST      the task of a handler, where one still runs  –

Any phase may become LOST. HEAD, BODY and DISCARD parse; the others do not.
"""

from __future__ import annotations

import asyncio
import math
from enum import IntEnum
from functools import partial
from typing import Any, Final, cast

from ..errors import CallerError
from .gate import GateKey
from .messages import Request, Response, StreamingResponse
from .outgoing import Outgoing
from .parser import RequestParser
from .replies import CONTINUE, as_response
from .router import Parameters, Route
from .service import Service
from .streaming import close, pump

# What a client may send ahead while its handler works or it does not read; above it, reading pauses.
READ_AHEAD_BYTES_MAX: Final = 64 * 1024


class Phase(IntEnum):
    HEAD = 0
    BODY = 1
    DISCARD = 2
    HANDLER = 3
    STREAM = 4
    LINGER = 5
    CLOSING = 6
    LOST = 7


_HEAD, _BODY, _DISCARD, _HANDLER, _STREAM, _LINGER, _CLOSING, _LOST = Phase


class Connection(asyncio.Protocol):
    """The protocol of one connection from `peer`, which the gate counts under `gate_key`.

    Beside the transport's callbacks, `check_deadlines` must be called about once a second.
    """

    __slots__ = (
        "_deadline_s",
        "_gate_key",
        "_head_timed",
        "_input_ended",
        "_limits",
        "_linger_bytes",
        "_now_s",
        "_out",
        "_parser",
        "_peer",
        "_pending",
        "_reading_paused",
        "_received_s",
        "_service",
        "_task",
        "_transport",
        "made",
        "phase",
    )
    # Set by `connection_made`, before which nothing else is called.
    _transport: asyncio.Transport
    _out: Outgoing
    # The request that waits for its body or its handler; absent while none does, to hold no memory.
    _pending: tuple[Request, Route, Parameters]

    def __init__(self, service: Service, peer: str, gate_key: GateKey) -> None:
        self._service = service
        self._limits = service.limits
        self._peer = peer
        self._gate_key = gate_key
        self._parser = RequestParser(service.limits)
        self.made = False
        self.phase: int = _HEAD
        self._task: asyncio.Task[Any] | None = None
        self._input_ended = False
        self._reading_paused = False
        # Whether the deadline of the head that is coming is set. At first it is: that of connecting.
        self._head_timed = True
        self._linger_bytes = 0
        self._now_s = self._received_s = service.clock.monotonic_s()
        self._deadline_s = self._now_s + self._limits.head_timeout_s

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes_max)
        self._out = Outgoing(self._transport, self._service.stats, self._now_s)
        self._service.connections.add(self)
        self.made = True

    def data_received(self, data: bytes) -> None:
        service = self._service
        service.stats.bytes_in += len(data)
        if self.phase >= _LINGER:
            self._linger_bytes += len(data)
            if self._linger_bytes > self._limits.linger_bytes_max:
                self._close()
            return
        self._received_s = self._now_s = service.clock.monotonic_s()
        self._parser.feed(data)
        if self.phase <= _DISCARD:
            self._advance()
        else:
            self._balance_reading()

    def eof_received(self) -> bool:
        """Keep the connection open for the answers that are due; over TLS that cannot be (RFC 9112 §9.6)."""
        if self.phase >= _LINGER:
            return False
        self._now_s = self._service.clock.monotonic_s()
        self._input_ended = True
        self._parser.feed_eof()
        if self.phase <= _DISCARD:
            self._advance()
        return self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._out.paused = True
        self._balance_reading()

    def resume_writing(self) -> None:
        self._out.resume()
        self._now_s = self._service.clock.monotonic_s()
        if self.phase in (_BODY, _DISCARD):
            # The client could not go on while reading was paused: its time starts anew.
            self._deadline_s = self._now_s + self._limits.body_timeout_s
        if self.phase <= _DISCARD:
            self._advance()
        self._balance_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.phase == _STREAM and self._task is not None:
            self._task.cancel()
        # A handler is let run to its end: what it changes must not stop half-way. Its connection keeps its
        # place at the gate until then, so that clients who leave early cannot pile up handlers.
        self.phase = _LOST
        if self._task is None:
            self._service.leave(self, self._gate_key)

    # What the engine calls

    def check_deadlines(self, now_s: float) -> None:
        """Close or reset the connection if its time is up at `now_s`, in monotonic seconds."""
        if self.phase == _LOST:
            return
        self._now_s = now_s
        if self._out.stalled_s(now_s) >= self._limits.write_timeout_s:
            self._service.stats.connections_reset += 1
            self._transport.abort()
        elif self.phase >= _LINGER and self._out.bytes_unsent:
            # The time to linger begins when the client has the answer.
            self._deadline_s = now_s + self._limits.linger_s
        elif now_s >= self._deadline_s and not self._out.paused:
            self._time_out()

    def drain(self) -> None:
        """Close if nothing is in flight, end a stream; else the next answer is the last."""
        if self.phase == _STREAM and self._task is not None:
            self._task.cancel()
        elif self.phase == _HEAD and self._parser.idle:
            self._close()

    def cut(self) -> None:
        """End everything now, without an answer."""
        if self._task is not None:
            self._task.cancel()
        if self.phase != _LOST:
            self._transport.abort()

    # Feed → take → answer → write

    def _advance(self) -> None:
        """Take and answer what has come, until more must come, a handler waits or the client must read."""
        out = self._out
        while self.phase <= _DISCARD and not out.paused:
            try:
                if not self._take():
                    break
            except CallerError as error:
                self._refuse_framing(error)
            if out.bytes_ready >= self._limits.write_buffer_bytes_max:
                out.flush()
        out.flush()
        if self.phase == _HEAD and not out.paused:
            self._await_head()
        if self._reading_paused or self.phase != _HEAD:
            self._balance_reading()

    def _take(self) -> bool:
        """Take one head or one body, and answer if that completes a request. False: more must come."""
        if self.phase == _HEAD:
            request = self._parser.read_head()
            if request is None:
                return False
            self._take_head(request)
        elif self.phase == _BODY:
            body = self._parser.read_body(self._pending[1].body_bytes_max)
            if body is None:
                return False
            request, route, parameters = self._pending
            del self._pending
            request.received_s = self._received_s
            if route.body != "none":
                request.body = body
            self._serve(request, route, parameters)
        else:
            if self._parser.read_body(self._limits.body_bytes_max) is None:
                return False
            self.phase = _HEAD
        return True

    def _take_head(self, request: Request) -> None:
        """Answer a request without a body; have the body of any other read, or thrown away."""
        service = self._service
        service.stats.requests += 1
        self._head_timed = False
        request.peer = self._peer
        request.received_s = self._received_s
        try:
            route, parameters = service.router.admit(request)
        except CallerError as error:
            self._refuse(request, error)
            return
        if request.content_length == 0:
            self._serve(request, route, parameters)
            return
        self._pending = request, route, parameters
        self._await_body(_BODY)
        if request.expects_continue and not self._parser.body_started:
            self._out.add(CONTINUE)

    def _await_body(self, phase: int) -> None:
        self.phase = phase
        self._deadline_s = self._now_s + self._limits.body_timeout_s

    def _await_head(self) -> None:
        """Set the deadline of the next head, or close where none can come."""
        if self._input_ended:
            self._close()
        elif self._parser.idle:
            if self._out.bytes_written:
                self._deadline_s = self._now_s + self._limits.idle_timeout_s
        elif not self._head_timed:
            self._head_timed = True
            self._deadline_s = self._now_s + self._limits.head_timeout_s

    def _serve(self, request: Request, route: Route, parameters: Parameters) -> None:
        """Run the handler in place; where it waits, a task goes on and parsing stops until it is done."""
        try:
            task = self._service.driver.start(route.handler(request, *parameters))
        except StopIteration as done:
            self._finish(request, route, done.value)
        except (Exception, asyncio.CancelledError) as error:
            self._fail(request, route, error)
        else:
            self.phase = _HANDLER
            self._deadline_s = math.inf
            self._pending = request, route, parameters
            self._task = task
            task.add_done_callback(self._handler_done)

    def _handler_done(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        request, route, _ = self._pending
        del self._pending
        self._now_s = self._service.clock.monotonic_s()
        if task.cancelled():
            self._fail(request, route, asyncio.CancelledError("the handler was cancelled"))
        elif (error := task.exception()) is not None:
            self._fail(request, route, error)
        else:
            self._finish(request, route, task.result())
        if self.phase == _LOST:
            self._service.leave(self, self._gate_key)
        else:
            self._advance()

    def _finish(self, request: Request, route: Route, result: object) -> None:
        """Answer with what the handler returned."""
        try:
            self._reply(request, as_response(result), cors=route.cors)
        except Exception as error:
            self._fail(request, route, error)

    def _fail(self, request: Request, route: Route, error: BaseException) -> None:
        """Answer with what the handler raised."""
        closing = isinstance(error, CallerError) and error.close
        self._reply(
            request, self._service.error_response(error, request), cors=route.cors, keep_alive=not closing
        )

    def _refuse(self, request: Request, error: CallerError) -> None:
        """Answer a request whose head is not acceptable; its body will be read and thrown away."""
        self._reply(request, Response.problem(error), cors=False, keep_alive=not error.close)
        if self.phase == _HEAD and request.content_length != 0:
            self._await_body(_DISCARD)

    def _refuse_framing(self, error: CallerError) -> None:
        """Answer bytes that are no request, if no answer to them was sent, and never parse again."""
        if self.phase != _DISCARD:
            response = Response.problem(error)
            self._out.add(
                self._service.replies.whole(response, keep_alive=False, head_only=False, cors=False)
            )
            self._service.stats.responses[response.status // 100] += 1
        self._linger()

    def _reply(
        self, request: Request, response: Response | StreamingResponse, *, cors: bool, keep_alive: bool = True
    ) -> None:
        """Have `response` sent, and decide what comes after it. Raises what `Replies` raises."""
        service = self._service
        if self.phase == _LOST:
            if isinstance(response, StreamingResponse):
                service.run_aside(close(response.chunks))
            return
        keep_alive = keep_alive and request.keep_alive and not service.draining
        if self._input_ended and self._parser.idle:
            keep_alive = False
        head_only = request.method == "HEAD"
        if isinstance(response, Response):
            answer = service.replies.whole(response, keep_alive=keep_alive, head_only=head_only, cors=cors)
        else:
            chunked = request.version > 10
            keep_alive = keep_alive and chunked
            answer = service.replies.streaming_head(
                response, keep_alive=keep_alive, chunked=chunked, cors=cors
            )
        self._out.add(answer)
        service.stats.responses[response.status // 100] += 1
        if isinstance(response, StreamingResponse):
            if not head_only:
                self._stream(request, response, chunked=chunked, keep_alive=keep_alive)
                return
            service.run_aside(close(response.chunks))
        if keep_alive:
            self.phase = _HEAD
        else:
            self._linger()

    def _stream(
        self, request: Request, response: StreamingResponse, *, chunked: bool, keep_alive: bool
    ) -> None:
        self._out.flush()
        self.phase = _STREAM
        self._deadline_s = math.inf
        self._task = self._service.loop.create_task(pump(response.chunks, self._out, chunked=chunked))
        self._task.add_done_callback(partial(self._stream_done, request, chunked, keep_alive))

    def _stream_done(
        self, request: Request, chunked: bool, keep_alive: bool, task: asyncio.Task[Any]
    ) -> None:
        self._task = None
        self._now_s = self._service.clock.monotonic_s()
        whole = not task.cancelled()
        if whole and (error := task.exception()) is not None:
            self._service.report(error, request)
            whole = False
        if self.phase == _LOST:
            self._service.leave(self, self._gate_key)
        elif not whole:
            # The client must see that the body is cut: by the missing last chunk, or else by a reset.
            if chunked:
                self._close()
            else:
                self._transport.abort()
        elif keep_alive:
            self.phase = _HEAD
            self._advance()
        else:
            self._linger()

    # The end

    def _time_out(self) -> None:
        """The deadline of this phase has passed."""
        if self.phase == _HEAD and self._parser.idle and self._out.bytes_written:
            self._close()
        elif self.phase <= _BODY:
            self._service.stats.timeouts += 1
            awaited, allowed_s = (
                ("head", self._limits.head_timeout_s)
                if self.phase == _HEAD
                else ("body", self._limits.body_timeout_s)
            )
            self._refuse_framing(
                CallerError(
                    408,
                    "request_timeout",
                    f"The {awaited} of the request did not come within {allowed_s:g} seconds.",
                    suggestion="Send the whole request at once.",
                    close=True,
                )
            )
        elif self.phase == _CLOSING:
            self._transport.abort()
        else:
            self._close()

    def _linger(self) -> None:
        """Finish the write side, then throw away what still comes: a client that is reset while it sends
        may never see the answer (RFC 9112 §9.6)."""
        self._out.flush()
        if self._input_ended or self._transport.is_closing() or not self._transport.can_write_eof():
            self._close()
            return
        self._transport.write_eof()
        self.phase = _LINGER
        self._deadline_s = self._now_s + self._limits.linger_s
        self._balance_reading()

    def _close(self) -> None:
        """Close when all that was written is sent."""
        if self.phase < _CLOSING:
            self._out.flush()
            self.phase = _CLOSING
            self._deadline_s = self._now_s + self._limits.write_timeout_s
            self._transport.close()

    def _balance_reading(self) -> None:
        """Pause reading while the client does not read, or has sent enough ahead; else resume it."""
        pause = self.phase < _LINGER and (
            self._out.paused
            or (self.phase >= _HANDLER and self._parser.buffered_bytes > READ_AHEAD_BYTES_MAX)
        )
        if pause == self._reading_paused or self._input_ended:
            return
        self._reading_paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

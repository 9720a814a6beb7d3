"""One client's connection: bytes in, answers out (RFC 9112), with its phases, deadlines and back-pressure.

    phase     waits for                                    goes on to
    HEAD      a complete head                              BODY, HANDLER, STREAM, LINGER, CLOSING
    BODY      the rest of the body                         HEAD, HANDLER, STREAM, LINGER, CLOSING
    HANDLER   the task of a handler                        HEAD, STREAM, LINGER, CLOSING
    STREAM    pieces of a body, and the client to read     HEAD, LINGER, CLOSING
    LINGER    the client to close; input is thrown away    CLOSING
    CLOSING   the transport to be done                     –
    LOST      the task of a handler, if one still runs     –

Any phase may become LOST. HEAD and BODY parse; the others do not. In each turn, a connection feeds the
parser, takes and answers requests, and writes all answers that are ready at once. Only the parser raises for
what the client sent; that ends in `_refuse_framing`, after which nothing is parsed.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final, cast

from ..errors import CallerError, InternalBug
from .driving import start
from .gate import GateKey
from .limits import UNREAD_BYTES_FREE
from .outgoing import Outgoing, close
from .router import Parameters, Route
from .shared import CLIENT_LEFT, Shared, too_many_connections
from .shortcut import learn, take
from .wire.messages import Request, Response, StreamingResponse
from .wire.parser import RequestParser
from .wire.responses import CONTINUE, as_response

# A client may send so much ahead while its handler works or while it does not read; then reading pauses.
READ_AHEAD_BYTES_MAX: Final = 64 * 1024
# A connection with more requests ready than can be answered in this time lets others go first.
TURN_S_MAX: Final = 0.001

# In the order of the table: comparisons such as `phase <= BODY`, which means that it parses, rely on it.
HEAD, BODY, HANDLER, STREAM, LINGER, CLOSING, LOST = range(7)


class Connection(asyncio.Protocol):
    """A connection from `peer`, which the gate counts under `gate_key`. It answers requests in order.

    `scheme` is ``https`` over TLS, else ``http``. Beside the transport's callbacks, `check_deadlines` must be
    called about once a second.
    """

    __slots__ = (
        "_allowed_s",
        "_at_start",
        "_counted_bytes",
        "_gate_key",
        "_head_at_s",
        "_head_timed",
        "_input_ended",
        "_limits",
        "_linger_bytes",
        "_now_s",
        "_peer",
        "_pending",
        "_reading_paused",
        "_resting",
        "_served",
        "_shared",
        "_since_s",
        "_task",
        "_transport",
        "made",
        "out",
        "parser",
        "phase",
    )
    # Set by `connection_made`, before which nothing else is called.
    _transport: asyncio.Transport
    out: Outgoing

    def __init__(self, shared: Shared, peer: str, gate_key: GateKey, *, scheme: str) -> None:
        self._shared = shared
        self._limits = shared.limits
        self._peer = peer
        self._gate_key = gate_key
        self.parser = RequestParser(shared.limits, scheme)
        self.made = False
        self.phase: int = HEAD
        # When something last happened here, and when the head of the request at hand had come.
        self._now_s = self._head_at_s = shared.clock.monotonic_s()
        # The deadline of the phase: `_allowed_s` seconds after `_since_s`.
        self._since_s, self._allowed_s = self._now_s, self._limits.head_timeout_s
        # The deadline is that of a head that began to come; at first, it is that of connecting.
        self._head_timed = True
        # The request whose body is to come; None if that body is thrown away, and in all other phases.
        self._pending: tuple[Request, Route, Parameters] | None = None
        # The task of a handler that waits, or of a body that streams.
        self._task: asyncio.Task[bool] | None = None
        # The request of that task.
        self._served: Request | None = None
        # The next bytes begin a request, which can be answered at once.
        self._at_start = True
        self._input_ended = False
        self._reading_paused = False
        # Its turn is over with requests left; it goes on in the next turn of the loop.
        self._resting = False
        self._linger_bytes = 0
        # The share of this connection in `Shared.unread_bytes`.
        self._counted_bytes = 0

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes_max)
        self.out = Outgoing(self._transport, self._shared.stats, self._now_s)
        self._shared.connections.add(self)
        self.made = True

    def data_received(self, data: bytes) -> None:
        shared = self._shared
        shared.stats.bytes_in += len(data)
        if self._at_start:
            rest = take(data, self._peer, shared, self.out)
            if rest is not data:
                self._now_s = self._since_s = shared.turn.now_s
                if self._head_timed:
                    self._allowed_s, self._head_timed = self._limits.idle_timeout_s, False
                if not rest:
                    if rest is None:
                        self._linger()
                        self._balance_reading()
                    return
                data = rest
            self._at_start = False
        if self.phase >= LINGER:
            self._linger_bytes += len(data)
            if self._linger_bytes > self._limits.linger_bytes_max:
                self._close()
            return
        self.parser.feed(data)
        self._advance()

    def eof_received(self) -> bool:
        """Keep the connection open for the answers that are due; TLS cannot do that (RFC 9112 §9.6)."""
        if self.phase >= LINGER:
            return False
        self._input_ended = True
        self._tell_input_ended()
        self.parser.feed_eof()
        self._advance()
        return self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self.out.paused = True
        self._at_start = False
        self._balance_reading()

    def resume_writing(self) -> None:
        self.out.resume()
        if self.phase == BODY:
            # The client could not send while reading was paused: its time starts anew.
            self._since_s = self._shared.clock.monotonic_s()
        self._advance()

    def connection_lost(self, error: Exception | None) -> None:
        if self.phase == STREAM and self._task is not None:
            self._task.cancel()
        # A handler runs to its end: its change must not stop half-way. Its connection keeps its place at the
        # gate until then, so that clients who leave early cannot pile up handlers.
        self.phase = LOST
        self._tell_input_ended()
        self._end_input()
        if self._task is None:
            self._shared.leave(self, self._gate_key)

    # Calls of the engine

    @property
    def leaving(self) -> bool:
        return self.phase >= CLOSING

    @property
    def waits_since_s(self) -> float:
        """Return since when it has waited for a request, in monotonic seconds; infinite if it does not."""
        return math.inf if self.phase > BODY or self._resting else self._since_s

    def check_deadlines(self, now_s: float) -> None:
        """Close or reset the connection if its time is up at `now_s`, in monotonic seconds."""
        if self.phase == LOST:
            return
        self._now_s = now_s
        if self.out.stalled_s(now_s) >= self._limits.write_timeout_s:
            self._shared.stats.connections_reset += 1
            self._transport.abort()
        elif self.phase >= LINGER and self.out.bytes_unsent:
            # The time to linger begins when the client has the answer.
            self._since_s = now_s
        elif now_s - self._since_s >= self._allowed_s and not self.out.paused and not self._resting:
            self._time_out()

    def give_way(self) -> None:
        """Close now, so that another connection gets the place."""
        self._close()
        self._transport.abort()

    def drain(self) -> None:
        """Close if nothing is in flight, end a stream; otherwise the next answer is the last.

        If the last answer is sent already, but not yet at its end, it closes when it would wait for a head.
        """
        if self.phase == STREAM and self._task is not None:
            self._task.cancel()
        elif self.phase == HEAD and self.parser.idle:
            self._close()

    def cut(self) -> None:
        """End everything now, without an answer."""
        if self._task is not None:
            self._task.cancel()
        if self.phase != LOST:
            self._transport.abort()

    # Requests

    def _advance(self) -> None:
        """Take and answer what has come, as far as the phase allows."""
        self._now_s = self._shared.clock.monotonic_s()
        if self.phase >= LINGER:
            return
        if self.phase <= BODY and not self._resting:
            try:
                self._take_requests()
            except CallerError as error:
                self._refuse_framing(error)
            self.out.flush()
            if self.phase == HEAD and not self.out.paused and not self._resting:
                self._await_head()
        if self.parser.unread_bytes or self._counted_bytes:
            self._count_unread()
        if self._reading_paused or self.phase != HEAD or self._resting:
            self._balance_reading()
        self._at_start = (
            self.phase == HEAD and not self._resting and not self.out.paused and self.parser.at_start
        )

    def _take_requests(self) -> None:
        """Answer until more must come, a handler waits, the client must read, or the turn is over."""
        parser, out = self.parser, self.out
        turn_ends_s, first = self._now_s + TURN_S_MAX, True
        while not out.paused:
            if first:
                first = False
            elif not parser.buffered_bytes:
                # Nearly always everything is answered here.
                if self.phase == HEAD:
                    return
            elif self._shared.clock.monotonic_s() > turn_ends_s:
                self._resting = True
                asyncio.get_running_loop().call_soon(self._go_on)
                return
            if self.phase == HEAD:
                request = parser.read_head()
                if request is None:
                    return
                self._take_head(request)
            elif self.phase > BODY or not self._take_body():
                return
            if out.bytes_ready >= self._limits.write_buffer_bytes_max:
                out.flush()

    def _go_on(self) -> None:
        self._resting = False
        self._advance()

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
            cors = shared.router.opens_refusal(request)
            self._settle(self._respond(request, Response.problem(error), cors=cors, closes=error.close))
            if self.phase == HEAD and request.content_length != 0:
                self._await_body()
            return
        if request.content_length != 0:
            self._pending = request, route, parameters
            self._await_body()
            if request.expects_continue and not self.parser.body_started:
                self.out.add(CONTINUE)
            return
        if route.prepare is not None:
            learn(request, route, self.parser.section, shared)
        self._serve(request, route, parameters)

    def _take_body(self) -> bool:
        """Take a body, or as much of it as is read at once, and answer. Return False if more must come."""
        pending = self._pending
        if pending is None:
            body = self.parser.read_body(self._limits.body_bytes_max, keep=False)
        else:
            body = self.parser.read_body(pending[1].body_bytes_max, keep=pending[1].body != "none")
        if body is None:
            return self.parser.rests
        self.phase = HEAD
        if pending is not None:
            self._pending = None
            pending[0].body = body
            self._serve(*pending)
        return True

    def _serve(self, request: Request, route: Route, parameters: Parameters) -> None:
        """Answer in place; if the handler waits or the answer streams, a task goes on and parsing stops."""
        task, keep_alive = start(self._exchange(request, route, parameters))
        if task is None:
            self._settle(keep_alive)
            return
        if self.phase != STREAM:
            self.phase = HANDLER
        self._allowed_s = math.inf
        self._task, self._served = task, request
        if self._input_ended:
            self._tell_input_ended()
        task.add_done_callback(self._exchange_done)

    async def _exchange(self, request: Request, route: Route, parameters: Parameters) -> bool:
        """Answer `request` with what its handler returns or raises. Return whether another may follow."""
        shared = self._shared
        closes = False
        try:
            response = as_response(await route.handler(request, *parameters))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            if isinstance(error, asyncio.CancelledError) and self._transport.is_closing():
                # It was cut, which is no bug of the handler.
                shared.observe(request, CLIENT_LEFT, 0, shared.clock.monotonic_s() - self._head_at_s)
                return False
            response = shared.error_response(error, request)
            closes = isinstance(error, CallerError) and error.close
        if self.phase == LOST:
            shared.observe(request, CLIENT_LEFT, 0, shared.clock.monotonic_s() - self._head_at_s)
            if isinstance(response, StreamingResponse):
                await close(response.chunks)
            return False
        try:
            keep_alive = self._respond(request, response, cors=route.cors, closes=closes)
        except (InternalBug, TypeError) as bug:
            # The response cannot be sent; no byte of it has been.
            response = shared.error_response(bug, request)
            keep_alive = self._respond(request, response, cors=route.cors)
        route.responses[response.status // 100] += 1
        if isinstance(response, StreamingResponse):
            return await self._stream(request, response, keep_alive)
        return keep_alive

    def _exchange_done(self, task: asyncio.Task[bool]) -> None:
        self._task = self._served = None
        if self.phase == LOST:
            self._shared.leave(self, self._gate_key)
        else:
            self._settle(task.result())
            self._advance()

    def _respond(
        self,
        request: Request,
        response: Response | StreamingResponse,
        *,
        cors: bool,
        closes: bool = False,
    ) -> bool:
        """Have `response`, or the head of one that streams, sent. Return whether another request may follow.

        `cors` permits pages of any origin to read it. Raises what `ResponseEncoder` raises.
        """
        shared = self._shared
        keep_alive = not (
            closes
            or not request.keep_alive
            or shared.draining
            or (self._input_ended and self.parser.idle)
            or (isinstance(response, StreamingResponse) and request.version == 10)
        )
        took_s = shared.clock.monotonic_s() - self._head_at_s
        if isinstance(response, StreamingResponse):
            data = shared.encoder.streaming_head(
                response, keep_alive=keep_alive, chunked=request.version > 10, cors=cors
            )
        else:
            # Only error responses carry a request id.
            request_id = request.identify(shared.new_request_id) if response.status >= 400 else ""
            data = shared.encoder.whole(
                response,
                keep_alive=keep_alive,
                head_only=request.method == "HEAD",
                cors=cors,
                request_id=request_id,
            )
            shared.observe(request, response.status, len(data), took_s)
        self.out.add(data)
        shared.stats.latency.observe(took_s)
        shared.stats.responses[response.status // 100] += 1
        return keep_alive

    async def _stream(self, request: Request, response: StreamingResponse, keep_alive: bool) -> bool:
        """Send the body of `response`, whose head is ready. Return whether another request may follow."""
        shared, out = self._shared, self.out
        chunked = request.version > 10
        before_bytes = out.bytes_written
        out.flush()
        self.phase = STREAM
        try:
            if request.method == "HEAD":
                await close(response.chunks)
            else:
                await out.stream(response.chunks, chunked=chunked)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            if not isinstance(error, asyncio.CancelledError):
                shared.report(error, request)
            keep_alive = False
            # The client must see that the body is cut: by the missing last chunk, or else by a reset.
            if chunked:
                self._close()
            elif self.phase != LOST:
                self._transport.abort()
        took_s = shared.clock.monotonic_s() - self._head_at_s
        shared.observe(request, response.status, out.bytes_written - before_bytes, took_s)
        return keep_alive

    def _settle(self, keep_alive: bool) -> None:
        """Wait for the next request if the connection is kept, else linger."""
        if self.phase >= LINGER:
            return
        if keep_alive:
            self.phase = HEAD
        else:
            self._linger()

    # Deadlines

    def _await_head(self) -> None:
        """Set the deadline of the next head; close if none can come, or if the engine drains."""
        if self._input_ended or (self._shared.draining and self.parser.idle):
            self._close()
        elif self.parser.idle:
            if self.out.bytes_written:
                # Also after half an empty line began a head that came to nothing.
                self._head_timed = False
                self._since_s, self._allowed_s = self._now_s, self._limits.idle_timeout_s
        elif not self._head_timed:
            self._head_timed = True
            self._since_s, self._allowed_s = self._now_s, self._limits.head_timeout_s

    def _await_body(self) -> None:
        self.phase = BODY
        self._since_s, self._allowed_s = self._now_s, self._limits.body_timeout_s

    def _time_out(self) -> None:
        idle = self.phase == HEAD and self.parser.idle and self.out.bytes_written
        thrown_away = self.phase == BODY and self._pending is None
        if self.phase == CLOSING:
            self._transport.abort()
        elif self.phase > BODY or idle or thrown_away:
            self._close()
        else:
            self._shared.stats.timeouts += 1
            allowed_s = self._allowed_s
            self._refuse_framing(
                CallerError(
                    408,
                    "request_timeout",
                    f"The {'head' if self.phase == HEAD else 'body'} of the request did not come within "
                    f"{allowed_s:g} second{'' if allowed_s == 1 else 's'}.",
                    suggestion="Send the whole request at once.",
                    close=True,
                )
            )

    # The end

    def _refuse_framing(self, error: CallerError) -> None:
        """Answer bytes that are no request, unless the request was answered, and never parse again."""
        if self.phase == HEAD or self._pending is not None:
            shared, response = self._shared, Response.problem(error)
            # Nothing of the request is known, not even the id that it may bring.
            unread = Request("", "", peer=self._peer)
            data = shared.encoder.whole(
                response,
                keep_alive=False,
                head_only=False,
                cors=False,
                request_id=unread.identify(shared.new_request_id),
            )
            self.out.add(data)
            shared.stats.responses[response.status // 100] += 1
            shared.observe(unread, response.status, len(data), 0.0)
        self._linger()

    def _linger(self) -> None:
        """Finish the write side, then throw away what still comes.

        A client that is reset while it sends may never see the answer (RFC 9112 §9.6).
        """
        self.out.flush()
        if self._input_ended or self._transport.is_closing() or not self._transport.can_write_eof():
            self._close()
            return
        self._transport.write_eof()
        self.phase = LINGER
        self._end_input()
        self._since_s, self._allowed_s = self._now_s, self._limits.linger_s
        self._balance_reading()

    def _close(self) -> None:
        """Close when all that was written is sent."""
        if self.phase < CLOSING:
            self.out.flush()
            self.phase = CLOSING
            self._end_input()
            # When all is sent, the other side need not end TLS, too (RFC 8446 §6.1).
            self._since_s, self._allowed_s = self._now_s, self._limits.linger_s
            self._transport.close()

    def _tell_input_ended(self) -> None:
        """Let a handler that waits know that nothing more comes from its client, if it wants to."""
        if self._served is not None and self._served.on_input_end is not None:
            self._served.on_input_end()

    def _end_input(self) -> None:
        """Read and keep nothing any more."""
        self._at_start = False
        self._pending = None
        self.parser.end()
        self._count_unread()

    # Back-pressure

    def _count_unread(self) -> None:
        """Count what is unread here; if all connections hold too much, refuse what makes it more."""
        shared = self._shared
        grown_bytes = max(0, self.parser.unread_bytes - UNREAD_BYTES_FREE) - self._counted_bytes
        self._counted_bytes += grown_bytes
        shared.unread_bytes += grown_bytes
        if grown_bytes > 0 and shared.unread_bytes > shared.unread_bytes_max and self.phase < LINGER:
            shared.stats.connections_refused += 1
            if self.phase <= BODY:
                self._refuse_framing(
                    too_many_connections(
                        "Unfinished requests take up more than the "
                        f"{shared.unread_bytes_max} bytes allowed for all connections.",
                        "Come back later, and send each request at once.",
                    )
                )
            else:
                self._transport.abort()

    def _balance_reading(self) -> None:
        """Pause reading while the client does not read, or has sent enough ahead; else resume it."""
        busy = self.phase >= HANDLER or self._resting
        pause = self.phase < LINGER and (
            self.out.paused or (busy and self.parser.buffered_bytes > READ_AHEAD_BYTES_MAX)
        )
        if pause == self._reading_paused or self._input_ended:
            return
        self._reading_paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

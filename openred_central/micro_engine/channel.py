"""The life of one connection apart from what it says: its phases, deadlines, back-pressure and end.

    phase     waits for                                    goes on to
    HEAD      a complete head                              BODY, DISCARD, HANDLER, STREAM, LINGER, CLOSING
    BODY      the rest of the body                         HEAD, HANDLER, STREAM, LINGER, CLOSING
    DISCARD   the rest of a body that is answered already  HEAD, LINGER, CLOSING
    HANDLER   the task of a handler                        HEAD, STREAM, LINGER, CLOSING
    STREAM    pieces of a body, and the client to read     HEAD, LINGER, CLOSING
    LINGER    the client to close; input is thrown away    CLOSING
    CLOSING   the transport to be done                     –
    LOST      the task of a handler, where one still runs  –

Any phase may become LOST. HEAD, BODY and DISCARD parse; the others do not.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final, cast

from ..errors import CallerError
from .gate import GateKey
from .limits import UNREAD_BYTES_FREE
from .outgoing import Outgoing
from .shared import Shared
from .wire.messages import Request, Response
from .wire.parser import RequestParser

# What a client may send ahead while its handler works or it does not read; above it, reading pauses.
READ_AHEAD_BYTES_MAX: Final = 64 * 1024

# In the order of the table: comparisons such as `phase <= DISCARD`, which means that it parses, rely on it.
HEAD, BODY, DISCARD, HANDLER, STREAM, LINGER, CLOSING, LOST = range(8)


class Channel(asyncio.Protocol):
    """A connection from `peer`, which the gate counts under `gate_key`, without knowing what is said on it.

    `scheme` is ``https`` where it runs over TLS, else ``http``. Beside the transport's callbacks,
    `check_deadlines` must be called about once a second.
    """

    __slots__ = (
        "_counted_bytes",
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
        "_reading_paused",
        "_resting",
        "_shared",
        "_task",
        "_transport",
        "made",
        "phase",
    )
    # Set by `connection_made`, before which nothing else is called.
    _transport: asyncio.Transport
    _out: Outgoing

    def __init__(self, shared: Shared, peer: str, gate_key: GateKey, *, scheme: str) -> None:
        self._shared = shared
        self._limits = shared.limits
        self._peer = peer
        self._gate_key = gate_key
        self._parser = RequestParser(shared.limits, scheme)
        self.made = False
        self.phase: int = HEAD
        # The task of a handler that waits, or of a body that streams.
        self._task: asyncio.Task[Any] | None = None
        self._input_ended = False
        self._reading_paused = False
        # Whether its turn is over with requests left, which it will go on with in the next turn of the loop.
        self._resting = False
        # Whether the deadline of the head that is coming is set. At first it is: that of connecting.
        self._head_timed = True
        self._linger_bytes = 0
        # The share of this connection in `Shared.unread_bytes`.
        self._counted_bytes = 0
        # When something last happened here.
        self._now_s = shared.clock.monotonic_s()
        self._deadline_s = self._now_s + self._limits.head_timeout_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes_max)
        self._out = Outgoing(self._transport, self._shared.stats, self._now_s)
        self._shared.connections.add(self)
        self.made = True

    def connection_lost(self, error: Exception | None) -> None:
        if self.phase == STREAM and self._task is not None:
            self._task.cancel()
        # A handler is let run to its end: what it changes must not stop half-way. Its connection keeps its
        # place at the gate until then, so that clients who leave early cannot pile up handlers.
        self.phase = LOST
        self._end_input()
        if self._task is None:
            self._shared.leave(self, self._gate_key)

    def pause_writing(self) -> None:
        self._out.paused = True
        self._balance_reading()

    def check_deadlines(self, now_s: float) -> None:
        """Close or reset the connection if its time is up at `now_s`, in monotonic seconds."""
        if self.phase == LOST:
            return
        self._now_s = now_s
        if self._out.stalled_s(now_s) >= self._limits.write_timeout_s:
            self._shared.stats.connections_reset += 1
            self._transport.abort()
        elif self.phase >= LINGER and self._out.bytes_unsent:
            # The time to linger begins when the client has the answer.
            self._deadline_s = now_s + self._limits.linger_s
        elif now_s >= self._deadline_s and not self._out.paused and not self._resting:
            self._time_out()

    @property
    def leaving(self) -> bool:
        """Whether it is closing, or closed."""
        return self.phase >= CLOSING

    @property
    def waits_since_s(self) -> float:
        """Since when it has waited for a request, in monotonic seconds; infinite where it waits for none."""
        if self.phase > DISCARD or self._resting:
            return math.inf
        if self.phase != HEAD:
            return self._deadline_s - self._limits.body_timeout_s
        return self._deadline_s - (
            self._limits.head_timeout_s if self._head_timed else self._limits.idle_timeout_s
        )

    def give_way(self) -> None:
        """Close now, for others to have the place."""
        self._close()
        self._transport.abort()

    def drain(self) -> None:
        """Close if nothing is in flight, end a stream; else the next answer is the last.

        One whose last answer is out already, but not yet at its end, closes when it comes to wait for a head.
        """
        if self.phase == STREAM and self._task is not None:
            self._task.cancel()
        elif self.phase == HEAD and self._parser.idle:
            self._close()

    def cut(self) -> None:
        """End everything now, without an answer."""
        if self._task is not None:
            self._task.cancel()
        if self.phase != LOST:
            self._transport.abort()

    # For what is said on it

    def _await_head(self) -> None:
        """Set the deadline of the next head, or close where none can come, or none is wanted any more."""
        if self._input_ended or (self._shared.draining and self._parser.idle):
            self._close()
        elif self._parser.idle:
            if self._out.bytes_written:
                # Also where half an empty line began a head, of which nothing is left.
                self._head_timed = False
                self._deadline_s = self._now_s + self._limits.idle_timeout_s
        elif not self._head_timed:
            self._head_timed = True
            self._deadline_s = self._now_s + self._limits.head_timeout_s

    def _await_body(self, phase: int) -> None:
        self.phase = phase
        self._deadline_s = self._now_s + self._limits.body_timeout_s

    def _count_unread(self) -> None:
        """Count what is unread here; where all connections hold too much, refuse what makes it more."""
        shared = self._shared
        grown_bytes = max(0, self._parser.unread_bytes - UNREAD_BYTES_FREE) - self._counted_bytes
        self._counted_bytes += grown_bytes
        shared.unread_bytes += grown_bytes
        if grown_bytes > 0 and shared.unread_bytes > shared.unread_bytes_max and self.phase < LINGER:
            shared.stats.connections_refused += 1
            if self.phase <= DISCARD:
                self._refuse_framing(_too_much_unread(shared.unread_bytes_max))
            else:
                self._transport.abort()

    def _end_input(self) -> None:
        """Read and keep nothing any more."""
        self._parser.end()
        self._count_unread()

    def _throw_away(self, data: bytes) -> None:
        """Take `data` that nobody will read, as much as may come while the connection lingers."""
        self._linger_bytes += len(data)
        if self._linger_bytes > self._limits.linger_bytes_max:
            self._close()

    def _refuse_framing(self, error: CallerError) -> None:
        """Answer bytes that are no request, if no answer to them was sent, and never parse again."""
        if self.phase != DISCARD:
            shared, response = self._shared, Response.problem(error)
            # Of what cannot be read nothing is known, not even the id that it may bring.
            unread = Request("", "", peer=self._peer)
            data = shared.encoder.whole(
                response,
                keep_alive=False,
                head_only=False,
                cors=False,
                request_id=unread.identify(shared.new_request_id),
            )
            self._out.add(data)
            shared.stats.responses[response.status // 100] += 1
            if shared.observe is not None:
                shared.observe(unread, response.status, len(data), 0.0)
        self._linger()

    def _time_out(self) -> None:
        """The deadline of this phase has passed."""
        if self.phase == HEAD and self._parser.idle and self._out.bytes_written:
            self._close()
        elif self.phase <= BODY:
            self._shared.stats.timeouts += 1
            awaited, allowed_s = (
                ("head", self._limits.head_timeout_s)
                if self.phase == HEAD
                else ("body", self._limits.body_timeout_s)
            )
            self._refuse_framing(
                CallerError(
                    408,
                    "request_timeout",
                    f"The {awaited} of the request did not come within {allowed_s:g} "
                    f"second{'' if allowed_s == 1 else 's'}.",
                    suggestion="Send the whole request at once.",
                    close=True,
                )
            )
        elif self.phase == CLOSING:
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
        self.phase = LINGER
        self._end_input()
        self._deadline_s = self._now_s + self._limits.linger_s
        self._balance_reading()

    def _close(self) -> None:
        """Close when all that was written is sent."""
        if self.phase < CLOSING:
            self._out.flush()
            self.phase = CLOSING
            self._end_input()
            # When all is sent, nobody has to wait until the other side ends TLS, too (RFC 8446 §6.1).
            self._deadline_s = self._now_s + self._limits.linger_s
            self._transport.close()

    def _balance_reading(self) -> None:
        """Pause reading while the client does not read, or has sent enough ahead; else resume it."""
        busy = self.phase >= HANDLER or self._resting
        pause = self.phase < LINGER and (
            self._out.paused or (busy and self._parser.buffered_bytes > READ_AHEAD_BYTES_MAX)
        )
        if pause == self._reading_paused or self._input_ended:
            return
        self._reading_paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


def _too_much_unread(bytes_max: int) -> CallerError:
    return CallerError(
        503,
        "too_many_connections",
        f"Unfinished requests take up more than the {bytes_max} bytes allowed for all connections.",
        suggestion="Come back later, and send each request at once.",
        headers=(("Retry-After", "5"),),
        close=True,
    )

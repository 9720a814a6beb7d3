"""The parts that all connections of one engine share, its counters, and the responses to errors."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from ..clock import Clock
from ..errors import CallerError
from ..histogram import Histogram
from .gate import Gate, GateKey
from .limits import UNREAD_BYTES_MAX, EngineLimits
from .router import Router
from .wire.messages import Request, Response
from .wire.responses import ResponseEncoder

if TYPE_CHECKING:
    from .places import Places

# The status reported to the observer if the client left before its answer.
CLIENT_LEFT: Final = 499

log = logging.getLogger(__name__)


def too_many_connections(message: str, suggestion: str) -> CallerError:
    """Return a 503 ``too_many_connections``, which closes the connection."""
    retry = (("Retry-After", "5"),)
    return CallerError(503, "too_many_connections", message, suggestion=suggestion, headers=retry, close=True)


class Observer(Protocol):
    """An access log, as the engine sees it.

    It is called with an exchange: the request (without method and path if it could not be read), the status,
    the bytes sent with the head, and the seconds from its head to its answer. `passes` is how many exchanges
    the engine completes without a call before the next one; the engine counts it down.
    """

    passes: int

    def __call__(self, request: Request, status: int, sent_bytes: int, duration_s: float) -> None: ...


class Held(Protocol):
    """A connection, as the engine sees it; see `Connection`."""

    @property
    def leaving(self) -> bool: ...

    @property
    def waits_since_s(self) -> float: ...

    def check_deadlines(self, now_s: float) -> None: ...

    def give_way(self) -> None: ...

    def drain(self) -> None: ...

    def cut(self) -> None: ...


@dataclass(slots=True, eq=False)
class Stats:
    """Counters of one engine, which only grow.

    `responses` is indexed by status class, so that ``responses[4]`` counts the 4xx; `connections_refused`
    counts those that a cap turned away, `connections_reset` those cut for not reading their answers;
    `latency` is the time from the head of a request to its answer, or to the head of one that streams.
    """

    accept_pauses: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    connections_refused: int = 0
    connections_reset: int = 0
    connections_total: int = 0
    handler_failures: int = 0
    latency: Histogram = field(default_factory=Histogram)
    requests: int = 0
    responses: list[int] = field(default_factory=lambda: [0] * 6)
    timeouts: int = 0


@dataclass(slots=True, eq=False)
class Turn:
    """Clock and count of the requests that the fast path answers in one turn of the loop.

    `answered` requests are not yet in `stats`; the first of them came at `now_s`, in monotonic seconds.
    """

    clock: Clock
    stats: Stats
    has_begun: bool = False
    answered: int = 0
    now_s: float = 0.0

    def begin(self) -> None:
        """Read the clock, and have the requests counted at the end of the turn. Call this in the loop."""
        self.now_s = self.clock.monotonic_s()
        asyncio.get_running_loop().call_soon(self._end)
        self.has_begun = True

    def _end(self) -> None:
        """Count the requests; each took its share of the time from the first one to the end of the turn."""
        answered = self.answered
        self.has_begun, self.answered = False, 0
        if answered:
            self.stats.requests += answered
            self.stats.responses[2] += answered
            self.stats.latency.observe((self.clock.monotonic_s() - self.now_s) / answered, answered)


@dataclass(slots=True, eq=False)
class Shared:
    """The shared parts of one engine.

    `new_request_id` makes the id of a request that brings none; `places_kept` of the places at the gate are
    for connections to come (see `make_room`); `places` are those of several processes (see `Gate`);
    `connections` are all that hold a place at the gate, which a connection does until its transport is closed
    and its handler is done; `unread_bytes` is what they hold together of requests that are incomplete or wait
    for their turn; `on_empty` is called when the last one left.
    """

    limits: EngineLimits
    clock: Clock
    router: Router
    encoder: ResponseEncoder
    new_request_id: Callable[[], str]
    observer: Observer | None = None
    places_kept: int = 0
    places: Places | None = None
    stats: Stats = field(default_factory=Stats)
    turn: Turn = field(init=False)
    gate: Gate = field(init=False)
    connections: set[Held] = field(default_factory=set)
    unread_bytes: int = 0
    draining: bool = False
    on_empty: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        limits = self.limits
        self.turn = Turn(self.clock, self.stats)
        self.gate = Gate(
            limits.connections_max, limits.connections_per_address_max, limits.exempt_networks, self.places
        )

    @property
    def unread_bytes_max(self) -> int:
        """Return the limit of `unread_bytes`, in which the longest body that a handler takes fits twice."""
        return max(UNREAD_BYTES_MAX, 2 * self.router.longest_body_bytes)

    def leave(self, connection: Held, gate_key: GateKey) -> None:
        """Give up the place of `connection`, which is gone with its handler."""
        self.connections.discard(connection)
        self.gate.leave(gate_key)
        if self.on_empty is not None and not self.gate.open:
            self.on_empty()

    def make_room(self) -> None:
        """Close the connections that have waited longest for a request, until the places kept are free."""
        if not self.places_kept:
            return
        staying = [connection for connection in self.connections if not connection.leaving]
        excess = len(staying) - (self.limits.connections_max - self.places_kept)
        if excess > 0:
            waiting = [connection for connection in staying if connection.waits_since_s < math.inf]
            for connection in sorted(waiting, key=lambda each: each.waits_since_s)[:excess]:
                connection.give_way()

    def observe(self, request: Request, status: int, sent_bytes: int, duration_s: float) -> None:
        """Report an exchange to the observer, or let it pass."""
        observer = self.observer
        if observer is None:
            return
        if observer.passes:
            observer.passes -= 1
        else:
            observer(request, status, sent_bytes, duration_s)

    def error_response(self, error: BaseException, request: Request) -> Response:
        """Return the response to `error`, raised while `request` was answered.

        The caller gets its own faults in full; ours stand in the log, under the id that the caller gets.
        """
        if not isinstance(error, CallerError):
            error = CallerError(
                500,
                "internal_error",
                "The server failed to answer this request.",
                suggestion="Try again later; if it still fails, report the id to the operator of the server.",
                members={"id": self.report(error, request)},
            )
        return Response.problem(error)

    def report(self, error: BaseException, request: Request) -> str:
        """Log `error`. Return the id of `request`, under which the log has it."""
        self.stats.handler_failures += 1
        request_id = request.identify(self.new_request_id)
        log.error("internal error %s in %s %s", request_id, request.method, request.path, exc_info=error)
        return request_id

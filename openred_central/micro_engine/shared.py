"""What all connections of one engine share, and the one place where errors become responses."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from ..clock import Clock
from ..errors import CallerError
from .gate import Gate, GateKey
from .limits import UNREAD_BYTES_MAX, EngineLimits
from .router import Router
from .stats import Stats
from .wire.messages import Request, Response
from .wire.responses import ResponseEncoder, internal_error

log = logging.getLogger(__name__)

# Told of every exchange: the request (without method and path where it could not be read), the status, the
# bytes sent with the head, and the seconds from its head to its answer. Status 499: the client had left.
Observe = Callable[[Request, int, int, float], None]
CLIENT_LEFT: Final = 499


class Held(Protocol):
    """What the engine does with a connection; `Connection` says more."""

    @property
    def leaving(self) -> bool: ...

    @property
    def waits_since_s(self) -> float: ...

    def check_deadlines(self, now_s: float) -> None: ...

    def give_way(self) -> None: ...

    def drain(self) -> None: ...

    def cut(self) -> None: ...


class Shared:
    """The shared parts of one running engine.

    `new_request_id` makes the id of a request that brings none; `observe`, where anybody wants to know, is
    told of every exchange; `connections` are all that hold a place at the gate, which a connection does until
    its transport is closed and its handler is done; `unread_bytes` is what they hold together of requests
    that are not complete or wait for their turn, at most `unread_bytes_max`; `places_kept` of those at the
    gate are for connections to come (see `make_room`); `on_empty` is called when the last one left.
    """

    __slots__ = (
        "_aside",
        "clock",
        "connections",
        "draining",
        "encoder",
        "gate",
        "limits",
        "loop",
        "new_request_id",
        "observe",
        "on_empty",
        "places_kept",
        "router",
        "stats",
        "unread_bytes",
        "unread_bytes_max",
    )

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: EngineLimits,
        clock: Clock,
        router: Router,
        encoder: ResponseEncoder,
        stats: Stats,
        new_request_id: Callable[[], str],
        observe: Observe | None = None,
        places_kept: int = 0,
    ) -> None:
        self.loop = loop
        self.limits = limits
        self.clock = clock
        self.router = router
        self.encoder = encoder
        self.stats = stats
        self.new_request_id = new_request_id
        self.observe = observe
        self.gate = Gate(limits.connections_max, limits.connections_per_address_max, limits.exempt_networks)
        self.connections: set[Held] = set()
        self.unread_bytes = 0
        wanted_bytes = [route.body_bytes_max for route in router.routes() if route.body != "none"]
        # The longest body that a handler wants must fit beside others.
        self.unread_bytes_max = max(UNREAD_BYTES_MAX, *(2 * each for each in wanted_bytes), 0)
        self.places_kept = places_kept
        self.draining = False
        # The loop keeps only weak references to its tasks.
        self._aside: set[asyncio.Task[None]] = set()
        self.on_empty: Callable[[], None] | None = None

    def leave(self, connection: Held, gate_key: GateKey) -> None:
        """`connection` is gone, and so is its handler."""
        self.connections.discard(connection)
        self.gate.leave(gate_key)
        if self.on_empty is not None and not self.gate.open:
            self.on_empty()

    def make_room(self) -> None:
        """Have those give way that have waited longest for a request, until the places kept are free."""
        if not self.places_kept:
            return
        staying = [connection for connection in self.connections if not connection.leaving]
        excess = len(staying) - (self.limits.connections_max - self.places_kept)
        if excess > 0:
            waiting = [connection for connection in staying if connection.waits_since_s < math.inf]
            for connection in sorted(waiting, key=lambda each: each.waits_since_s)[:excess]:
                connection.give_way()

    def error_response(self, error: BaseException, request: Request) -> Response:
        """`error`, raised while `request` was answered, as the response that the caller gets.

        What the caller did is told in full; what we did stands in the log, under the id that the caller gets.
        """
        if isinstance(error, CallerError):
            return Response.problem(error)
        return internal_error(self.report(error, request))

    def report(self, error: BaseException, request: Request) -> str:
        """Put `error` into the log. Returns the id of `request`, by which it is found there."""
        self.stats.handler_failures += 1
        request_id = request.identify(self.new_request_id)
        log.error("internal error %s in %s %s", request_id, request.method, request.path, exc_info=error)
        return request_id

    def run_aside(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `coroutine`, which cleans something up, without anybody waiting for it."""
        task = self.loop.create_task(coroutine)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

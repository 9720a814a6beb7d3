"""The engine: routes, listening, the clock's tick, draining and signals."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import uvloop

from ..clock import Clock, SystemClock
from ..listening import address_of, listen_tcp
from .acceptor import Acceptor
from .limits import EngineLimits
from .router import BodyKind, Handler, Prepare, Route, Router
from .shared import Held, Observer, Shared
from .wire.responses import ResponseEncoder

if TYPE_CHECKING:
    from .places import Places

# One tick a second keeps all deadlines and makes the Date field.
TICK_S: Final = 1.0
# One turn of the loop looks at so many connections.
SWEEP_CONNECTIONS_MAX: Final = 256
# Requests that were on their way when a drain begins are still accepted.
DRAIN_GRACE_S: Final = 0.1
CUT_TIMEOUT_S: Final = 1.0

H = TypeVar("H", bound=Handler)

log = logging.getLogger(__name__)


class Engine:
    """An HTTP/1.1 server for coroutine handlers.

        engine = Engine()

        @engine.route("/hello/{name}")
        async def hello(request, name):
            return {"hello": name}

        engine.run(port=8000)

    `limits` are the deadlines and caps, `clock` reads the time. `new_request_id` makes the id of a request
    that came without ``X-Request-Id``, for its caller and the log; by default they are counted. `observer` is
    called with exchanges, for an access log. `places_kept` of the connections allowed are for those to come:
    if they are taken, the connection that has waited longest for a request is closed. With `places`, the caps
    on connections hold for all processes that share them (see `places`). Without `fast_path`,
    requests that repeat take the ordinary way, too (see `shortcut`). `server_name` is the value of the Server
    field of every response (RFC 9110 §10.2.4).

    Raises `ValueError` for a `server_name` with a control character.
    """

    def __init__(
        self,
        *,
        limits: EngineLimits | None = None,
        clock: Clock | None = None,
        server_name: str = "openred-central",
        new_request_id: Callable[[], str] | None = None,
        observer: Observer | None = None,
        places_kept: int = 0,
        places: Places | None = None,
        fast_path: bool = True,
    ) -> None:
        limits, clock = limits or EngineLimits(), clock or SystemClock()
        self._fast_path = fast_path
        self.shared = Shared(
            limits=limits,
            clock=clock,
            router=Router(limits.body_bytes_max, fast_path=fast_path),
            encoder=ResponseEncoder(server_name, limits.idle_timeout_s, clock.wall_s()),
            new_request_id=new_request_id or map(str, itertools.count(1)).__next__,
            observer=observer,
            places_kept=places_kept,
            places=places,
        )
        self.limits = limits
        self.stats = self.shared.stats
        self.acceptor: Acceptor | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Ends the wait of a drain: nothing is in flight any more, or the wait is cut short.
        self._settled = asyncio.Event()

    def route(
        self,
        template: str,
        methods: Iterable[str] = ("GET",),
        *,
        body: BodyKind | None = None,
        body_bytes_max: int | None = None,
        cors: bool = True,
        prepare: Prepare | None = None,
    ) -> Callable[[H], H]:
        """Register the decorated coroutine function; arguments and errors as for `Router.add`."""

        def register(handler: H) -> H:
            self.shared.router.add(
                template,
                methods,
                handler,
                body=body,
                body_bytes_max=body_bytes_max,
                cors=cors,
                prepare=prepare,
            )
            return handler

        return register

    def reroute(self, install: Callable[[], None]) -> None:
        """Let `install` register routes in place of all former ones, for the next requests.

        Requests that are in a handler end there. Counts of a method and template go on.
        """
        former = {(route.method, route.template): route for route in self.routes()}
        self.shared.router = Router(self.limits.body_bytes_max, fast_path=self._fast_path)
        install()
        for route in self.routes():
            known = former.get((route.method, route.template))
            if known is not None:
                route.responses = known.responses

    def routes(self) -> Iterator[Route]:
        return self.shared.router.routes()

    @property
    def connections_open(self) -> int:
        """Return how many connections are open, or gone with a handler that still works for them."""
        return self.shared.gate.open

    async def start(
        self,
        listeners: Sequence[socket.socket],
        *,
        tls: ssl.SSLContext | None = None,
        shared_listeners: Sequence[socket.socket] = (),
    ) -> list[str]:
        """Serve on `listeners` (see `listening`), which the engine will close. An engine starts once.

        With `tls`, those of TCP serve TLS; Unix sockets never do, since a proxy of this machine has ended TLS
        itself. From `shared_listeners`, which are treated as the others, other processes accept as well: the
        engine leaves them a part.

        Returns the addresses, such as ``127.0.0.1:8000``.
        """
        if self.acceptor is not None:
            raise RuntimeError("the engine has been started already")
        self.acceptor = Acceptor(self.shared, listeners, tls, shared_listeners)
        addresses = [address_of(listener) for listener in (*listeners, *shared_listeners)]
        self._tick(self.acceptor)
        self.acceptor.start()
        return addresses

    def take_in(self, held: Held) -> bool:
        """Count `held` as a connection of this engine, also if it carries another protocol than HTTP.

        It must `Shared.leave` when it is gone with its handlers. It is not counted by address. Return False
        if the cap is reached, or while the engine drains.
        """
        shared = self.shared
        if shared.draining or not shared.gate.enter(()):
            shared.stats.connections_refused += 1
            return False
        shared.stats.connections_total += 1
        shared.connections.add(held)
        return True

    def renew_tls(self, tls: ssl.SSLContext) -> None:
        """Serve new connections with another certificate. For an engine that has been started with one."""
        if self.acceptor is not None:
            self.acceptor.renew(tls)

    async def drain(self) -> int:
        """Stop accepting, finish what is in flight, close what is idle.

        Streams are ended; handlers have `drain_timeout_s`. Returns how many connections had to be cut then.
        """
        shared, acceptor = self.shared, self.acceptor
        if acceptor is None:
            return 0
        acceptor.stop()
        shared.draining = True
        shared.on_empty = self._settled.set
        if shared.gate.open:
            await asyncio.sleep(DRAIN_GRACE_S)
        acceptor.break_off()
        for connection in list(shared.connections):
            connection.drain()
        await self._wait_settled(self.limits.drain_timeout_s)
        self._settled.clear()
        cut = shared.gate.open
        for connection in list(shared.connections):
            connection.cut()
        acceptor.close()
        # A handler that ignores being cancelled must not hold up the stop for long.
        await self._wait_settled(CUT_TIMEOUT_S)
        if self._timer is not None:
            self._timer.cancel()
        return cut

    def hurry(self) -> None:
        """Cut a drain short, so that it waits no longer for what is in flight. For a second signal, say."""
        self._settled.set()

    async def _wait_settled(self, timeout_s: float) -> None:
        if self.shared.gate.open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), timeout_s)

    def run(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second one cuts that short. Only for the main thread.

        For Unix sockets and TLS see `start`. Raises `OSError` if it cannot listen.
        """
        uvloop.run(self._serve(listen_tcp(host, port, backlog=self.limits.backlog)))

    async def _serve(self, listeners: Sequence[socket.socket]) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        log.info("listening on %s", ", ".join(await self.start(listeners)))
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.hurry)
        log.info("draining")
        log.info("drained, %d connections were cut", await self.drain())

    def _tick(self, acceptor: Acceptor) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick, acceptor)
        self.shared.encoder.tick(self.shared.clock.wall_s())
        acceptor.tick()
        self.sweep(list(self.shared.connections))

    def sweep(self, connections: list[Held]) -> None:
        """Check the deadlines of `connections`, some now and the others in later turns of the loop."""
        now_s = self.shared.clock.monotonic_s()
        for connection in connections[-SWEEP_CONNECTIONS_MAX:]:
            connection.check_deadlines(now_s)
        del connections[-SWEEP_CONNECTIONS_MAX:]
        if connections:
            asyncio.get_running_loop().call_soon(self.sweep, connections)

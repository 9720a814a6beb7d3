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
from pathlib import Path
from typing import Final, TypeVar

import uvloop

from ..clock import Clock, SystemClock
from ..listening import address_of, listen_tcp, listen_unix, tls_context
from .acceptor import Acceptor
from .limits import EngineLimits
from .router import BodyKind, Handler, Route, Router
from .shared import Held, Observe, Shared
from .shortcut import Prepare
from .stats import Stats
from .wire.responses import ResponseEncoder

# All deadlines are kept, and the Date field is made, by one tick a second.
TICK_S: Final = 1.0
# How many connections one turn of the loop looks at: less than a tenth of a millisecond.
SWEEP_CONNECTIONS_MAX: Final = 256
# Requests that were on their way when a drain begins are still taken.
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

    `limits` are the deadlines and caps, `clock` tells the time, `new_request_id` makes the id under which a
    caller and the log know a request that came without ``X-Request-Id``; by default they are counted.
    `observe`, where it is given, is told of every exchange, for an access log (see `shared.Observe`).
    `places_kept` of the connections allowed are for those to come: where they are taken, the connection gives
    way that has waited longest for a request.
    `server_name` is the value of the Server field of every response (RFC 9110 §10.2.4): an application of
    another name gives its own.

    Raises `ValueError` for a `server_name` with a control character.
    """

    def __init__(
        self,
        *,
        limits: EngineLimits | None = None,
        clock: Clock | None = None,
        server_name: str = "openred-central",
        new_request_id: Callable[[], str] | None = None,
        observe: Observe | None = None,
        places_kept: int = 0,
    ) -> None:
        self.limits = limits or EngineLimits()
        self.stats = Stats()
        self._clock = clock or SystemClock()
        self._router = Router(self.limits.body_bytes_max)
        self._encoder = ResponseEncoder(server_name, self.limits.idle_timeout_s, self._clock.wall_s())
        self._new_request_id = new_request_id or map(str, itertools.count(1)).__next__
        self._observe = observe
        self._places_kept = places_kept
        self._shared: Shared | None = None
        self._acceptor: Acceptor | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Ends the wait of a drain: nothing is in flight any more, or it shall not be waited for.
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
            self._router.add(
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

    def routes(self) -> Iterator[Route]:
        """Every route, with the counts of its answers."""
        return self._router.routes()

    @property
    def connections_open(self) -> int:
        """How many connections are open, or gone with a handler that still works for them."""
        return 0 if self._shared is None else self._shared.gate.open

    async def start(
        self, listeners: Sequence[socket.socket], *, tls: ssl.SSLContext | None = None
    ) -> list[str]:
        """Serve on `listeners` (see `listening`), which the engine will close.

        Where `tls` is given, those of TCP serve over TLS; Unix sockets never do, since a proxy of this
        machine, which has ended TLS itself, speaks in clear there.

        Returns the addresses, such as ``127.0.0.1:8000``. An engine starts once.
        """
        if self._shared is not None:
            raise RuntimeError("the engine has been started already")
        loop = asyncio.get_running_loop()
        self._shared = Shared(
            loop=loop,
            limits=self.limits,
            clock=self._clock,
            router=self._router,
            encoder=self._encoder,
            stats=self.stats,
            new_request_id=self._new_request_id,
            observe=self._observe,
            places_kept=self._places_kept,
        )
        self._acceptor = Acceptor(self._shared, listeners, tls)
        addresses = [address_of(listener) for listener in listeners]
        self._tick()
        self._acceptor.start()
        return addresses

    def renew_tls(self, tls: ssl.SSLContext) -> None:
        """Serve new connections with another certificate. For an engine that has been started with one."""
        if self._acceptor is not None:
            self._acceptor.renew(tls)

    async def drain(self) -> int:
        """Stop accepting, finish what is in flight, close what is idle.

        Streams are ended; handlers have `drain_timeout_s`. Returns how many connections had to be cut then.
        """
        shared, acceptor = self._shared, self._acceptor
        if shared is None or acceptor is None:
            return 0
        acceptor.stop()
        shared.draining = True
        shared.on_empty = self._settled.set
        if shared.gate.open:
            await asyncio.sleep(DRAIN_GRACE_S)
        acceptor.break_off()
        for connection in list(shared.connections):
            connection.drain()
        if shared.gate.open:
            await self._wait_settled(self.limits.drain_timeout_s)
        self._settled.clear()
        cut = shared.gate.open
        for connection in list(shared.connections):
            connection.cut()
        acceptor.close()
        if shared.gate.open:
            # However handlers take being cancelled, stopping does not wait for them for long.
            await self._wait_settled(CUT_TIMEOUT_S)
        if self._timer is not None:
            self._timer.cancel()
        return cut

    def hurry(self) -> None:
        """Cut a drain short: it waits no longer for what is in flight. For a second signal, say."""
        self._settled.set()

    async def _wait_settled(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        unix_path: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second one cuts that short. Only for the main thread.

        With `unix_path` at that path instead of `host` and `port`; with `certificate` and `key` over TLS,
        except at a path.

        Raises `OSError` where it cannot listen.
        """
        if unix_path is not None:
            listeners = [listen_unix(unix_path, backlog=self.limits.backlog)]
        else:
            listeners = listen_tcp(host, port, backlog=self.limits.backlog)
        tls = tls_context(certificate, key) if certificate is not None and key is not None else None
        uvloop.run(self._serve(listeners, tls))

    async def _serve(self, listeners: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        log.info("listening on %s", ", ".join(await self.start(listeners, tls=tls)))
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.hurry)
        log.info("draining")
        log.info("drained, %d connections were cut", await self.drain())

    def _tick(self) -> None:
        shared, acceptor = self._shared, self._acceptor
        assert shared is not None
        assert acceptor is not None
        self._timer = shared.loop.call_later(TICK_S, self._tick)
        self._encoder.tick(self._clock.wall_s())
        acceptor.tick()
        self._sweep(list(shared.connections))

    def _sweep(self, connections: list[Held]) -> None:
        """Check the deadlines of `connections`, some now and the others in later turns of the loop."""
        shared = self._shared
        assert shared is not None
        now_s = self._clock.monotonic_s()
        for connection in connections[-SWEEP_CONNECTIONS_MAX:]:
            connection.check_deadlines(now_s)
        del connections[-SWEEP_CONNECTIONS_MAX:]
        if connections:
            shared.loop.call_soon(self._sweep, connections)

"""The cluster port of an instance: links of others, and requests that they hand on, both over mutual TLS.

ALPN (RFC 7301) says during the handshake for which of the two a connection is. An instance that does not lead
does not offer the second, so that others know before they have sent a request. Strangers fail the handshake.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, cast

from ..limits.origins import INSTANCE
from ..listening import address_of, listen_tcp
from ..micro_engine.engine import Engine
from ..micro_engine.gate import plain_address
from ..security.cluster_credentials import ClusterCredentials
from ..wording import counted
from .answering import FollowerConnection
from .link import LINK_PROTOCOLS, Link
from .ways import ASKING_PROTOCOL

BACKLOG: Final = 1_024
ACCEPTS_PER_TURN_MAX: Final = 16
ACCEPT_PAUSE_S: Final = 1.0
# If so many handshakes are open, the oldest gives way: strangers that say nothing keep no instance out.
HANDSHAKES_MAX: Final = 64
HANDSHAKE_TIMEOUT_S: Final = 3.0
# Strangers are reported this often at most.
REPORT_S: Final = 60.0

log = logging.getLogger("openred.cluster")


class _Arrival(asyncio.Protocol):
    """A connection from `address` in its handshake; `take` exchanges this protocol for the one it is for."""

    def __init__(self, address: str, take: Callable[[asyncio.Transport], None]) -> None:
        self.address = address
        self.is_done = False
        self._take = take

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.is_done = True
        # The transports of uvloop have no common base with those of asyncio.
        self._take(cast(asyncio.Transport, transport))


class ClusterListener:
    """The cluster port, which presents and accepts `credentials`.

    `on_link` serves a link until it ends, and must end it. `monotonic_s` reads the time.
    """

    def __init__(
        self,
        credentials: ClusterCredentials,
        on_link: Callable[[Link], Awaitable[None]],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._context = credentials.server_context([*LINK_PROTOCOLS])
        self._on_link = on_link
        self._monotonic_s = monotonic_s
        self._engine: Engine | None = None
        self._listeners: list[socket.socket] = []
        self._resume: asyncio.TimerHandle | None = None
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._links = set[asyncio.Task[None]]()
        self._refused = 0
        self._report_at_s = monotonic_s()

    def start(self, host: str, port: int) -> list[str]:
        """Listen at every address of `host`, and return the addresses.

        Raises `OSError`, whose `strerror` names host and port.
        """
        self._listeners = listen_tcp(host, port, backlog=BACKLOG)
        self._accept_on()
        return [address_of(listener) for listener in self._listeners]

    def answer_by(self, engine: Engine | None) -> None:
        """Have `engine` answer requests that others hand on, from now on; None while this instance follows.

        For its limits and its log, they come from the peer `INSTANCE`.
        """
        self._engine = engine
        # The first one counts that the other end speaks, too.
        self._context.set_alpn_protocols([*LINK_PROTOCOLS, *([] if engine is None else [ASKING_PROTOCOL])])

    async def close(self) -> None:
        """Listen no more, and end all links. The engine has its connections."""
        if self._resume is not None:
            self._resume.cancel()
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        tasks = [*self._handshakes, *self._links]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept_on(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                client, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            client.setblocking(False)
            self._begin_handshake(client, _Arrival(plain_address(address[0]), self._take))

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment: another attempt at once would only burn the processor."""
        log.warning("the cluster port accepts nothing for %g s: %s", ACCEPT_PAUSE_S, error)
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        self._resume = loop.call_later(ACCEPT_PAUSE_S, self._accept_on)

    def _begin_handshake(self, client: socket.socket, arrival: _Arrival) -> None:
        if len(self._handshakes) >= HANDSHAKES_MAX:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._shake_hands(client, arrival))
        self._handshakes[task] = None
        task.add_done_callback(lambda task: self._end_handshake(client, arrival, task))

    async def _shake_hands(self, client: socket.socket, arrival: _Arrival) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: arrival, client, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S
        )

    def _end_handshake(self, client: socket.socket, arrival: _Arrival, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if not arrival.is_done:
            client.close()
            # One that left is nothing to trouble the operator with.
            if not isinstance(error, ConnectionResetError):
                self._refuse(arrival.address, str(error or "it gave way to others"))

    def _take(self, transport: asyncio.Transport) -> None:
        protocol = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if protocol in LINK_PROTOCOLS:
            begin = partial(self._begin_link, version=LINK_PROTOCOLS[protocol])
            self._hand_over(transport, asyncio.StreamReaderProtocol(asyncio.StreamReader(), begin))
        elif protocol == ASKING_PROTOCOL and self._engine is not None:
            self._hand_over(transport, FollowerConnection(self._engine, INSTANCE))
        else:
            # It asks for what this instance does not offer now.
            transport.abort()

    @staticmethod
    def _hand_over(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def _begin_link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        task = asyncio.create_task(self._serve_link(Link(reader, writer, version)))
        self._links.add(task)
        task.add_done_callback(self._links.discard)

    async def _serve_link(self, link: Link) -> None:
        try:
            await self._on_link(link)
        finally:
            link.abort()

    def _refuse(self, address: str, why: str) -> None:
        """Count a connection that ended in its handshake, and report them now and then."""
        self._refused += 1
        now_s = self._monotonic_s()
        if now_s >= self._report_at_s:
            log.warning(
                "%s to the cluster port ended in the handshake, the last one from %s: %s; "
                "instances must have the same key secret",
                counted(self._refused, "connection"),
                address,
                why,
            )
            self._refused, self._report_at_s = 0, now_s + REPORT_S

"""Accepts connections, turns away those above the caps, and survives having no file descriptors left.

If `accept` fails because the process has no descriptor left and libuv no spare one, uvloop's own server
silently closes its listening socket for good. So the engine accepts by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from .connection import Connection
from .gate import GateKey, plain_address
from .shared import Shared, too_many_connections
from .wire.messages import Response

# So many are accepted at once; then those that are connected already have their turn.
ACCEPTS_PER_TURN_MAX: Final = 64
# From a socket at which several processes accept. It wakes all of them: `epoll` can wake one alone
# (EPOLLEXCLUSIVE), but neither libuv nor asyncio asks for that.
SHARED_ACCEPTS_PER_TURN_MAX: Final = 4
ACCEPT_PAUSE_S: Final = 1.0
# So many of those turned away are kept open for a moment, to receive the answer and not a reset.
PARTING_MAX: Final = 64

_TOO_MANY: Final = Response.problem(
    too_many_connections(
        "The limit of connections is reached, in all or from your address.",
        "Use fewer connections and keep them open, or come back later.",
    )
)

log = logging.getLogger(__name__)


class Acceptor:
    """Accepts from `listeners` for `shared`, those of TCP over TLS if `tls` is given.

    At a Unix socket, a proxy of this machine has ended TLS itself. Other processes, too, accept from
    `shared_listeners`. `tick` must be called about once a second.
    """

    def __init__(
        self,
        shared: Shared,
        listeners: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        shared_listeners: Sequence[socket.socket] = (),
    ) -> None:
        self._shared = shared
        # Each with how many connections are accepted from it at once.
        self._listeners = dict.fromkeys(listeners, ACCEPTS_PER_TURN_MAX)
        self._listeners |= dict.fromkeys(shared_listeners, SHARED_ACCEPTS_PER_TURN_MAX)
        self._tls = tls
        # A client that does not finish its handshake holds a place as long as one that sends no head.
        self._tls_options: dict[str, Any] = {
            "ssl": tls,
            "ssl_handshake_timeout": shared.limits.head_timeout_s,
            "ssl_shutdown_timeout": shared.limits.write_timeout_s,
        }
        self._resume: asyncio.TimerHandle | None = None
        self._adopting: set[asyncio.Task[None]] = set()
        self.parting: deque[socket.socket] = deque()
        self._parting_before = 0

    def renew(self, tls: ssl.SSLContext) -> None:
        """Serve TLS with `tls` from the next connection on; open ones stay as they are."""
        self._tls = self._tls_options["ssl"] = tls

    def start(self) -> None:
        """Accept from now on."""
        loop = asyncio.get_running_loop()
        for listener, accepts_max in self._listeners.items():
            loop.add_reader(listener, self._accept, listener, accepts_max)

    def stop(self) -> None:
        """Accept what the kernel has already connected, then close the listening sockets."""
        # A pause must not watch these again afterwards: they are about to be closed.
        listeners, self._listeners = self._listeners, {}
        loop = asyncio.get_running_loop()
        for listener in listeners:
            loop.remove_reader(listener)
            self._accept(listener, self._shared.limits.backlog)
            listener.close()
        if self._resume is not None:
            self._resume.cancel()

    def break_off(self) -> None:
        """End handshakes that are not done: none of these clients has sent a request yet."""
        for task in self._adopting:
            task.cancel()

    def close(self) -> None:
        """Close those turned away, and those that are not connections yet."""
        self.break_off()
        while self.parting:
            self.parting.popleft().close()
        self._parting_before = 0

    def tick(self) -> None:
        """Close those turned away before the last tick."""
        for _ in range(self._parting_before):
            self.parting.popleft().close()
        self._parting_before = len(self.parting)

    def _accept(self, listener: socket.socket, accepts_max: int) -> None:
        gate = self._shared.gate
        # `family` is slow to read: once for all clients.
        is_unix = listener.family == socket.AF_UNIX
        tls = self._tls is not None and not is_unix
        for _ in range(accepts_max):
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
            peer = "" if is_unix else plain_address(address[0])
            gate_key = gate.key(peer)
            if gate.enter(gate_key):
                self._shared.stats.connections_total += 1
                task = asyncio.create_task(self._adopt(client, peer, gate_key, tls=tls))
                self._adopting.add(task)
                task.add_done_callback(self._adopting.discard)
            else:
                self._turn_away(client, tls=tls)

    async def _adopt(self, client: socket.socket, peer: str, gate_key: GateKey, *, tls: bool) -> None:
        """Make a connection of the accepted socket `client`."""
        connection = Connection(self._shared, peer, gate_key, scheme="https" if tls else "http")
        options = self._tls_options if tls else {}
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: connection, client, **options)
        except OSError as error:
            # A client that left, or failed its TLS handshake, is nothing to trouble the operator with.
            log.debug("a connection from %s failed before a request: %r", peer or "a Unix socket", error)
        finally:
            if connection.made:
                self._shared.make_room()
            else:
                client.close()
                self._shared.leave(connection, gate_key)

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment: another attempt at once would only burn the processor."""
        self._shared.stats.accept_pauses += 1
        log.warning("accepting pauses for %g s: %s", ACCEPT_PAUSE_S, error)
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        self._resume = loop.call_later(ACCEPT_PAUSE_S, self.start)

    def _turn_away(self, client: socket.socket, *, tls: bool) -> None:
        """Answer `client` with a 503 and close it; over TLS, only close it."""
        shared = self._shared
        shared.stats.connections_refused += 1
        if tls:
            client.close()
            return
        with contextlib.suppress(OSError):
            client.send(shared.encoder.whole(_TOO_MANY, keep_alive=False, head_only=False, cors=False))
            client.shutdown(socket.SHUT_WR)
        if len(self.parting) < PARTING_MAX:
            self.parting.append(client)
        else:
            client.close()

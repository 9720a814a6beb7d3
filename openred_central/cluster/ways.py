"""Ways to the leader: over a private Unix socket of one machine, or over mutual TLS to another instance."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple, Protocol, cast

from ..micro_engine.wire.messages import Request, Response
from .asking import BadMessage, Message, Splitter, pack_request, pack_sign, read_answer

# The name of what `asking` describes in ALPN (RFC 7301). Only an instance that leads offers it.
ASKING_PROTOCOL: Final = "openred-asking/1"
# A connection with more bytes that the leader has not read gets no more requests.
UNSENT_BYTES_MAX: Final = 4 * 1024 * 1024


class Lost(Exception):
    """The connection ended before an answer came."""


class LeaderConnection(asyncio.Protocol):
    """One connection to the leader, for many requests at once. Those of one turn of the loop go together."""

    # Set by `connection_made`, before which nothing else is called.
    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._messages = Splitter()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Response | None]] = {}
        self._requests: list[bytes] = []
        self._taken_in: asyncio.Future[None] = self._loop.create_future()
        self._is_retired = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of uvloop have no common base with those of asyncio.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard_s = self._loop.time()
        self._messages.feed(data)
        try:
            while (message := self._messages.next()) is not None:
                self._take(message)
        except BadMessage:
            self.lose()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._taken_in.done():
            self._taken_in.set_exception(ConnectionResetError("the leader takes no connection"))
            # Perhaps nobody waits for that.
            self._taken_in.exception()
        self.lose()

    @property
    def is_open(self) -> bool:
        return not self._is_retired and not self._transport.is_closing()

    @property
    def is_busy(self) -> bool:
        """Return whether any request waits for its answer."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Return whether the leader reads too slowly to be sent more."""
        return self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX

    @property
    def silent_s(self) -> float:
        """Return for how long the leader has said nothing, while it was asked or at rest."""
        return self._loop.time() - self._heard_s

    async def taken_in(self) -> None:
        """Wait until the leader has taken this connection in. Raise `ConnectionResetError` if it does not."""
        try:
            await self._taken_in
        except BaseException:
            self.close()
            raise

    async def ask(self, request: Request, request_id: str, client: str) -> Response | None:
        """Send `request` of the address `client`, and return the answer.

        Return None if the leader did not take it, so that it has no effect. Raise `Lost` if nobody knows.
        """
        if not self.is_open:
            return None
        if not self._waiting:
            self._heard_s = self._loop.time()
        self._number = number = self._number + 1
        self._send(pack_request(number, request, request_id, client))
        future: asyncio.Future[Response | None] = self._loop.create_future()
        self._waiting[number] = future
        try:
            return await future
        finally:
            del self._waiting[number]
            if self._is_retired and not self._waiting:
                self.close()

    def probe(self) -> None:
        """Let the leader say something, if it lives."""
        self._number += 1
        self._send(pack_sign(self._number))

    def retire(self) -> None:
        """Wait for the answers that are to come, and close then."""
        self._is_retired = True
        if not self._waiting:
            self.close()

    def lose(self) -> None:
        """End the connection; `ask` raises `Lost` at once."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Lost())
        self.close()

    def close(self) -> None:
        self._transport.abort()

    def _take(self, message: Message) -> None:
        if message.number:
            future = self._waiting.get(message.number)
            # Nobody waits any more for an answer that came late.
            if future is not None and not future.done():
                future.set_result(read_answer(message))
        elif self._taken_in.done():
            self.retire()
        else:
            self._taken_in.set_result(None)

    def _send(self, message: bytes) -> None:
        if not self._requests:
            self._loop.call_soon(self._flush)
        self._requests.append(message)

    def _flush(self) -> None:
        data = b"".join(self._requests)
        self._requests.clear()
        if not self._transport.is_closing():
            self._transport.write(data)


class Way(Protocol):
    """A way to the leader."""

    async def connect(self) -> LeaderConnection:
        """Return a new connection. Raises `OSError` if the leader is not there, or takes none."""


class UnixWay(NamedTuple):
    """The way to the leader at the Unix socket `path`."""

    path: str

    async def connect(self) -> LeaderConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(LeaderConnection, self.path)
        await connection.taken_in()
        return connection


class InstanceWay(NamedTuple):
    """The way to the instance at the cluster port `port` of `host`, over TLS with `context`.

    `context` asks for `ASKING_PROTOCOL`.
    """

    host: str
    port: int
    context: ssl.SSLContext

    async def connect(self) -> LeaderConnection:
        loop = asyncio.get_running_loop()
        # Certificates prove an instance, whatever the name of its host.
        transport, connection = await loop.create_connection(
            LeaderConnection, self.host, self.port, ssl=self.context, server_hostname=""
        )
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() != ASKING_PROTOCOL:
            transport.abort()
            raise ConnectionRefusedError("that instance does not lead")
        await connection.taken_in()
        return connection

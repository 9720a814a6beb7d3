"""Ways to the leader: over a private Unix socket of one machine, or over mutual TLS to another instance."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple, Protocol, cast

from ..client.answers import Answer, AnswerReader, BadAnswer

# The name of forwarded requests in ALPN (RFC 7301). Only an instance that leads offers it.
HTTP_PROTOCOL: Final = "http/1.1"


class Lost(Exception):
    """The connection ended before an answer was complete."""


class LeaderConnection(asyncio.Protocol):
    """One connection to the leader, for one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.idle_since_s = 0.0
        self._reader = AnswerReader()
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of uvloop have no common base with those of asyncio.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        future = self._answer
        if future is None or future.done():
            self.close()
            return
        self._reader.feed(data)
        try:
            answer = self._reader.read()
        except BadAnswer as error:
            future.set_exception(error)
            self.close()
            return
        if answer is not None:
            future.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def ask(self, content: bytes, *, to_head: bool) -> Answer:
        """Send a request, HEAD or another, and return the answer. Raise `Lost` or `BadAnswer`."""
        if self.transport is None or self.transport.is_closing():
            raise Lost
        self._reader, self._answer = AnswerReader(to_head=to_head), asyncio.get_running_loop().create_future()
        self.transport.write(content)
        return await self._answer

    def lose(self) -> None:
        """End the connection; `ask` raises `Lost` at once."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost())
        self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Way(Protocol):
    """A way to the leader."""

    async def connect(self) -> LeaderConnection:
        """Return a new connection. Raises `OSError` if the leader is not there."""


class UnixWay(NamedTuple):
    """The way to the leader at the Unix socket `path`."""

    path: str

    async def connect(self) -> LeaderConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(LeaderConnection, self.path)
        return connection


class InstanceWay(NamedTuple):
    """The way to the instance at the cluster port `port` of `host`, over TLS with `context`.

    `context` asks for `HTTP_PROTOCOL`.
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
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() != HTTP_PROTOCOL:
            transport.abort()
            raise ConnectionRefusedError("that instance does not lead")
        return connection

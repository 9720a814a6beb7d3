"""A few keep-alive connections to one server, with one request at a time on each."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from ..clock import SYSTEM_CLOCK, Clock
from ..micro_engine.wire.target import parse_authority
from ..security.authority import signed_authority
from .answers import Answer, AnswerReader, BadAnswer, ClientError
from .errors import ConnectionFailed, ForeignAnswer

CONNECTIONS_MAX = 2
TIMEOUT_S = 10.0
# Our server ends a connection that was idle for 75 s, many proxies after 60 s. A connection that is about to
# be ended is not used any more.
IDLE_S_MAX = 50.0
_RECEIVE_BYTES = 64 * 1024
_OK = 200
_PORTS = {"http": 80, "https": 443}
# RFC 1035 §2.3.4.
_NAME_CHARACTERS_MAX = 253
_LABEL_CHARACTERS_MAX = 63


class Address(NamedTuple):
    """The place of a directory: its URL, parsed by `of`.

    `url` is without a slash at its end, `authority` is the value of Host, `tls` says whether to speak TLS,
    and `unix_socket` is the path of a Unix socket to connect to instead of `host` and `port`.
    """

    url: str
    host: str
    port: int
    authority: str
    tls: bool
    unix_socket: str | None = None

    @classmethod
    def of(cls, url: str, unix_socket: str | None = None) -> Address:
        """Parse `url`, such as ``http://127.0.0.1:8000``. Raises `ValueError`."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        else:
            extras = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
            if parts.scheme not in _PORTS or extras or not parts.netloc.isascii() or not _may_be_host(host):
                host = None
        if not host or parse_authority(parts.netloc) is None:
            raise ValueError(
                f"{url!r} is not where a directory is; allowed is a URL such as http://host:8000"
            )
        return cls(
            url=f"{parts.scheme}://{parts.netloc}",
            host=host,
            port=_PORTS[parts.scheme] if port is None else port,
            authority=parts.netloc.lower(),
            tls=parts.scheme == "https",
            unix_socket=unix_socket,
        )

    @property
    def signed_authority(self) -> str:
        return signed_authority(self.authority)


class ByteReader(Protocol):
    """The part of `asyncio.StreamReader` that is used."""

    async def read(self, n: int, /) -> bytes: ...


class ByteWriter(Protocol):
    """The part of `asyncio.StreamWriter` that is used."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


Connect = Callable[[], Awaitable[tuple[ByteReader, ByteWriter]]]


class _Unanswered(Exception):
    """The connection ended before any byte of an answer."""


class _Connection:
    """One connection; `idle_since_s` is monotonic time."""

    def __init__(self, reader: ByteReader, writer: ByteWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since_s = 0.0

    async def is_quiet(self) -> bool:
        """Return whether an idle connection has received nothing, neither its end nor surplus bytes."""
        # Two turns of the loop: in the first it polls the socket, in the second the reader has the bytes.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0):
                await self.reader.read(1)
        except TimeoutError:
            return True
        except OSError:
            return False
        return False

    async def ask(self, request: bytes) -> Answer:
        """Send one request and wait for the answer. Raises `_Unanswered`, `BadAnswer` or `OSError`."""
        answer = AnswerReader()
        begun = False
        try:
            self.writer.write(request)
            await self.writer.drain()
            while received := await self.reader.read(_RECEIVE_BYTES):
                begun = True
                answer.feed(received)
                if (complete := answer.read()) is not None:
                    return complete
        except ConnectionError:
            if not begun:
                raise _Unanswered from None
            raise
        if not begun:
            raise _Unanswered
        return answer.end()


class Connections:
    """Connections to the server at `address`: at most `connections_max`, further requests wait their turn.

    `clock` measures idle time. Connecting and answering together may take `timeout_s` seconds.
    `tls` is the context for ``https``, by default one that verifies the server's certificate; `connect`
    opens a connection, by default over TCP or the Unix socket of the address.
    """

    def __init__(
        self,
        address: Address,
        clock: Clock = SYSTEM_CLOCK,
        *,
        connections_max: int = CONNECTIONS_MAX,
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        connect: Connect | None = None,
    ) -> None:
        self.address = address
        self._clock = clock
        self._timeout_s = timeout_s
        self._tls = (tls or ssl.create_default_context()) if address.tls else None
        self._connect = connect or self._open_stream
        self._connections_max = connections_max
        self._turn = asyncio.Semaphore(connections_max)
        self._idle: list[_Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, build: Callable[[], bytes], *, repeatable: bool = True) -> Answer:
        """Send the request that `build` makes, and return the answer.

        Where a connection has ended while it was idle, the request is built again and sent on another one. A
        request that is not `repeatable` always goes over a new connection. Raises `ConnectionFailed` and
        `BadAnswer`, and `ClientError` while another event loop uses them.
        """
        self._move_to_running_loop()
        async with self._turn:
            while True:
                connection = await self._take_idle() if repeatable else None
                try:
                    return await self._ask_on(connection, build)
                except _Unanswered:
                    if connection is None:
                        raise ConnectionFailed(
                            f"{self.address.url} ended the connection without an answer"
                        ) from None

    async def stream(
        self, build: Callable[[], bytes], refused: Callable[[Answer], ClientError], silence_s_max: float
    ) -> AsyncGenerator[bytes, None]:
        """Send the request that `build` makes, and yield the pieces of an answer that does not end.

        It has a connection of its own, and at most `silence_s_max` seconds of silence. Raises what `refused`
        makes of another answer than 200, `ConnectionFailed` at the end of the stream, and `BadAnswer`.
        """
        self._move_to_running_loop()
        answer, writer = AnswerReader(), None
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await self._opened()
                writer.write(build())
                await writer.drain()
            while not answer.ended:
                async with asyncio.timeout(silence_s_max):
                    received = await reader.read(_RECEIVE_BYTES)
                if not received:
                    break
                answer.feed(received)
                if answer.status() == _OK:
                    yield answer.take()
                elif (whole := answer.read()) is not None:
                    raise refused(whole)
        except (TimeoutError, OSError, BadAnswer) as error:
            raise self._failure(error, silence_s_max) from error
        finally:
            if writer is not None:
                writer.close()
        raise ConnectionFailed(f"{self.address.url} ended the stream")

    async def close(self) -> None:
        """End all idle connections."""
        self._move_to_running_loop()
        while self._idle:
            writer = self._idle.pop().writer
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                # The connection had ended before.
                continue

    def _move_to_running_loop(self) -> None:
        """Start with no connections in another event loop: those of a former one are useless."""
        loop, former = asyncio.get_running_loop(), self._loop
        if loop is former:
            return
        if former is not None and former.is_running():
            raise ClientError("a client serves one event loop at a time; make another client for this loop")
        for connection in self._idle:
            # A former loop that has ended cannot close them; they end when they are collected.
            with contextlib.suppress(RuntimeError):
                connection.writer.close()
        self._idle.clear()
        self._turn = asyncio.Semaphore(self._connections_max)
        self._loop = loop

    async def _ask_on(self, connection: _Connection | None, build: Callable[[], bytes]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                if connection is None:
                    connection = _Connection(*await self._opened())
                answer = await connection.ask(build())
        except BaseException as error:
            # Also after a cancellation: a later answer would belong to no request.
            if connection is not None:
                connection.writer.close()
            if isinstance(error, TimeoutError | OSError | BadAnswer):
                raise self._failure(error, self._timeout_s) from error
            raise
        if answer.keep_alive:
            connection.idle_since_s = self._clock.monotonic_s()
            self._idle.append(connection)
        else:
            connection.writer.close()
        return answer

    def _failure(self, error: TimeoutError | OSError | BadAnswer, timeout_s: float) -> ClientError:
        """Return what to raise for `error`; `timeout_s` is how long was waited."""
        if isinstance(error, TimeoutError):
            return ConnectionFailed(f"no answer from {self.address.url} within {timeout_s:g} s")
        if isinstance(error, OSError):
            return ConnectionFailed(_explain(error, self.address))
        if isinstance(error, ForeignAnswer):
            return error
        return BadAnswer(f"{self.address.url}: {error}")

    async def _take_idle(self) -> _Connection | None:
        """Return the connection that was used last and is still usable, or None."""
        while self._idle:
            connection = self._idle.pop()
            idle_s = self._clock.monotonic_s() - connection.idle_since_s
            if idle_s <= IDLE_S_MAX and await connection.is_quiet():
                return connection
            connection.writer.close()
        return None

    async def _opened(self) -> tuple[ByteReader, ByteWriter]:
        try:
            return await self._connect()
        except OSError:
            raise
        except ValueError as error:
            # Names that cannot be encoded for a look-up, paths that no socket can have.
            raise ConnectionFailed(f"{self.address.url} cannot be connected to: {error}") from None

    async def _open_stream(self) -> tuple[ByteReader, ByteWriter]:
        address = self.address
        name = address.host if self._tls else None
        if address.unix_socket is not None:
            return await asyncio.open_unix_connection(
                address.unix_socket, ssl=self._tls, server_hostname=name
            )
        return await asyncio.open_connection(address.host, address.port, ssl=self._tls, server_hostname=name)


def _may_be_host(host: str | None) -> bool:
    """Return whether a name can be looked up: no label is empty or too long."""
    if not host or len(host) > _NAME_CHARACTERS_MAX:
        return False
    # The dot at the end of a full name stands for the root.
    return all(0 < len(label) <= _LABEL_CHARACTERS_MAX for label in host.removesuffix(".").split("."))


def _explain(error: OSError, address: Address) -> str:
    """Return why a server cannot be reached, and what to look at."""
    where = address.url if address.unix_socket is None else address.unix_socket
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {where} cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {where}: {error.strerror or error}; does the server speak TLS there?"
    if isinstance(error, socket.gaierror):
        return f"the host {address.host} cannot be found: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        return f"there is no socket {where}: is the server running?"
    # For a name with several addresses, one error lists all failures in its text only.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return f"connection refused: is the server running on {where}?"
    return f"no connection to {where}: {error.strerror or error}"

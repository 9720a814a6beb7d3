"""Engines on real sockets of this machine, and clients for them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from openred_central.listening import listen_tcp
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Request, StreamingResponse

# The system gives ports from some higher one on to connections.
_NEVER_GIVEN = (10_000, 32_000)


def closed_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


# Sockets that keep ports of `lasting_port` from all others.
_KEPT: list[socket.socket] = []


def lasting_port() -> int:
    """Return a port for a listener that may be closed and opened again, until this process ends.

    Nobody else gets it meanwhile: no connection, and no other caller, in whatever process.
    """
    while True:
        keeper = socket.socket()
        try:
            keeper.bind(("127.0.0.1", random.SystemRandom().randrange(*_NEVER_GIVEN)))
        except OSError:
            keeper.close()
            continue
        # From now on a listener that sets this, too, may share the port; a keeper of another one does not.
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _KEPT.append(keeper)
        port: int = keeper.getsockname()[1]
        return port


class Served:
    """An engine with a few routes. `gate` lets the handler of ``/waiting`` go on, `started` counts it."""

    def __init__(self, limits: EngineLimits | None = None, places_kept: int = 0) -> None:
        self.engine = Engine(limits=limits, places_kept=places_kept)
        self.gate = asyncio.Event()
        self.started = 0
        self.finished = 0
        self.stream_closed = False
        self.addresses: list[str] = []
        self.engine.route("/hello/{name}")(self.hello)
        self.engine.route("/waiting")(self.waiting)
        self.engine.route("/echo", methods=["POST"])(self.echo)
        self.engine.route("/stream")(self.stream)

    async def hello(self, request: Request, name: str) -> dict[str, str]:
        return {"hello": name, "peer": request.peer}

    async def waiting(self, request: Request) -> dict[str, str]:
        self.started += 1
        await self.gate.wait()
        self.finished += 1
        return {"waited": "yes"}

    async def echo(self, request: Request) -> Any:
        return request.json()

    async def stream(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self.pieces())

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for number in itertools.count():
                yield b"piece %d\n" % number
                await asyncio.sleep(0.002)
        finally:
            self.stream_closed = True

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.addresses[0].rsplit(":", 1)
        return host, int(port)


@contextlib.asynccontextmanager
async def running(
    limits: EngineLimits | None = None,
    listeners: list[socket.socket] | None = None,
    tls: ssl.SSLContext | None = None,
    places_kept: int = 0,
) -> AsyncIterator[Served]:
    """Yield a served engine, drained at the end."""
    served = Served(limits, places_kept)
    listeners = listeners or listen_tcp("127.0.0.1", 0, backlog=64)
    served.addresses = await served.engine.start(listeners, tls=tls)
    try:
        yield served
    finally:
        served.gate.set()
        await served.engine.drain()


class Client:
    """One connection as a client has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, served: Served, tls: ssl.SSLContext | None = None) -> Client:
        return cls(*await asyncio.open_connection(*served.address, ssl=tls))

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send `request` and read its answer: status, fields, body."""
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(status_line.split(" ")[1]), headers, body

    async def rest(self) -> bytes:
        """Return all that comes until the server closes its side."""
        return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def client_of(served: Served, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    client = await Client.open(served, tls)
    try:
        yield client
    finally:
        await client.close()


async def reset(connected: Awaitable[bytes]) -> bytes:
    """Return the result of `connected`, or nothing if the server reset the connection."""
    try:
        return await connected
    except ConnectionError:
        return b""

"""A server made of a function, for clients that are to see no socket and wait for nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

from openred_central.client.connections import Address, Connections
from tests.support.clock import VirtualClock

URL = "http://directory.example:8000"


class Asked(NamedTuple):
    """One request as it came over the wire; `headers` with lower-case names."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return orjson.loads(self.body)

    @property
    def proof(self) -> str:
        """By what it is proved."""
        if "signature" in self.headers:
            return "signature"
        return self.headers.get("authorization", "nothing").partition(" ")[0].lower()


class Lost(Exception):
    """The connection ends before anything is answered."""


# An answer to a request: bytes, or a status with a document, and further headers.
Told = bytes | tuple[int, Any] | tuple[int, Any, dict[str, str]]
Handler = Callable[[Asked], Told]


def respond(status: int, document: Any, headers: dict[str, str] | None = None) -> bytes:
    """Return the bytes of a response of a directory; what is refused is a problem document of its own."""
    fields = {"Content-Type": "application/json"}
    if status >= 400:
        document = {"error": f"http_{status}", **document}
        document = {"type": f"urn:openred:problem:{document['error']}", **document}
        fields = {"Content-Type": "application/problem+json"}
    body = b"" if document is None else orjson.dumps(document)
    fields |= {"Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode() + body


def parse(content: bytes) -> Asked:
    head, _, body = content.partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    method, target, version = line.split(" ")
    assert version == "HTTP/1.1"
    headers = dict(field.split(": ", 1) for field in fields)
    assert len(headers) == len(fields), "a field came twice"
    headers = {name.lower(): value for name, value in headers.items()}
    assert int(headers.get("content-length", "0")) == len(body)
    return Asked(method, target, headers, body)


class Stream:
    """Both ends of one connection to a `FakeServer`."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.closed = False
        self._received: deque[bytes] = deque()

    def write(self, data: bytes) -> None:
        assert not self.closed
        request = parse(data)
        self.server.asked.append(request)
        try:
            told = self.server.handler(request)
        except Lost:
            self._received.append(b"")
            return
        content = told if isinstance(told, bytes) else respond(*told)
        # In two pieces, as it may come over a wire.
        self._received += [piece for piece in (content[:20], content[20:]) if piece]

    async def drain(self) -> None:
        if self.server.reset_on_write:
            raise ConnectionResetError

    async def read(self, n: int) -> bytes:
        if not self._received:
            if not self.server.ended:
                await asyncio.get_running_loop().create_future()
            return b""
        piece = self._received.popleft()
        if len(piece) > n:
            self._received.appendleft(piece[n:])
        return piece[:n]

    def push(self, data: bytes) -> None:
        """Send what nobody asked for."""
        self._received.append(data)

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        assert self.closed


class FakeServer:
    """Remembers what was `asked`, and on which `streams`."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self.streams: list[Stream] = []
        self.clock = VirtualClock()
        # If true, connections end behind their first answer.
        self.ended = False
        self.reset_on_write = False
        self.waited_s: list[float] = []

    async def connect(self) -> tuple[Stream, Stream]:
        stream = Stream(self)
        self.streams.append(stream)
        return stream, stream

    async def sleep(self, seconds: float) -> None:
        """Time passes, and nobody waits."""
        self.waited_s.append(seconds)
        self.clock.advance(seconds)

    def connections(self, **options: Any) -> Connections:
        return Connections(Address.of(URL), self.clock, connect=self.connect, **options)

"""A connection on a fake transport and a clock that moves only when told to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from openred_central.micro_engine.connection import Connection
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.router import Router
from openred_central.micro_engine.shared import Shared
from openred_central.micro_engine.wire.messages import Request, Response
from openred_central.micro_engine.wire.responses import ResponseEncoder
from tests.support.clock import VirtualClock

# As many turns of the loop as anything in a test needs to settle.
TURNS = 12


class FakeTransport(asyncio.Transport):
    """Keeps what is written. `client_reads` says whether the client takes it, or leaves it in the buffer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, tls: bool = False) -> None:
        super().__init__()
        self.loop = loop
        self.tls = tls
        self.writes: list[bytes] = []
        self.client_reads = True
        self.unsent = 0
        self.high = 0
        self.paused = False
        self.reading = True
        self.ended = self.closing = self.aborted = self.lost = False
        self.protocol: Connection

    @property
    def sent(self) -> bytes:
        return b"".join(self.writes)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the write side was finished"
        assert data, "nothing was written"
        self.writes.append(data)
        if not self.client_reads:
            self.unsent += len(data)
            if self.unsent > self.high and not self.paused:
                self.paused = True
                self.protocol.pause_writing()

    def take(self, size: int) -> None:
        """Let the client read `size` bytes of what is in the buffer."""
        self.unsent = max(0, self.unsent - size)
        if self.paused and self.unsent <= self.high // 4:
            self.paused = False
            self.protocol.resume_writing()
        if self.closing and not self.unsent:
            self._lose()

    def can_write_eof(self) -> bool:
        return not self.tls

    def write_eof(self) -> None:
        assert not self.tls
        self.ended = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        if not self.unsent:
            self._lose()

    def abort(self) -> None:
        self.closing = self.aborted = True
        self._lose()

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.loop.call_soon(self.protocol.connection_lost, None)


class Seen(NamedTuple):
    """One exchange as it was reported."""

    method: str
    path: str
    status: int
    sent_bytes: int
    duration_s: float


class Observed:
    """An observer of exchanges. Before each one it sees, it lets pass as many as `pauses` say, then none."""

    def __init__(self, pauses: Sequence[int] = ()) -> None:
        self.seen: list[Seen] = []
        self.pauses = list(pauses)
        self.passes = self.pauses.pop(0) if self.pauses else 0

    def __call__(self, request: Request, status: int, sent_bytes: int, duration_s: float) -> None:
        self.passes = self.pauses.pop(0) if self.pauses else 0
        self.seen.append(Seen(request.method, request.path, status, sent_bytes, duration_s))


class World:
    """One connection of an engine whose routes a test adds; time moves by `wait`."""

    def __init__(
        self, limits: EngineLimits | None = None, *, tls: bool = False, fast_path: bool = True
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        self.router = Router((limits or EngineLimits()).body_bytes_max, fast_path=fast_path)
        self.shared = Shared(
            limits=limits or EngineLimits(),
            clock=self.clock,
            router=self.router,
            encoder=ResponseEncoder("test", 75, self.clock.wall_s()),
            new_request_id=(f"error-{number}" for number in itertools.count(1)).__next__,
        )
        # Futures of handlers that wait: `release` lets the first of them go on.
        self.waiting: list[asyncio.Future[str]] = []
        self.served: list[Request] = []
        # Names in the paths of `/leaving` whose handlers were told that nothing more comes from the client.
        self.told: list[str] = []
        self.add_routes()
        self.transport = FakeTransport(self.loop, tls=tls)
        self.connection = self.connect(self.transport)

    def add_routes(self) -> None:
        async def plain(request: Request, name: str) -> dict[str, str]:
            self.served.append(request)
            return {"plain": name}

        async def waiting(request: Request, name: str) -> dict[str, str]:
            self.served.append(request)
            future = self.loop.create_future()
            self.waiting.append(future)
            return {"waited": name, "for": await future}

        async def leaving(request: Request, name: str) -> dict[str, str]:
            future = self.loop.create_future()

            def end() -> None:
                self.told.append(name)
                if not future.done():
                    future.set_result(None)

            request.on_input_end = end
            await future
            return {"left": name}

        async def echo(request: Request) -> Response:
            self.served.append(request)
            return Response.json(request.json())

        async def broken(request: Request) -> None:
            raise RuntimeError("a secret of the handler")

        self.router.add("/plain/{name}", ["GET"], plain)
        self.router.add("/waiting/{name}", ["GET"], waiting)
        self.router.add("/leaving/{name}", ["GET"], leaving)
        self.router.add("/echo", ["POST"], echo, body_bytes_max=1000)
        self.router.add("/broken", ["GET"], broken)

    def connect(self, transport: FakeTransport) -> Connection:
        assert self.shared.gate.enter(("192.0.2.1",))
        connection = Connection(
            self.shared, "192.0.2.1", ("192.0.2.1",), scheme="https" if transport.tls else "http"
        )
        transport.protocol = connection
        self.call(connection.connection_made, transport)
        return connection

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Run `callback` as the loop would, and let everything settle."""
        self.loop.call_soon(callback, *args)
        self.settle()

    def settle(self) -> None:
        for _ in range(TURNS):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def send(self, data: bytes) -> bytes:
        """Let the client send `data`. Return what it receives from then on."""
        before = len(self.transport.sent)
        self.call(self.connection.data_received, data)
        return self.transport.sent[before:]

    def send_eof(self) -> None:
        """Let the client finish its side; the transport closes unless it is told to stay open."""

        def end() -> None:
            if not self.connection.eof_received():
                self.transport.close()

        self.call(end)

    def release(self, value: str = "it") -> None:
        self.waiting.pop(0).set_result(value)
        self.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass, with a sweep every second."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.call(self.connection.check_deadlines, self.clock.monotonic_s())

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.close()


def get(path: str, *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """Return a request without a body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(path: str, body: bytes, *fields: str, content_type: str = "application/json") -> bytes:
    """Return a request with a body of known length."""
    typed = [f"Content-Type: {content_type}"] if content_type else []
    lines = [f"POST {path} HTTP/1.1", "Host: test", *typed, f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Answer:
    """One response as a client reads it off the wire."""

    def __init__(self, head: bytes, body: bytes) -> None:
        status_line, *fields = head.decode("latin-1").split("\r\n")
        assert status_line.startswith("HTTP/1.1 ")
        self.status = int(status_line.split(" ")[1])
        pairs = [field.split(": ", 1) for field in fields]
        self.headers = {name.lower(): value for name, value in pairs}
        assert len(self.headers) == len(fields), "a field stands twice"
        self.body = body


def answers(sent: bytes, *methods: str) -> list[Answer]:
    """Return all responses in `sent`; `methods` are those of the requests, GET if absent."""
    found = []
    asked = iter(methods)
    while sent:
        head, end, sent = sent.partition(b"\r\n\r\n")
        assert end, f"a head is cut: {head!r}"
        answer = Answer(head, b"")
        if answer.status >= 200:
            bodyless = answer.status in (204, 304) or next(asked, "GET") == "HEAD"
            if not bodyless and "content-length" in answer.headers:
                length = int(answer.headers["content-length"])
                answer.body, sent = sent[:length], sent[length:]
                assert len(answer.body) == length, "a body is cut"
            elif not bodyless and "transfer-encoding" in answer.headers:
                answer.body, sent = dechunked(sent)
            elif not bodyless:
                answer.body, sent = sent, b""
        found.append(answer)
    return found


def dechunked(data: bytes) -> tuple[bytes, bytes]:
    """Return the body in chunks that `data` begins with, and the bytes behind it."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        piece, end, data = data[: int(size, 16)], data[int(size, 16) :][:2], data[int(size, 16) + 2 :]
        assert end == b"\r\n"
        if not piece:
            return body, data
        body += piece

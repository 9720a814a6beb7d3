"""Bodies that come piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from openred_central.micro_engine.connection import HEAD, LOST, STREAM
from openred_central.micro_engine.wire.messages import Request, StreamingResponse

from .harness import World, answers, get


class Stream:
    """A route ``/stream`` whose pieces a test provides, and what becomes of its generator."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.started = self.closed = False
        world.router.add("/stream", ["GET"], self.handler)

    async def handler(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self.chunks(), content_type="text/event-stream")

    async def chunks(self) -> AsyncIterator[bytes]:
        self.started = True
        try:
            while (piece := await self.pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed = True

    def give(self, *pieces: bytes | Exception | None) -> bytes:
        """Let the generator yield `pieces`, None for its end. Returns what the client receives."""
        before = len(self.world.transport.sent)
        for piece in pieces:
            self.pieces.put_nowait(piece)
        self.world.settle()
        return self.world.transport.sent[before:]


@pytest.fixture
def stream(world: World) -> Stream:
    return Stream(world)


def test_head_and_each_piece_are_sent_at_once(world: World, stream: Stream) -> None:
    head = world.send(get("/stream"))
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert b"Content-Length" not in head
    assert head.endswith(b"\r\n\r\n")
    assert stream.give(b"data: 1\n\n") == b"9\r\ndata: 1\n\n\r\n"
    assert stream.give(b"", b"x" * 20) == b"14\r\n" + b"x" * 20 + b"\r\n"
    assert stream.give(None) == b"0\r\n\r\n"
    assert stream.closed


def test_requests_behind_a_stream_are_answered_after_it(world: World, stream: Stream) -> None:
    world.send(get("/stream") + get("/plain/a"))
    stream.give(b"piece")
    assert world.served == []
    stream.give(None)
    first, second = answers(world.transport.sent)
    assert (first.body, second.body) == (b"piece", b'{"plain":"a"}')
    assert world.connection.phase == HEAD


def test_http_1_0_stream_ends_with_the_connection(world: World, stream: Stream) -> None:
    head = world.send(get("/stream", "Connection: keep-alive", version="1.0"))
    assert b"Transfer-Encoding" not in head
    assert b"Connection: close\r\n" in head
    assert stream.give(b"one", b"two") == b"onetwo"
    assert stream.give(None) == b""
    assert world.transport.ended


def test_head_runs_no_generator(world: World, stream: Stream) -> None:
    (answer,) = answers(world.send(get("/stream", method="HEAD")), "HEAD")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert not stream.started
    assert answers(world.send(get("/plain/a")))[0].status == 200


def test_client_that_does_not_read_stops_the_generator(world: World, stream: Stream) -> None:
    world.transport.client_reads = False
    world.send(get("/stream"))
    stream.give(*[b"x" * 10_000] * 50)
    assert world.transport.unsent < 80_000
    assert stream.pieces.qsize() > 40
    world.call(world.transport.take, 100_000)
    assert stream.pieces.qsize() < 40


def test_generator_is_closed_when_the_client_leaves(world: World, stream: Stream) -> None:
    world.send(get("/stream"))
    stream.give(b"piece")
    world.call(world.connection.connection_lost, None)
    assert stream.closed
    assert world.shared.gate.open == 0


def test_generator_is_closed_if_the_client_stalls(world: World, stream: Stream) -> None:
    world.transport.client_reads = False
    world.send(get("/stream"))
    stream.give(*[b"x" * 50_000] * 3)
    assert not world.transport.reading
    world.wait(31)
    assert world.transport.aborted
    assert stream.closed
    assert world.shared.gate.open == 0


def test_stream_that_fails_has_no_last_chunk(
    world: World, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    world.send(get("/stream") + get("/plain/a"))
    assert stream.give(b"piece", RuntimeError("broke off")) == b"5\r\npiece\r\n"
    assert world.connection.phase == LOST
    assert not world.transport.aborted
    assert "broke off" in caplog.text


def test_failed_http_1_0_stream_is_reset(world: World, stream: Stream) -> None:
    world.send(get("/stream", version="1.0"))
    stream.give(b"piece", RuntimeError("broke off"))
    assert world.transport.aborted


def test_drain_ends_streams(world: World, stream: Stream) -> None:
    world.send(get("/stream"))
    stream.give(b"piece")
    assert world.connection.phase == STREAM
    world.shared.draining = True
    world.call(world.connection.drain)
    assert stream.closed
    assert world.connection.phase == LOST
    assert not world.transport.sent.endswith(b"0\r\n\r\n")


class Counted:
    """An iterator that is no generator, and counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __aiter__(self) -> Counted:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_iterator_is_closed_whether_it_ran_or_not(world: World, method: str) -> None:
    chunks = Counted()

    async def counted(request: Request) -> StreamingResponse:
        return StreamingResponse(chunks)

    world.router.add("/counted", ["GET"], counted)
    world.send(get("/counted", method=method))
    assert chunks.closed == 1


def test_stream_is_closed_if_its_client_left_before(world: World) -> None:
    chunks = Counted()

    async def late(request: Request) -> StreamingResponse:
        future = world.loop.create_future()
        world.waiting.append(future)
        await future
        return StreamingResponse(chunks)

    world.router.add("/late", ["GET"], late)
    world.send(get("/late"))
    world.call(world.connection.connection_lost, None)
    world.release()
    assert chunks.closed == 1
    assert world.shared.gate.open == 0


def test_stream_is_closed_if_its_client_leaves_at_once(world: World) -> None:
    chunks = Counted()

    async def at_once(request: Request) -> StreamingResponse:
        return StreamingResponse(chunks)

    def asks_and_leaves() -> None:
        world.connection.data_received(get("/at-once"))
        world.connection.connection_lost(None)

    world.router.add("/at-once", ["GET"], at_once)
    world.call(asks_and_leaves)
    assert chunks.closed == 1
    assert world.shared.gate.open == 0


def test_head_of_a_stream_is_written_once(world: World, stream: Stream) -> None:
    world.send(get("/plain/a") + get("/stream"))
    assert len(world.transport.writes) == 1
    stream.give(None)
    assert len(world.transport.writes) == 2

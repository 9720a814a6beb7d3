"""The leader answers many requests of a follower at once, and tells which ones it did not take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from openred_central.cluster import answering
from openred_central.cluster.answering import FollowerConnection
from openred_central.cluster.asking import MESSAGE_BYTES_MAX, pack_sign
from openred_central.cluster.ways import LeaderConnection, Lost, UnixWay
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Headers, Request, Response, StreamingResponse
from tests.support.clock import VirtualClock
from tests.support.waiting import until

LIMITS = EngineLimits(connections_max=2, connections_per_address_max=1, body_bytes_max=1_000)


class Place:
    """A leader at a Unix socket, with handlers that wait at a gate of each name."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.clock = VirtualClock()
        self.engine = Engine(limits=LIMITS, clock=self.clock)
        self.gates: dict[str, asyncio.Event] = {}
        self.begun = list[str]()
        self.ended = list[str]()
        self.pieces_closed = False
        self.engine.route("/at-once", ["POST"], body="json")(self.at_once)
        self.engine.route("/wait/{name}", ["POST"], body="json")(self.wait)
        self.engine.route("/fail")(self.fail)
        self.engine.route("/stream")(self.stream)
        self.engine.route("/odd/{name}", ["POST"], body="json")(self.odd)

    async def at_once(self, request: Request) -> Response:
        return Response.json({"peer": request.peer, "body": len(request.body)})

    async def wait(self, request: Request, name: str) -> Response:
        self.begun.append(name)
        await self.gates.setdefault(name, asyncio.Event()).wait()
        self.ended.append(name)
        return Response.json({"name": name})

    async def fail(self, request: Request) -> Response:
        raise RuntimeError("a bug")

    async def odd(self, request: Request, name: str) -> Response:
        if name == "late":
            await asyncio.sleep(0)
        return Response("no bytes")  # type: ignore[arg-type]

    async def stream(self, request: Request) -> StreamingResponse:
        place = self

        class Pieces:
            def __aiter__(self) -> AsyncIterator[bytes]:
                return self

            async def __anext__(self) -> bytes:
                raise AssertionError

            async def aclose(self) -> None:
                place.pieces_closed = True

        return StreamingResponse(Pieces())

    async def open(self) -> LeaderConnection:
        return await UnixWay(self.path).connect()

    def go(self, name: str) -> None:
        self.gates.setdefault(name, asyncio.Event()).set()


@pytest.fixture
async def place(tmp_path: object) -> AsyncIterator[Place]:
    made = Place(f"{tmp_path}/leader.sock")
    await made.engine.start([])
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: FollowerConnection(made.engine, "follower"), made.path
    )
    yield made
    server.close()
    for gate in made.gates.values():
        gate.set()
    await made.engine.drain()


async def ask(
    connection: LeaderConnection, path: str, method: str = "POST", body: bytes = b"{}"
) -> Response | None:
    headers = Headers((("content-type", "application/json"),) if body else ())
    request = Request(method, path, headers=headers, content_length=len(body), body=body)
    return await connection.ask(request, "an-id", "198.51.100.7")


async def test_answers_come_as_they_are_ready_each_to_its_request(place: Place) -> None:
    connection = await place.open()
    names = [str(number) for number in range(20)]
    tasks = {name: asyncio.create_task(ask(connection, f"/wait/{name}")) for name in names}
    await until(lambda: len(place.begun) == len(names))
    assert place.begun == names
    answer = await ask(connection, "/at-once")
    assert answer is not None
    assert answer.body == b'{"peer":"follower","body":2}'
    for name in reversed(names):
        place.go(name)
        answer = await tasks[name]
        assert answer is not None
        assert answer.body == f'{{"name":"{name}"}}'.encode()
    assert place.engine.stats.requests == len(names) + 1
    assert place.engine.stats.responses[2] == len(names) + 1
    assert place.engine.stats.connections_total == 1


async def test_a_request_that_cannot_be_served_is_told_why(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await place.open()
    for path, method, body, status in (
        ("/nowhere", "GET", b"", 404),
        ("/at-once", "DELETE", b"", 405),
        ("/at-once", "POST", b'"' + b"x" * LIMITS.body_bytes_max + b'"', 413),
        ("/stream", "GET", b"", 500),
        ("/fail", "GET", b"", 500),
        ("/odd/early", "POST", b"{}", 500),
        ("/odd/late", "POST", b"{}", 500),
    ):
        answer = await ask(connection, path, method, body)
        assert answer is not None
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert place.pieces_closed
    # The log has a failure under the id that the follower knows.
    assert "internal error an-id in GET /fail" in caplog.text
    counts = {route.template: route.responses[5] for route in place.engine.routes()}
    assert (counts["/fail"], counts["/odd/{name}"]) == (1, 2)
    assert (await ask(connection, "/at-once")) is not None


async def test_a_drain_answers_what_is_in_flight_and_takes_nothing_more(place: Place) -> None:
    busy, idle = await place.open(), await place.open()
    in_flight = asyncio.create_task(ask(busy, "/wait/one"))
    assert await ask(idle, "/at-once") is not None
    await until(lambda: place.begun)
    draining = asyncio.create_task(place.engine.drain())
    await until(lambda: not idle.is_open)
    assert await ask(busy, "/wait/two") is None
    assert await ask(idle, "/wait/three") is None
    place.go("one")
    answer = await in_flight
    assert answer is not None
    assert answer.body == b'{"name":"one"}'
    assert await draining == 0
    assert place.begun == ["one"]
    await until(lambda: not busy.is_open)


async def test_a_drain_cuts_what_does_not_end(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    connection = await place.open()
    in_flight = asyncio.create_task(ask(connection, "/wait/one"))
    await until(lambda: place.begun)
    place.engine.limits = replace(LIMITS, drain_timeout_s=0.3)
    assert await place.engine.drain() == 1
    with pytest.raises(Lost):
        await in_flight
    assert place.ended == []
    assert place.engine.connections_open == 0
    assert caplog.text == ""


async def test_a_handler_ends_its_change_though_its_follower_is_lost(place: Place) -> None:
    connection = await place.open()
    in_flight = asyncio.create_task(ask(connection, "/wait/one"))
    await until(lambda: place.begun)
    connection.lose()
    with pytest.raises(Lost):
        await in_flight
    # Until then, it keeps its place.
    await asyncio.sleep(0.02)
    assert place.engine.connections_open == 1
    place.go("one")
    await until(lambda: place.engine.connections_open == 0)
    assert place.ended == ["one"]


async def test_connections_are_bounded(place: Place) -> None:
    connections = [await place.open() for _ in range(2)]
    with pytest.raises(ConnectionResetError):
        await place.open()
    assert all(each.is_open for each in connections)
    assert place.engine.stats.connections_refused == 1
    assert place.engine.connections_open == 2


async def test_an_idle_connection_ends_and_a_busy_one_does_not(place: Place) -> None:
    busy, idle = await place.open(), await place.open()
    in_flight = asyncio.create_task(ask(busy, "/wait/one"))
    await until(lambda: place.begun)
    place.clock.advance(LIMITS.idle_timeout_s - 1)
    place.engine.sweep(list(place.engine.shared.connections))
    assert await ask(idle, "/at-once") is not None
    place.clock.advance(LIMITS.idle_timeout_s - 1)
    place.engine.sweep(list(place.engine.shared.connections))
    assert await ask(idle, "/at-once") is not None
    place.clock.advance(LIMITS.idle_timeout_s)
    place.engine.sweep(list(place.engine.shared.connections))
    await until(lambda: not idle.is_open)
    place.go("one")
    assert await in_flight is not None


async def test_many_requests_at_once_let_others_have_their_turn(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "TURN_S_MAX", -1.0)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    connection, loop = await place.open(), asyncio.get_running_loop()
    turn()
    answers = await asyncio.gather(*(ask(connection, "/at-once") for _ in range(100)))
    assert None not in answers
    assert turns >= len(answers)


async def test_bytes_that_are_no_message_end_the_connection(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    for said in (b"\xff" * 64, (MESSAGE_BYTES_MAX + 1).to_bytes(4, "little") * 4):
        reader, writer = await asyncio.open_unix_connection(place.path)
        writer.write(said)
        assert await reader.read() == pack_sign(0)
        writer.close()
        await until(lambda: place.engine.connections_open == 0)
    assert caplog.text.count("what a follower handed on cannot be read") == 2

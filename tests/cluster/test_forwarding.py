"""Requests reach the leader as they came, never twice, and a caller learns what became of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from openred_central.cluster import forwarding
from openred_central.cluster.forwarding import ANSWERED, NOT_SENT, UNKNOWN, Forwarder
from openred_central.errors import CallerError
from openred_central.listening import listen_unix
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.wire.messages import Headers, Request, Response
from tests.support.clock import VirtualClock

CLIENT = "198.51.100.7"


def request_of(method: str = "POST", path: str = "/x", body: bytes = b"", **fields: str) -> Request:
    named = tuple((name.replace("_", "-"), value) for name, value in fields.items())
    return Request(
        method,
        path,
        "q=1",
        authority="directory.example",
        headers=Headers(named),
        content_length=len(body),
        body=body,
    )


class Leading:
    """A leader's engine at a Unix socket; it keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[Request] = []
        self.answer = Response.json({"done": True})
        self.gate: asyncio.Event | None = None
        self.engine = Engine()
        for method in ("GET", "POST", "DELETE"):
            self.engine.route("/x", [method], body="json" if method != "GET" else None)(self.handle)

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        return self.answer

    def forwarder(self, clock: VirtualClock | None = None) -> Forwarder:
        return Forwarder(
            str(self.path), lambda _: CLIENT, lambda: "made-id", (clock or VirtualClock()).monotonic_s
        )


@contextlib.asynccontextmanager
async def leading(tmp_path: Path) -> AsyncIterator[Leading]:
    leader = Leading(tmp_path / "leader.sock")
    await leader.engine.start([listen_unix(leader.path, backlog=64)])
    try:
        yield leader
    finally:
        if leader.gate is not None:
            leader.gate.set()
        await leader.engine.drain()


async def refused(answer: Awaitable[Response]) -> tuple[int, str]:
    with pytest.raises(CallerError) as raised:
        await answer
    return raised.value.status, raised.value.code


async def test_a_request_reaches_the_leader_as_it_came(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        request = request_of(
            body=b'{"a":1}',
            content_type="application/json",
            signature="sig=:AA==:",
            authorization="Claim x",
            x_request_id="theirs",
        )
        answer = await leader.forwarder().answer(request)
        assert (answer.status, answer.body, answer.content_type) == (
            200,
            b'{"done":true}',
            "application/json",
        )
        (asked,) = leader.asked
        assert (asked.method, asked.path, asked.query, asked.body) == ("POST", "/x", "q=1", b'{"a":1}')
        assert asked.authority == "directory.example"
        assert asked.identify(lambda: "another") == "theirs"
        for name in ("signature", "authorization", "content-type"):
            assert asked.headers.get(name) == request.headers.get(name)


async def test_nobody_can_forge_whom_a_request_comes_from(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        forged = {
            "x_forwarded_for": "192.0.2.1",
            "forwarded": "for=192.0.2.1",
            "x_real_ip": "192.0.2.1",
            "connection": "close",
            "te": "trailers",
            "expect": "100-continue",
        }
        await leader.forwarder().answer(request_of(**forged))
        headers = leader.asked[0].headers
        assert headers.get("x-forwarded-for") == CLIENT
        assert not headers.has_any(frozenset({"connection", "forwarded", "x-real-ip", "te", "expect"}))


async def test_no_field_is_lost_because_another_one_names_it(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        named = "close, signature, content-type, host, content-length"
        request = request_of(
            body=b"{}", connection=named, signature="sig=:AA==:", content_type="application/json"
        )
        assert (await leader.forwarder().answer(request)).status == 200
        assert leader.asked[0].headers.get("signature") == "sig=:AA==:"


async def test_a_request_without_a_host_reaches_the_leader_without_one(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        request = request_of(body=b"{}", content_type="application/json")
        request.authority, request.version = "", 10
        for _ in range(2):
            assert (await leader.forwarder().answer(request)).status == 200
        assert [(each.authority, each.body) for each in leader.asked] == [("", b"{}")] * 2


async def test_the_fields_of_the_answer_come_back_but_those_of_the_connection(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        leader.answer = Response.json({}, status=429, headers=(("Retry-After", "3"), ("RateLimit", "a;r=0")))
        answer = await leader.forwarder().answer(request_of())
        assert answer.status == 429
        assert dict(answer.headers) == {"Retry-After": "3", "RateLimit": "a;r=0", "Cache-Control": "no-store"}


async def test_an_answer_without_a_body_comes_back_so(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        leader.answer = Response(status=204, content_type=None)
        answer = await leader.forwarder().answer(request_of("DELETE"))
        assert (answer.status, answer.body, answer.content_type) == (204, b"", None)


async def test_head_is_asked_as_head_and_has_the_length_of_the_body(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        forwarder = leader.forwarder()
        answer = await forwarder.answer(request_of("HEAD"))
        assert leader.asked[0].method == "HEAD"
        assert len(answer.body) == len(b'{"done":true}')
        assert (await forwarder.answer(request_of("GET"))).body == b'{"done":true}'


async def test_a_connection_is_used_again_and_an_old_one_is_not(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        clock = VirtualClock()
        forwarder = leader.forwarder(clock)
        for _ in range(3):
            await forwarder.answer(request_of())
        assert leader.engine.stats.connections_total == 1
        clock.advance(forwarding.IDLE_S_MAX + 1)
        await forwarder.answer(request_of())
        assert leader.engine.stats.connections_total == 2
        assert forwarder.outcomes == {ANSWERED: 4}


async def test_a_leader_that_is_not_there_is_told_and_nothing_was_sent(tmp_path: Path) -> None:
    forwarder = Leading(tmp_path / "leader.sock").forwarder()
    assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
    assert forwarder.outcomes == {NOT_SENT: 1}


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"nonsense\r\n\r\n"])
async def test_a_request_without_an_answer_is_never_sent_again(tmp_path: Path, said: bytes) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "leader.sock")
    forwarder = Leading(tmp_path / "leader.sock").forwarder()
    assert await refused(forwarder.answer(request_of())) == (503, "outcome_unknown")
    assert connections == 1
    assert forwarder.outcomes == {UNKNOWN: 1}
    server.close()


async def test_an_answer_that_does_not_come_in_time_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "ANSWER_TIMEOUT_S", 0.05)
    async with leading(tmp_path) as leader:
        leader.gate = asyncio.Event()
        forwarder = leader.forwarder()
        assert await refused(forwarder.answer(request_of())) == (503, "outcome_unknown")
        # The answer that comes late is nobody's.
        leader.gate.set()
        leader.answer = Response.json({"next": True})
        assert (await forwarder.answer(request_of())).body == b'{"next":true}'


async def test_a_client_that_leaves_spoils_no_other_answer(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        leader.gate = asyncio.Event()
        forwarder = leader.forwarder()
        left = asyncio.create_task(forwarder.answer(request_of()))
        while not leader.asked:
            await asyncio.sleep(0)
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
        leader.gate.set()
        leader.answer = Response.json({"next": True})
        assert (await forwarder.answer(request_of())).body == b'{"next":true}'


async def test_places_and_those_who_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "PLACES", 2)
    monkeypatch.setattr(forwarding, "WAITING_MAX", 3)
    async with leading(tmp_path) as leader:
        leader.gate = asyncio.Event()
        forwarder = leader.forwarder()
        tasks = [asyncio.create_task(forwarder.answer(request_of())) for _ in range(5)]
        while len(leader.asked) < 2:
            await asyncio.sleep(0)
        assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
        assert len(leader.asked) == 2
        leader.gate.set()
        assert [(await task).status for task in tasks] == [200] * 5


async def test_nobody_waits_long_for_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "PLACES", 1)
    monkeypatch.setattr(forwarding, "PLACE_TIMEOUT_S", 0.05)
    async with leading(tmp_path) as leader:
        leader.gate = asyncio.Event()
        forwarder = leader.forwarder()
        first = asyncio.create_task(forwarder.answer(request_of()))
        while not leader.asked:
            await asyncio.sleep(0)
        assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
        leader.gate.set()
        assert (await first).status == 200

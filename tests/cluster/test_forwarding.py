"""Requests reach the leader as they came, never twice, and a caller learns what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from openred_central.cluster import forwarding
from openred_central.cluster.answering import FollowerConnection
from openred_central.cluster.asking import pack_answer, pack_sign
from openred_central.cluster.forwarding import ANSWERED, NOT_SENT, UNKNOWN, Forwarder
from openred_central.cluster.link import Link
from openred_central.cluster.listening import ClusterListener
from openred_central.cluster.ways import (
    ASKING_PROTOCOL,
    UNSENT_BYTES_MAX,
    InstanceWay,
    LeaderConnection,
    UnixWay,
    Way,
)
from openred_central.errors import CallerError
from openred_central.limits.origins import Origins
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.wire.messages import Headers, Request, Response
from openred_central.security.cluster_credentials import ClusterCredentials
from tests.support.clock import VirtualClock
from tests.support.waiting import until

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
        self.pause_s: float | None = None
        self.engine = Engine()
        self.server: asyncio.Server | None = None
        for method in ("GET", "POST", "DELETE"):
            self.engine.route("/x", [method], body="json" if method != "GET" else None)(self.handle)

    async def start(self) -> None:
        await self.engine.start([])
        loop = asyncio.get_running_loop()
        self.server = await loop.create_unix_server(lambda: FollowerConnection(self.engine, ""), self.path)

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
        if self.gate is not None:
            self.gate.set()
        await self.engine.drain()

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.pause_s is not None:
            await asyncio.sleep(self.pause_s)
        return self.answer

    def forwarder(self) -> Forwarder:
        return forwarder_to(UnixWay(str(self.path)))


def forwarder_to(way: Way | None) -> Forwarder:
    return Forwarder(way, lambda _: CLIENT, lambda: "made-id")


@contextlib.asynccontextmanager
async def leading(tmp_path: Path) -> AsyncIterator[Leading]:
    leader = Leading(tmp_path / "leader.sock")
    await leader.start()
    try:
        yield leader
    finally:
        await leader.stop()


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


async def test_fields_of_the_connection_stay_behind(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        request = request_of(
            body=b"{}",
            connection="close, X-Own ,content-length",
            x_own="1",
            x_other="2",
            trailer="x-own",
            content_type="application/json",
        )
        # The parser had it in chunks.
        request.content_length = None
        assert (await leader.forwarder().answer(request)).status == 200
        (asked,) = leader.asked
        assert (asked.body, asked.content_length, asked.authority) == (b"{}", 2, "directory.example")
        assert [name for name, _ in asked.headers.fields] == ["x-other", "content-type", "x-forwarded-for"]


async def test_a_request_without_a_host_reaches_the_leader_without_one(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        request = request_of(body=b"{}", content_type="application/json")
        request.authority, request.version = "", 10
        for _ in range(2):
            assert (await leader.forwarder().answer(request)).status == 200
        assert [(each.authority, each.body) for each in leader.asked] == [("", b"{}")] * 2


async def test_the_fields_of_the_answer_come_back(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        leader.answer = Response.json({}, status=429, headers=(("Retry-After", "3"), ("RateLimit", "a;r=0")))
        answer = await leader.forwarder().answer(request_of())
        assert answer.status == 429
        assert answer.headers == leader.answer.headers


async def test_an_answer_without_a_body_comes_back_so(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        leader.answer = Response(status=204, content_type=None)
        answer = await leader.forwarder().answer(request_of("DELETE"))
        assert (answer.status, answer.body, answer.content_type) == (204, b"", None)


async def test_head_is_asked_as_head(tmp_path: Path) -> None:
    async with leading(tmp_path) as leader:
        answer = await leader.forwarder().answer(request_of("HEAD"))
        assert leader.asked[0].method == "HEAD"
        # The engine sends its length alone.
        assert answer.body == b'{"done":true}'


async def test_a_connection_is_used_again_and_an_old_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with leading(tmp_path) as leader:
        forwarder = leader.forwarder()
        for _ in range(3):
            await forwarder.answer(request_of())
        assert leader.engine.stats.connections_total == 1
        monkeypatch.setattr(forwarding, "IDLE_S_MAX", 0.05)
        await asyncio.sleep(0.1)
        await forwarder.answer(request_of())
        assert leader.engine.stats.connections_total == 2
        assert forwarder.outcomes == {ANSWERED: 4}


async def test_a_leader_that_is_not_there_is_told_and_nothing_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "WAIT_S", 0.05)
    forwarder = Leading(tmp_path / "leader.sock").forwarder()
    assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
    assert forwarder.outcomes == {NOT_SENT: 1}


ANSWER = pack_answer(1, Response.json({}))


@pytest.mark.parametrize("said", [b"", ANSWER[:-1], b"\xff" * 64, ANSWER.replace(b"[", b"{")])
async def test_a_request_without_an_answer_is_never_sent_again(tmp_path: Path, said: bytes) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(pack_sign(0))
        await reader.readexactly(16)
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
    async with leading(tmp_path) as leader:
        leader.gate = asyncio.Event()
        forwarder = leader.forwarder()
        with monkeypatch.context() as patched:
            patched.setattr(forwarding, "ANSWER_TIMEOUT_S", 0.05)
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
    monkeypatch.setattr(forwarding, "WAIT_S", 0.05)
    async with leading(tmp_path) as leader:
        leader.gate = asyncio.Event()
        forwarder = leader.forwarder()
        first = asyncio.create_task(forwarder.answer(request_of()))
        while not leader.asked:
            await asyncio.sleep(0)
        assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
        leader.gate.set()
        assert (await first).status == 200


class Leaders:
    """Two leaders at sockets of their own, and the way to each of them."""

    def __init__(self, one: Leading, other: Leading) -> None:
        self.all = one, other
        self.one, self.other = one, other
        self.to_one, self.to_other = (UnixWay(str(leader.path)) for leader in self.all)


@contextlib.asynccontextmanager
async def two_leaders(tmp_path: Path) -> AsyncIterator[Leaders]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            made.append(await stack.enter_async_context(leading(tmp_path / name)))
        yield Leaders(*made)


async def test_a_change_of_leader_ends_what_was_sent_and_sends_it_to_nobody_else(tmp_path: Path) -> None:
    async with two_leaders(tmp_path) as leaders:
        leaders.one.gate = asyncio.Event()
        forwarder = forwarder_to(leaders.to_one)
        tasks = [asyncio.create_task(forwarder.answer(request_of())) for _ in range(forwarding.PLACES)]
        await until(lambda: len(leaders.one.asked) == forwarding.PLACES)
        forwarder.retarget(leaders.to_other)
        # Their places are free before they know.
        assert (await forwarder.answer(request_of())).status == 200
        for task in tasks:
            assert await refused(task) == (503, "outcome_unknown")
        assert len(leaders.other.asked) == 1
        assert forwarder.outcomes == {UNKNOWN: forwarding.PLACES, ANSWERED: 1}


class Halted(asyncio.Protocol):
    """A leader that took a connection in, and then says nothing; `asked` counts the bytes that it gets."""

    def __init__(self) -> None:
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of uvloop have no common base with those of asyncio.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(pack_sign(0))

    def data_received(self, data: bytes) -> None:
        self.asked += len(data) % len(pack_sign(0)) > 0


async def test_a_leader_that_says_nothing_gets_no_more_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "CONNECT_PAUSE_S", 0.01)
    monkeypatch.setattr(forwarding, "ANSWERLESS_S_MAX", 0.05)
    halted, path = Halted(), tmp_path / "halted.sock"
    server = await asyncio.get_running_loop().create_unix_server(lambda: halted, path)
    async with leading(tmp_path) as leader:
        forwarder = forwarder_to(UnixWay(str(path)))
        first = asyncio.create_task(forwarder.answer(request_of()))
        await until(lambda: halted.asked)
        await asyncio.sleep(2 * forwarding.ANSWERLESS_S_MAX)
        others = [asyncio.create_task(forwarder.answer(request_of())) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert halted.asked == 1
        # They find the next one.
        forwarder.retarget(UnixWay(str(leader.path)))
        assert await refused(first) == (503, "outcome_unknown")
        assert [(await task).status for task in others] == [200] * 3
        forwarder.close()
    server.close()


async def test_a_change_of_leader_ends_late_answers_of_every_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_leaders(tmp_path) as leaders:
        leaders.one.gate, forwarder = asyncio.Event(), forwarder_to(leaders.to_one)
        waiting = list[asyncio.Task[Response]]()
        for _ in range(3):
            # One request still waits at each connection that another one gave up.
            monkeypatch.setattr(forwarding, "ANSWER_TIMEOUT_S", 10_000.0)
            waiting.append(asyncio.create_task(forwarder.answer(request_of())))
            await until(lambda: len(leaders.one.asked) == 2 * len(waiting) - 1)
            monkeypatch.setattr(forwarding, "ANSWER_TIMEOUT_S", 0.02)
            assert await refused(forwarder.answer(request_of())) == (503, "outcome_unknown")
        assert leaders.one.engine.stats.connections_total == len(waiting)
        forwarder.retarget(leaders.to_other)
        async with asyncio.timeout(5.0):
            assert [await refused(task) for task in waiting] == [(503, "outcome_unknown")] * len(waiting)
        forwarder.close()


async def test_one_slow_request_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "CONNECT_PAUSE_S", 0.01)
    monkeypatch.setattr(forwarding, "ANSWERLESS_S_MAX", 0.05)
    async with leading(tmp_path) as leader:
        leader.gate, forwarder = asyncio.Event(), leader.forwarder()
        slow = asyncio.create_task(forwarder.answer(request_of()))
        await until(lambda: leader.asked)
        await asyncio.sleep(2 * forwarding.ANSWERLESS_S_MAX)
        gate, leader.gate = leader.gate, None
        assert (await forwarder.answer(request_of())).status == 200
        assert not slow.done()
        gate.set()
        assert (await slow).status == 200


class Unread(asyncio.Transport):
    """A transport whose other end has read nothing for long, and gets `written`."""

    def __init__(self) -> None:
        self.written = list[bytes]()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return UNSENT_BYTES_MAX + 1

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass


async def test_a_leader_that_does_not_read_is_sent_no_more_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "WAIT_S", 0.1)
    monkeypatch.setattr(forwarding, "CONNECT_PAUSE_S", 0.01)
    transport = Unread()

    class Full(NamedTuple):
        async def connect(self) -> LeaderConnection:
            connection = LeaderConnection()
            connection.connection_made(transport)
            return connection

    forwarder = forwarder_to(Full())
    assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
    # Signs are no requests.
    assert {len(each) for each in transport.written} == {len(pack_sign(0))}


@pytest.mark.parametrize("hurries", [True, False])
async def test_a_leader_that_takes_no_connection_in_was_sent_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurries: bool
) -> None:
    monkeypatch.setattr(forwarding, "WAIT_S", 10.0 if hurries else 0.3)
    async with leading(tmp_path) as leader:
        # It is at its cap, or drains.
        leader.engine.shared.draining = True
        forwarder = leader.forwarder()
        tasks = [asyncio.create_task(forwarder.answer(request_of())) for _ in range(20)]
        await until(lambda: leader.engine.stats.connections_refused)
        if hurries:
            forwarder.hurry()
        for task in tasks:
            assert await refused(task) == (503, "no_leader")
        assert forwarder.outcomes == {NOT_SENT: 20}
        assert leader.engine.stats.connections_refused < 5


@pytest.mark.parametrize("pause_s", [None, 0.001])
async def test_a_drain_under_load_leaves_nothing_unknown(tmp_path: Path, pause_s: float | None) -> None:
    async with leading(tmp_path) as leader:
        forwarder, outcomes, ends = leader.forwarder(), Counter[str](), asyncio.Event()
        leader.pause_s = pause_s

        async def ask_on() -> None:
            while not ends.is_set():
                try:
                    outcomes[str((await forwarder.answer(request_of())).status)] += 1
                except CallerError as error:
                    outcomes[error.code] += 1
                    await asyncio.sleep(0.01)

        load = [asyncio.create_task(ask_on()) for _ in range(64)]
        await until(lambda: outcomes["200"] > 500)
        assert leader.server is not None
        leader.server.close()
        assert await leader.engine.drain() == 0
        forwarder.hurry()
        ends.set()
        await asyncio.gather(*load)
        assert outcomes.keys() <= {"200", "no_leader"}


async def test_a_leader_that_takes_nothing_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "WAIT_S", 0.05)
    monkeypatch.setattr(forwarding, "CONNECT_PAUSE_S", 0.01)
    async with two_leaders(tmp_path) as leaders:
        forwarder, one = forwarder_to(leaders.to_one), leaders.one
        one.gate = asyncio.Event()
        in_flight = asyncio.create_task(forwarder.answer(request_of()))
        await until(lambda: one.asked)
        assert one.server is not None
        one.server.close()
        draining = asyncio.create_task(one.engine.drain())
        await until(lambda: one.engine.shared.draining)
        await asyncio.sleep(0.2)
        # Nothing was done, so the request waits for the next leader, and its caller is told so.
        assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
        monkeypatch.setattr(forwarding, "WAIT_S", 30.0)
        waiting = asyncio.create_task(forwarder.answer(request_of()))
        await asyncio.sleep(0.02)
        one.gate.set()
        assert (await in_flight).status == 200
        await draining
        forwarder.retarget(leaders.to_other)
        assert (await waiting).status == 200
        assert (len(one.asked), len(leaders.other.asked)) == (1, 1)
        assert forwarder.outcomes == {NOT_SENT: 1, ANSWERED: 2}


async def test_requests_that_wait_for_a_place_go_to_the_next_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "PLACES", 1)
    async with two_leaders(tmp_path) as leaders:
        leaders.one.gate = asyncio.Event()
        forwarder = forwarder_to(leaders.to_one)
        tasks = [asyncio.create_task(forwarder.answer(request_of())) for _ in range(4)]
        await until(lambda: leaders.one.asked)
        forwarder.retarget(None)
        assert await refused(tasks[0]) == (503, "outcome_unknown")
        forwarder.retarget(leaders.to_other)
        assert [(await task).status for task in tasks[1:]] == [200] * 3
        assert (len(leaders.one.asked), len(leaders.other.asked)) == (1, 3)


async def test_a_leader_that_takes_no_connection_may_come_or_give_way_to_another(tmp_path: Path) -> None:
    leader = Leading(tmp_path / "leader.sock")
    forwarder = forwarder_to(UnixWay(str(tmp_path / "missing.sock")))
    first = asyncio.create_task(forwarder.answer(request_of()))
    await asyncio.sleep(0.01)
    forwarder.retarget(UnixWay(str(leader.path)))
    await asyncio.sleep(0.01)
    await leader.start()
    assert (await first).status == 200
    assert len(leader.asked) == 1
    forwarder.close()
    await leader.stop()


async def test_nobody_waits_for_the_connection_to_a_former_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "CONNECT_TIMEOUT_S", 10_000.0)

    class Silent(NamedTuple):
        """The way to a leader that is halted: it takes a connection, and no handshake ends."""

        begun: asyncio.Event

        async def connect(self) -> LeaderConnection:
            self.begun.set()
            await asyncio.Event().wait()
            raise AssertionError

    async with leading(tmp_path) as leader:
        silent = Silent(asyncio.Event())
        forwarder = forwarder_to(silent)
        waiting = asyncio.create_task(forwarder.answer(request_of()))
        await silent.begun.wait()
        forwarder.retarget(UnixWay(str(leader.path)))
        assert (await waiting).status == 200
        forwarder.close()


async def test_while_nobody_leads_few_wait_and_others_come_back_spread_over_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "LEADERLESS_MAX", 3)
    monkeypatch.setattr(forwarding, "RETURNS_PER_S", 2)
    monkeypatch.setattr(forwarding, "RETRY_AFTER_S_MAX", 3)
    async with leading(tmp_path) as leader:
        forwarder = forwarder_to(None)
        tasks = [asyncio.create_task(forwarder.answer(request_of())) for _ in range(3)]
        await asyncio.sleep(0)

        async def retry_after() -> str:
            with pytest.raises(CallerError) as raised:
                await forwarder.answer(request_of())
            assert raised.value.code == "no_leader"
            return dict(raised.value.headers)["Retry-After"]

        assert [await retry_after() for _ in range(7)] == ["1", "1", "2", "2", "3", "3", "3"]
        forwarder.retarget(UnixWay(str(leader.path)))
        assert [(await task).status for task in tasks] == [200] * 3
        forwarder.retarget(None)
        tasks = [asyncio.create_task(forwarder.answer(request_of())) for _ in range(3)]
        await asyncio.sleep(0)
        assert await retry_after() == "1"
        forwarder.close()
        for task in tasks:
            assert await refused(task) == (503, "no_leader")


async def test_nobody_waits_long_for_a_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "WAIT_S", 0.05)
    forwarder = forwarder_to(None)
    assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
    assert forwarder.outcomes == {NOT_SENT: 1}


async def test_a_client_that_leaves_while_it_waits_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "PLACES", 1)
    monkeypatch.setattr(forwarding, "LEADERLESS_MAX", 1)
    async with leading(tmp_path) as leader:
        forwarder = forwarder_to(None)
        for at_once in (True, False):
            left = asyncio.create_task(forwarder.answer(request_of()))
            await asyncio.sleep(0)
            if at_once:
                # It leaves in the moment in which it gets the place.
                forwarder.retarget(UnixWay(str(leader.path)))
            left.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await left
            if not at_once:
                forwarder.retarget(UnixWay(str(leader.path)))
            assert (await forwarder.answer(request_of())).status == 200
            forwarder.retarget(None)


async def test_a_hurried_forwarder_refuses_what_waits_and_ends_what_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "PLACES", 1)
    async with leading(tmp_path) as leader:
        leader.gate = asyncio.Event()
        forwarder = leader.forwarder()
        sent = asyncio.create_task(forwarder.answer(request_of()))
        await until(lambda: leader.asked)
        waiting = asyncio.create_task(forwarder.answer(request_of()))
        await asyncio.sleep(0)
        forwarder.hurry()
        assert await refused(waiting) == (503, "no_leader")
        assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
        leader.gate.set()
        assert (await sent).status == 200


async def test_no_request_is_told_twice_whatever_becomes_of_leaders_and_clients(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "PLACES", 3)
    draw = random.Random(seed)
    async with two_leaders(tmp_path) as leaders:
        forwarder = forwarder_to(None)
        tasks = list[asyncio.Task[Response]]()
        for number in range(400):
            match draw.randrange(8):
                case 0:
                    forwarder.retarget(draw.choice([None, leaders.to_one, leaders.to_other]))
                case 1 if tasks:
                    draw.choice(tasks).cancel()
                case 2:
                    await asyncio.sleep(0.002)
                case _:
                    tasks.append(asyncio.create_task(forwarder.answer(request_of(x_number=str(number)))))
            await asyncio.sleep(0)
        forwarder.retarget(leaders.to_one)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        told = [each.headers.get("x-number") for leader in leaders.all for each in leader.asked]
        assert len(told) == len(set(told))
        answered = sum(isinstance(each, Response) for each in ended)
        assert forwarder.outcomes[ANSWERED] == answered
        assert len(told) >= answered
        # No place was lost.
        assert [(await forwarder.answer(request_of())).status for _ in range(4)] == [200] * 4
        forwarder.close()


CREDENTIALS = ClusterCredentials(b"a secret of operators")


class Instance:
    """An instance with a cluster port, which leads while its engine answers."""

    def __init__(self) -> None:
        self.listener = ClusterListener(CREDENTIALS, self.no_link, VirtualClock().monotonic_s)
        self.port = int(self.listener.start("127.0.0.1", 0)[0].rpartition(":")[2])
        self.origins = list[str]()
        self.engine = Engine()
        self.engine.route("/x", ["POST"], body="json")(self.answer)

    async def no_link(self, link: Link) -> None:
        raise AssertionError

    async def answer(self, request: Request) -> Response:
        self.origins.append(Origins().of(request.peer, request.headers.get).address)
        return Response.json({})

    def way(self, credentials: ClusterCredentials = CREDENTIALS) -> InstanceWay:
        return InstanceWay("127.0.0.1", self.port, credentials.client_context([ASKING_PROTOCOL]))


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    made = Instance()
    await made.engine.start([])
    yield made
    await made.listener.close()
    await made.engine.drain()


async def test_a_request_goes_to_another_instance_which_believes_it_the_client(instance: Instance) -> None:
    instance.listener.answer_by(instance.engine)
    forwarder = forwarder_to(instance.way())
    for _ in range(3):
        request = request_of(body=b"{}", content_type="application/json", x_forwarded_for="192.0.2.1")
        assert (await forwarder.answer(request)).status == 200
    assert instance.origins == [CLIENT] * 3
    assert instance.engine.stats.connections_total == 1
    forwarder.close()


async def test_a_request_waits_for_an_instance_that_does_not_lead_yet(instance: Instance) -> None:
    forwarder = forwarder_to(instance.way())
    waiting = asyncio.create_task(forwarder.answer(request_of()))
    await asyncio.sleep(0.05)
    assert forwarder.outcomes == {}
    instance.listener.answer_by(instance.engine)
    assert (await waiting).status == 200
    forwarder.close()


async def test_no_request_goes_to_an_instance_with_another_secret(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "WAIT_S", 0.05)
    instance.listener.answer_by(instance.engine)
    forwarder = forwarder_to(instance.way(ClusterCredentials(b"another secret of theirs")))
    assert await refused(forwarder.answer(request_of())) == (503, "no_leader")
    assert instance.engine.stats.requests == 0

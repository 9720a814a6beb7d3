"""The engine on real sockets."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openred_central.listening import listen_tcp, tls_context
from openred_central.micro_engine.engine import SWEEP_CONNECTIONS_MAX, Engine
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Request, Response
from tests.support.certificates import certificate
from tests.support.clock import VirtualClock
from tests.support.serving import Client, Served, client_of, reset, running

from ..support.waiting import until
from .harness import answers, get, post

pytestmark = pytest.mark.both_loops


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Yield a running engine."""
    async with running() as made:
        yield made


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    """Yield one connection to the engine."""
    async with client_of(served) as made:
        yield made


async def test_get_and_post_are_served_over_one_connection(served: Served, client: Client) -> None:
    status, headers, body = await client.ask(get("/hello/j%C3%B6"))
    assert (status, body) == (200, '{"hello":"jö","peer":"127.0.0.1"}'.encode())
    assert headers["server"] == "openred-central"
    assert (await client.ask(post("/echo", b'{"a":[1,2]}')))[2] == b'{"a":[1,2]}'
    assert served.engine.stats.connections_total == 1


async def test_many_pipelined_requests_come_back_in_order(client: Client) -> None:
    count = 2000
    client.writer.write(b"".join(get(f"/hello/{number}") for number in range(count)))
    for number in range(count):
        status, _, body = await client.answer()
        assert status == 200
        assert body.startswith(b'{"hello":"%d"' % number)


async def test_client_that_half_closes_gets_its_answer(served: Served, client: Client) -> None:
    client.writer.write(get("/waiting"))
    client.writer.write_eof()
    await until(lambda: served.started == 1)
    served.gate.set()
    assert answers(await client.rest())[0].status == 200


async def test_answer_to_a_client_that_still_sends_arrives(client: Client) -> None:
    # Refused by its announced length; the body itself is still on its way.
    client.writer.write(post("/echo", b"x" * 2_000_000)[:-2_000_000])
    client.writer.write(b"x" * 200_000)
    assert answers(await client.rest())[0].status == 413


async def test_client_that_resets_harms_no_other() -> None:
    async with running() as served, client_of(served) as other:
        for request in (get("/waiting"), get("/waiting")[:20], post("/echo", b"12345")[:-2], b""):
            client = socket.create_connection(served.address)
            client.sendall(request)
            await asyncio.sleep(0.02)
            # Closing now sends a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        await until(lambda: served.engine.connections_open == 2)
        served.gate.set()
        await until(lambda: served.finished == 1)
        await until(lambda: served.engine.connections_open == 1)
        assert (await other.ask(get("/hello/a")))[0] == 200


async def test_client_that_does_not_read_harms_no_other(served: Served, client: Client) -> None:
    hog = socket.create_connection(served.address)
    hog.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    hog.setblocking(False)
    flood = get("/hello/a") * 1000
    sent = 0
    idle = 0
    while idle < 20:
        try:
            sent += hog.send(flood)
            idle = 0
        except BlockingIOError:
            idle += 1
        await asyncio.sleep(0.005)
    requests = served.engine.stats.requests
    await asyncio.sleep(0.05)
    assert served.engine.stats.requests == requests
    (connection,) = [
        held
        for held in served.engine.shared.connections  # type: ignore[union-attr]
        if held.out.paused  # type: ignore[attr-defined]
    ]
    assert connection.out.bytes_unsent < 400_000  # type: ignore[attr-defined]
    assert connection.parser.buffered_bytes < 400_000  # type: ignore[attr-defined]
    assert (await client.ask(get("/hello/a")))[0] == 200
    hog.close()


async def test_stream_ends_when_its_client_leaves(served: Served) -> None:
    async with client_of(served) as client:
        client.writer.write(get("/stream"))
        await client.reader.readuntil(b"piece 2\n")
        assert not served.stream_closed
    await until(lambda: served.stream_closed)
    await until(lambda: served.engine.connections_open == 0)


# Draining


async def test_drain_finishes_requests_and_closes_idle_connections() -> None:
    async with running() as served, client_of(served) as idle, client_of(served) as busy:
        await idle.ask(get("/hello/a"))
        busy.writer.write(get("/waiting"))
        await until(lambda: served.started == 1)
        draining = asyncio.get_running_loop().create_task(served.engine.drain())
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await Client.open(served)
        assert not draining.done()
        served.gate.set()
        (answer,) = answers(await busy.rest())
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await busy.close()
        assert await draining == 0
        assert served.engine.connections_open == 0


async def test_drain_cuts_connections_that_take_too_long() -> None:
    async with running(EngineLimits(drain_timeout_s=0.1)) as served, client_of(served) as client:
        client.writer.write(get("/waiting"))
        await until(lambda: served.started == 1)
        assert await served.engine.drain() == 1
        assert await reset(client.rest()) == b""
        assert served.engine.connections_open == 0
        assert served.finished == 0


async def test_hurried_drain_cuts_requests() -> None:
    async with running(EngineLimits(drain_timeout_s=3600)) as served, client_of(served) as client:
        client.writer.write(get("/waiting"))
        await until(lambda: served.started == 1)
        draining = asyncio.get_running_loop().create_task(served.engine.drain())
        await until(lambda: served.engine.shared.draining)
        assert not draining.done()
        served.engine.hurry()
        assert await draining == 1
        assert served.engine.connections_open == 0
        assert served.finished == 0


async def test_drain_ends_streams_without_waiting_for_them(served: Served, client: Client) -> None:
    client.writer.write(get("/stream"))
    await client.reader.readuntil(b"piece 1\n")
    assert await served.engine.drain() == 0
    assert served.stream_closed
    assert not (await client.rest()).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("begins", [b"", b"\x16\x03\x01\x00\xfa\x01"])
async def test_drain_does_not_wait_for_handshakes(tmp_path: Path, begins: bytes) -> None:
    patient = EngineLimits(head_timeout_s=3600, drain_timeout_s=3600)

    async with running(patient, tls=tls_context(*certificate(tmp_path))) as served:
        async with client_of(served) as client:
            client.writer.write(begins)
            await until(lambda: served.engine.connections_open == 1)
            assert await served.engine.drain() == 0
            assert await reset(client.rest()) == b""
        assert served.engine.connections_open == 0


async def test_drain_does_not_wait_for_unfinished_tls_closes(tmp_path: Path) -> None:
    patient = EngineLimits(write_timeout_s=3600, drain_timeout_s=3600)
    paths = certificate(tmp_path)

    async with running(patient, tls=tls_context(*paths)) as served:
        client = await asyncio.to_thread(idle_over_tls, served.address, paths[0])
        assert await served.engine.drain() == 0
        assert served.engine.connections_open == 0
        client.close()


def idle_over_tls(address: tuple[str, int], trusted: Path) -> ssl.SSLSocket:
    """Return a connection that was answered once, and from then on reads nothing."""
    plain = socket.create_connection(address)
    client = ssl.create_default_context(cafile=trusted).wrap_socket(plain, server_hostname="127.0.0.1")
    client.sendall(get("/hello/a"))
    assert client.recv(10_000).startswith(b"HTTP/1.1 200 ")
    return client


async def test_request_on_its_way_to_a_drain_is_answered(
    monkeypatch: pytest.MonkeyPatch, served: Served, client: Client
) -> None:
    # Long enough for any machine; the client is answered at once.
    monkeypatch.setattr("openred_central.micro_engine.engine.DRAIN_GRACE_S", 1.0)

    await client.ask(get("/hello/a"))
    draining = asyncio.get_running_loop().create_task(served.engine.drain())
    await asyncio.sleep(0)
    client.writer.write(get("/hello/b"))
    (answer,) = answers(await client.rest())
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await client.close()
    assert await draining == 0


async def test_engine_that_never_started_has_nothing_to_drain() -> None:
    engine = Engine()
    assert await engine.drain() == 0
    assert engine.connections_open == 0


async def test_engine_starts_once(served: Served) -> None:
    with pytest.raises(RuntimeError):
        await served.engine.start([])


# Time


async def test_deadlines_hold_for_many_connections() -> None:
    count = SWEEP_CONNECTIONS_MAX + 20
    async with running(EngineLimits(head_timeout_s=0.1, connections_per_address_max=count)) as served:
        clients = [await Client.open(served) for _ in range(count)]
        for client in clients:
            assert answers(await client.rest())[0].status == 408
            await client.close()
        assert served.engine.stats.timeouts == count


class Watched:
    """Stands for a connection; counts how often its deadlines are checked."""

    checks = 0

    def check_deadlines(self, now_s: float) -> None:
        self.checks += 1

    def drain(self) -> None: ...

    def cut(self) -> None: ...


@pytest.fixture
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no engine that starts from now on tick by itself."""
    monkeypatch.setattr("openred_central.micro_engine.engine.TICK_S", 3_600.0)


@pytest.mark.usefixtures("no_ticks")
async def test_each_connection_is_checked_once_a_tick(served: Served) -> None:
    shared = served.engine.shared
    watched = [Watched() for _ in range(2 * SWEEP_CONNECTIONS_MAX + 1)]
    shared.connections.update(watched)
    served.engine.sweep(list(shared.connections))
    checked = [sum(one.checks for one in watched)]
    for _ in range(3):
        await asyncio.sleep(0)
        checked.append(sum(one.checks for one in watched))
    assert checked == [256, 512, 513, 513]
    assert {one.checks for one in watched} == {1}
    shared.connections.clear()


async def test_date_is_that_of_the_clock_it_was_given() -> None:
    engine = Engine(clock=VirtualClock(wall_s=0), server_name="own-name")

    @engine.route("/")
    async def root(request: Request) -> Response:
        return Response(b"here", content_type="text/plain")

    (address,) = await engine.start(listen_tcp("127.0.0.1", 0, backlog=5))
    host, port = address.split(":")
    client = Client(*await asyncio.open_connection(host, int(port)))
    _, headers, _ = await client.ask(get("/"))
    assert headers["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert headers["server"] == "own-name"
    await client.close()
    await engine.drain()


# Alone, in ten lines

WAITING_FOR_EVER = textwrap.dedent("""
    import asyncio, logging
    from openred_central.micro_engine.engine import Engine
    from openred_central.micro_engine.limits import EngineLimits

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    engine = Engine(limits=EngineLimits(drain_timeout_s=3600))

    @engine.route("/waiting")
    async def waiting(request):
        await asyncio.Event().wait()

    engine.run(host="127.0.0.1", port=0)
""")


def test_second_signal_cuts_the_drain_short() -> None:
    command = [sys.executable, "-c", WAITING_FOR_EVER]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        host, port = process.stderr.readline().removeprefix("listening on ").strip().split(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(get("/waiting"))
            process.send_signal(signal.SIGTERM)
            assert process.stderr.readline() == "draining\n"
            process.send_signal(signal.SIGINT)
            try:
                _, rest = process.communicate(timeout=20)
            finally:
                process.kill()
        assert process.returncode == 0
        assert "drained, 1 connections were cut" in rest


TEN_LINES = textwrap.dedent("""
    import logging
    from openred_central.micro_engine.engine import Engine

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    engine = Engine()

    @engine.route("/hello/{name}", methods=["GET"])
    async def hello(request, name):
        return {"hello": name}

    engine.run(host="127.0.0.1", port=0)
""")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ten_lines_serve_until_a_signal_and_end_well(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", TEN_LINES], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        host, port = process.stderr.readline().removeprefix("listening on ").strip().split(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(get("/hello/you"))
            assert b'{"hello":"you"}' in client.recv(10_000)
            process.send_signal(number)
            assert client.recv(10_000) == b""
        _, rest = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "drained, 0 connections were cut" in rest


async def test_other_handlers_take_over_with_connections_and_counts_in_place(
    served: Served, client: Client
) -> None:
    held, released = asyncio.Event(), asyncio.Event()
    await client.ask(get("/hello/a"))

    def first() -> None:
        async def hello(request: Request, name: str) -> Response:
            held.set()
            await released.wait()
            return Response.json({"by": "first"})

        served.engine.route("/hello/{name}")(hello)

    def second() -> None:
        async def hello(request: Request, name: str) -> Response:
            return Response.json({"by": "second"})

        served.engine.route("/hello/{name}")(hello)

    served.engine.reroute(first)
    asked = asyncio.create_task(client.ask(get("/hello/a")))
    await held.wait()
    served.engine.reroute(second)
    async with client_of(served) as other:
        assert (await other.ask(get("/hello/a")))[2] == b'{"by":"second"}'
    released.set()
    assert (await asked)[2] == b'{"by":"first"}'
    assert (await client.ask(get("/hello/a")))[2] == b'{"by":"second"}'
    counts = {route.template: route.responses[2] for route in served.engine.routes()}
    assert counts == {"/hello/{name}": 4}

"""Accepting, the caps, and having no file descriptors left."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from openred_central.listening import listen_tcp, listen_unix, tls_context
from openred_central.micro_engine.acceptor import PARTING_MAX
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.limits import EngineLimits
from tests.support.certificates import certificate
from tests.support.serving import Client, client_of, reset, running

from ..support.waiting import until
from .harness import answers, get

pytestmark = pytest.mark.both_loops


def limits(total: int, per_address: int, exempt: tuple[str, ...] = ()) -> EngineLimits:
    return EngineLimits(
        connections_max=total, connections_per_address_max=per_address, exempt_networks=exempt
    )


@pytest.mark.parametrize("caps", [limits(2, 2), limits(9, 2), limits(2, 1, ("127.0.0.0/8",))])
async def test_client_above_a_cap_gets_a_503_and_is_closed(caps: EngineLimits) -> None:
    async with running(caps) as served, client_of(served) as first, client_of(served) as second:
        assert (await first.ask(get("/hello/a")))[0] == 200
        assert (await second.ask(get("/hello/a")))[0] == 200
        async with client_of(served) as third:
            (answer,) = answers(await third.rest())
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert "retry-after" in answer.headers
            assert "date" in answer.headers
        assert served.engine.stats.connections_refused == 1
        assert (await first.ask(get("/hello/b")))[0] == 200


async def test_refused_client_that_sent_gets_its_answer() -> None:
    async with running(limits(1, 1)) as served, client_of(served) as first:
        await first.ask(get("/hello/a"))
        async with client_of(served) as second:
            second.writer.write(get("/hello/b"))
            assert answers(await second.rest())[0].status == 503


async def test_closed_connection_makes_room_for_the_next() -> None:
    async with running(limits(1, 1)) as served:
        for _ in range(5):
            async with client_of(served) as client:
                assert (await client.ask(get("/hello/a")))[0] == 200
            await until(lambda: served.engine.connections_open == 0)
        assert served.engine.stats.connections_total == 5


async def test_refused_clients_do_not_pile_up() -> None:
    async with running(limits(1, 1)) as served, client_of(served) as first:
        await first.ask(get("/hello/a"))
        refused = [await Client.open(served) for _ in range(PARTING_MAX + 20)]
        for client in refused:
            await reset(client.rest())
        acceptor = served.engine.acceptor
        assert acceptor is not None
        assert len(acceptor.parting) == PARTING_MAX
        acceptor.tick()
        acceptor.tick()
        assert len(acceptor.parting) == 0
        for client in refused:
            await client.close()


async def test_refused_clients_are_closed_once() -> None:
    async with running(limits(1, 1)) as served, client_of(served) as first:
        await first.ask(get("/hello/a"))
        async with client_of(served) as refused:
            await refused.rest()
        acceptor = served.engine.acceptor
        assert acceptor is not None
        acceptor.tick()
        acceptor.close()
        acceptor.tick()


async def test_longest_waiting_connection_gives_way() -> None:
    async with running(limits(3, 3), places_kept=1) as served:
        first, second = await Client.open(served), await Client.open(served)
        assert (await first.ask(get("/hello/a")))[0] == 200
        assert (await second.ask(get("/hello/a")))[0] == 200
        assert (await first.ask(get("/hello/b")))[0] == 200
        async with client_of(served) as third:
            assert (await third.ask(get("/hello/c")))[0] == 200
            assert await reset(second.rest()) == b"", "the first was heard later"
            assert (await first.ask(get("/hello/d")))[0] == 200
        await first.close()
        await second.close()


async def test_connection_with_a_request_never_gives_way() -> None:
    async with (
        running(limits(3, 3), places_kept=1) as served,
        client_of(served) as first,
        client_of(served) as second,
    ):
        for client in (first, second):
            client.writer.write(get("/waiting"))
        await until(lambda: served.started == 2)
        async with client_of(served) as third:
            assert await reset(third.rest()) == b"", "it alone waits for nothing"
        served.gate.set()
        assert [(await client.answer())[0] for client in (first, second)] == [200, 200]


async def test_unix_socket_never_serves_tls(tmp_path: Path) -> None:
    paths = certificate(tmp_path)

    listeners = [*listen_tcp("127.0.0.1", 0, backlog=5), listen_unix(tmp_path / "s", backlog=5)]
    async with running(limits(2, 2), listeners, tls_context(*paths)) as served:
        trusting = ssl.create_default_context(cafile=paths[0])
        async with client_of(served, trusting) as over_tls:
            assert (await over_tls.ask(get("/hello/a")))[0] == 200
            proxy = Client(*await asyncio.open_unix_connection(tmp_path / "s"))
            assert (await proxy.ask(get("http://test/hello/a")))[0] == 200
            refused = Client(*await asyncio.open_unix_connection(tmp_path / "s"))
            assert answers(await refused.rest())[0].status == 503
            await proxy.close()
            await refused.close()


async def test_handshake_that_fails_gives_its_place_back(tmp_path: Path) -> None:
    paths = certificate(tmp_path)

    async with running(limits(1, 1), tls=tls_context(*paths)) as served:
        async with client_of(served) as client:
            client.writer.write(b"this is no handshake\r\n\r\n")
            await reset(client.rest())
        await until(lambda: served.engine.connections_open == 0)
        trusting = ssl.create_default_context(cafile=paths[0])
        async with client_of(served, trusting) as client:
            assert (await client.ask(get("/hello/a")))[0] == 200
            async with client_of(served) as refused:
                assert await reset(refused.rest()) == b""
        assert served.engine.stats.connections_refused == 1


async def test_client_that_never_finishes_its_handshake_is_closed(tmp_path: Path) -> None:
    paths = certificate(tmp_path)

    async with running(EngineLimits(head_timeout_s=0.2), tls=tls_context(*paths)) as served:
        async with client_of(served) as client:
            assert await reset(client.rest()) == b""
        await until(lambda: served.engine.connections_open == 0)


async def test_connections_in_the_backlog_are_served_at_a_stop() -> None:
    async with running() as served:
        client = socket.create_connection(served.address)
        acceptor = served.engine.acceptor
        assert acceptor is not None
        acceptor.stop()
        client.sendall(get("/hello/a", "Connection: close"))
        client.setblocking(False)
        received = await asyncio.get_running_loop().sock_recv(client, 10_000)
        assert answers(received)[0].status == 200
        client.close()
        with pytest.raises(ConnectionRefusedError):
            await Client.open(served)


async def test_one_process_leaves_others_a_part_of_a_shared_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = listen_unix(path, backlog=50)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(16)]
    for client in waiting:
        client.connect(str(path))
    # Two engines of one loop stand for two processes that wake up at once.
    engines = [Engine(), Engine()]
    for engine, shared in zip(engines, (listener.dup(), listener), strict=True):
        assert await engine.start([], shared_listeners=[shared]) == [f"unix:{path}"]
    await until(lambda: sum(engine.stats.connections_total for engine in engines) == 16)
    for client in waiting:
        client.close()
    for engine in engines:
        await engine.drain()
    assert [engine.stats.connections_total for engine in engines] == [8, 8]


async def test_stopped_engine_leaves_alone_what_comes_to_sockets_that_others_hold() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0, backlog=5)
    engine = Engine()
    with listener:
        await engine.start([listener.dup()])
        await engine.drain()
        with socket.create_connection(listener.getsockname()):
            for _ in range(3):
                await asyncio.sleep(0.01)
            listener.accept()[0].close()


class Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left."""

    def accept(self) -> tuple[socket.socket, object]:
        raise OSError(errno.EMFILE, "Too many open files")


async def test_drain_without_descriptors_closes_all_listeners() -> None:
    listeners = [
        Exhausted(fileno=listen_tcp("127.0.0.1", 0, backlog=5)[0].detach()),
        *listen_tcp("127.0.0.1", 0, backlog=5),
        Exhausted(fileno=listen_tcp("127.0.0.1", 0, backlog=5)[0].detach()),
    ]
    async with running(listeners=listeners) as served:
        assert await served.engine.drain() == 0
        assert served.engine.stats.accept_pauses == 2
        assert [listener.fileno() for listener in listeners] == [-1, -1, -1]
        acceptor = served.engine.acceptor
        assert acceptor is not None
        acceptor.start()


# A server that may have few descriptors. It tells its port, and at its end how often it paused.
EXHAUSTED = """
import asyncio, resource, sys, uvloop
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
from openred_central.micro_engine.engine import Engine
from openred_central.listening import listen_tcp

engine = Engine()

@engine.route("/hello")
async def hello(request):
    return {"hello": "you"}

async def main():
    (address,) = await engine.start(listen_tcp("127.0.0.1", 0, backlog=100))
    sys.stdout.write(address.split(":")[1] + "\\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await engine.drain()
    sys.stdout.write(f"{engine.stats.accept_pauses} {engine.connections_open}\\n")

uvloop.run(main())
"""


def test_without_descriptors_accepting_pauses_and_recovers() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", EXHAUSTED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        clients = [socket.create_connection(address, timeout=20) for _ in range(60)]
        asked = get("/hello")
        # Those that came in are served although no other can be accepted.
        for _ in range(3):
            clients[0].sendall(asked)
            assert clients[0].recv(10_000).startswith(b"HTTP/1.1 200 ")
        waiting = clients.pop()
        waiting.sendall(asked)
        for client in clients:
            client.close()
        # The last one was connected by the kernel all the time, and its turn comes.
        assert waiting.recv(10_000).startswith(b"HTTP/1.1 200 ")
        with socket.create_connection(address, timeout=20) as late:
            late.sendall(asked)
            assert late.recv(10_000).startswith(b"HTTP/1.1 200 ")
        waiting.close()
        output, _ = process.communicate("stop\n", timeout=20)
        pauses, still_open = map(int, output.split())
        # One a second, and not as often as the processor can.
        assert 1 <= pauses <= 20
        assert still_open == 0

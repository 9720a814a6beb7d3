"""Several processes that serve one port, each with an engine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from openred_central.listening import listeners_of_workers
from openred_central.micro_engine.places import clear, mapped, shared_memory

from .harness import answers, get

CONNECTIONS_PER_ADDRESS_MAX = 200

# A process with sockets and places that are passed to it. It answers with its number, until SIGTERM.
WORKER = """
import asyncio, json, signal, sys, uvloop
from openred_central.listening import adopted
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.places import Places, mapped

number, memory, own, shared, connections_max = json.loads(sys.argv[1])
engine = Engine(
    limits=EngineLimits(connections_per_address_max=connections_max),
    places=Places(mapped(memory), number, bytes(32)),
)

@engine.route("/number")
async def answer(request):
    return [number]

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await engine.start(adopted(own), shared_listeners=adopted(shared))
    sys.stdout.write("serves\\n")
    sys.stdout.flush()
    await stop.wait()
    await engine.drain()

uvloop.run(main())
"""


class Workers:
    """Two processes with a port and a path; `owner` keeps their sockets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = listeners_of_workers(
            2, "127.0.0.1", 0, str(path), backlog=500, environment={}, process_id=os.getpid()
        )
        self.address = self.opened.own[0][0].getsockname()
        self.descriptor = shared_memory(2)
        self.memory = mapped(self.descriptor)
        self.processes = [self.start(number) for number in range(2)]

    def start(self, number: int) -> subprocess.Popen[str]:
        """Return a process that serves on the sockets of worker `number`."""
        own, shared = (
            [listener.fileno() for listener in group]
            for group in (self.opened.own[number], self.opened.shared)
        )
        given = json.dumps([number, self.descriptor, own, shared, CONNECTIONS_PER_ADDRESS_MAX])
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, given],
            pass_fds=[self.descriptor, *own, *shared],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "serves\n"
        return process

    def kill(self, number: int) -> None:
        """End the process of a worker as the system does, and forget its connections."""
        process = self.processes[number]
        process.kill()
        process.communicate(timeout=20)
        clear(self.memory, number)

    def end(self) -> list[int]:
        """Stop the processes. Return their exit codes."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.communicate(timeout=20)
            finally:
                process.kill()
        self.opened.close()
        os.close(self.descriptor)
        return [process.returncode for process in self.processes]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "socket")
    yield made
    codes = made.end()
    assert set(codes) == {0}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(made.address)


def asked(client: socket.socket) -> socket.socket:
    """Return `client`, whose request is on its way."""
    client.sendall(get("/number"))
    return client


def answer(client: socket.socket) -> tuple[int, bytes]:
    """Return status and body of the answer that comes to `client`."""
    client.settimeout(20)
    (got,) = answers(client.recv(10_000))
    return got.status, got.body


def test_connections_spread_and_one_address_meets_its_cap(workers: Workers) -> None:
    with contextlib.ExitStack() as clients:
        got = []
        for _ in range(CONNECTIONS_PER_ADDRESS_MAX + 10):
            client = clients.enter_context(socket.create_connection(workers.address, timeout=20))
            got.append(answer(asked(client)))
        counts = Counter(body for status, body in got if status == 200)
        assert set(counts) == {b"[0]", b"[1]"}
        assert counts.total() == CONNECTIONS_PER_ADDRESS_MAX
        assert {status for status, _ in got[CONNECTIONS_PER_ADDRESS_MAX:]} == {503}


def test_connections_at_a_path_are_served_by_all(workers: Workers) -> None:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(workers.path))
            assert answer(asked(client)) in ((200, b"[0]"), (200, b"[1]"))


def test_connections_that_wait_for_a_killed_process_are_served_by_the_next(workers: Workers) -> None:
    workers.kill(0)
    with contextlib.ExitStack() as opened:
        clients = [
            asked(opened.enter_context(socket.create_connection(workers.address, timeout=20)))
            for _ in range(64)
        ]
        workers.processes[0] = workers.start(0)
        got = Counter(answer(client) for client in clients)
    assert set(got) == {(200, b"[0]"), (200, b"[1]")}
    assert got.total() == 64

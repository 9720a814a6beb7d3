"""The case of a cluster: what is missing for it, how its times are read, its heartbeats and its slow link."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.machine import Cores
from benchmarks.suite import cluster, postgres, workers
from benchmarks.suite.databases import Databases
from benchmarks.suite.instances import Heartbeats, Relay, status, times_s
from benchmarks.suite.samples import QUICK, Bench, Samples
from benchmarks.suite.servers import Site, free_port
from tests.support import waiting
from tests.support.running import until

LOG = """\
2026-05-01T10:00:00.250Z info cluster: took the lease, which was free, in term 7
2026-05-01T10:00:01.000Z info cluster: leads in term 7
2026-05-02T10:00:00.000Z info cluster: took the lease, which was free, in term 9
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def answering() -> Iterator[tuple[int, list[bytes]]]:
    """A port at which each request of a connection gets the next answer, the last one again and again.

    An empty answer closes the connection.
    """
    answers: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while connection.recv(65_536):
                    reply = answers.pop(0) if len(answers) > 1 else answers[0]
                    if not reply:
                        break
                    connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], answers
    # A close alone does not end an accept in another thread.
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_newest_postgresql_is_taken(tmp_path: Path) -> None:
    for version in ("9.6", "15", "17"):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        (folder / "initdb").touch()
    (tmp_path / "18" / "bin").mkdir(parents=True)
    assert postgres.programs(tmp_path) == tmp_path / "17" / "bin"
    assert postgres.programs(tmp_path / "none") is None


def test_case_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = Site(tmp_path, Databases(tmp_path), Cores(frozenset(), frozenset()))
    bench = Bench(site, QUICK, Samples(), lambda message: None, seed=0)
    monkeypatch.setattr(postgres, "programs", lambda: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    cluster.measure(bench)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cluster.measure(bench)
    without_server, without_library = bench.samples.notes
    assert "initdb" in without_server
    assert "asyncpg" in without_library


def test_times_are_those_of_the_lines_with_a_text() -> None:
    first, second = times_s(LOG, cluster.TOOK)
    assert (times_s(LOG, cluster.LEADS)[0] - first, second - first) == (0.75, 86_399.75)
    assert times_s(LOG, cluster.READY) == []


def test_lags_are_those_since_the_first_look() -> None:
    before = {0.005: 1_000.0, 0.02: 1_000.0, 60.0: 1_000.0}
    after = {0.005: 1_060.0, 0.02: 1_099.0, 60.0: 1_100.0}
    assert workers.lag_figures(before, after) == {"lag_p50_ms": 5.0, "lag_p99_ms": 20.0}


def test_answer_that_does_not_come_has_no_status(answering: tuple[int, list[bytes]]) -> None:
    port, answers = answering
    answers += [BUSY, b""]
    assert status(port, "GET", "/") == 503
    assert status(port, "GET", "/") == 0
    assert status(free_port(), "GET", "/") == 0


def test_heartbeats_that_fail_are_counted(answering: tuple[int, list[bytes]]) -> None:
    port, answers = answering
    answers += [OK, BUSY, b"", OK]
    with Heartbeats(port) as heartbeats:
        until(lambda: heartbeats.sent >= 5, "heartbeats to be sent")
    assert heartbeats.failed == 2


def test_bytes_of_a_slow_link_keep_their_order_when_the_delay_ends() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
        writer.close()

    async def talk() -> float:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        with Relay(server.sockets[0].getsockname()[1]) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            relay.delay_s = 0.1
            began_s = asyncio.get_running_loop().time()
            writer.write(b"slow ")
            await waiting.until(lambda: relay.taken_bytes)
            relay.delay_s = 0.0
            writer.write(b"fast")
            writer.write_eof()
            assert await reader.read() == b"slow fast"
            took_s = asyncio.get_running_loop().time() - began_s
            writer.close()
        server.close()
        return took_s

    assert asyncio.run(talk()) >= 0.1

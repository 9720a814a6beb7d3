"""SIGTERM under load: what was accepted is answered, what is not was not done, nothing is half said."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from tests.support.running import WAIT_S_MAX, Answer, Client, Server, Start, answers, until
from tests.support.signing import Node, wait_for_the_next_second

CONNECTIONS = 60
PIPELINED_MAX = 8
# The signal comes when so many requests have been answered: all are then in the middle of something.
ANSWERED_BEFORE = 1_500


class Sent(NamedTuple):
    """One pipeline on a connection: the names registered by its requests, in order; None for another request.

    `before` says that all of it had been handed to the server's machine before the signal came.
    """

    names: list[str | None]
    before: bool


def registration(name: str) -> bytes:
    body = orjson.dumps({"node_id": name, "address": "192.0.2.1", "port": 1, "public_key": "k"})
    head = "POST /register HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


def look(name: str) -> bytes:
    return f"GET /nodes/{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def heartbeat(name: str) -> bytes:
    return f"POST /heartbeat/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()


def whole_count(received: bytes) -> int:
    """Return how many answers with a Content-Length `received` begins with, whole."""
    count = 0
    while True:
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end:
            return count
        length = int(head.lower().split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
        if len(rest) < length:
            return count
        received, count = rest[length:], count + 1


class Load:
    """Keep-alive connections with pipelines on `server`, until each is closed.

    `registered` are the names of those who were told so, `unanswered` of those who were told nothing.
    """

    def __init__(self, server: Server, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._stopped = False
        self._answered = 0
        self.registered: list[str] = []
        self.unanswered: list[str] = []
        self.closed_by: list[str] = []

    async def run(self) -> None:
        async with asyncio.timeout(WAIT_S_MAX), asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._connection(number))
            while self._answered < ANSWERED_BEFORE:
                await asyncio.sleep(0.001)
            self._server.send_signal(signal.SIGTERM)
            self._stopped = True

    async def _connection(self, number: int) -> None:
        reader, writer = await asyncio.open_connection(*self._server.address)
        count, going = 0, True
        try:
            while going:
                names: list[str | None] = []
                pipeline = []
                for _ in range(self._random.randint(1, PIPELINED_MAX)):
                    count += 1
                    known = f"node-{number}-1"
                    name = f"node-{number}-{count}" if count == 1 or self._random.random() < 0.3 else None
                    names.append(name)
                    other = self._random.choice((heartbeat, look))
                    pipeline.append(registration(name) if name else other(known))
                writer.write(b"".join(pipeline))
                handed_over = not writer.transport.get_write_buffer_size()
                sent = Sent(names, handed_over and not self._stopped)
                going = self._check(sent, await self._receive(reader, len(names)))
        finally:
            writer.close()

    async def _receive(self, reader: asyncio.StreamReader, count: int) -> tuple[bytes, bool]:
        """Return the bytes of `count` answers, or those before the end, and whether the server ended."""
        received = b""
        while whole_count(received) < count:
            try:
                piece = await reader.read(65_536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return received, True
            received += piece
        return received, False

    def _check(self, sent: Sent, came: tuple[bytes, bool]) -> bool:
        """Look whether what came is an answer to what was sent. False: nothing more can be sent."""
        received, ended = came
        # Fails on a byte that belongs to no whole answer.
        got = list(answers(received))
        self._answered += len(got)
        for name, answer in zip(sent.names, got, strict=False):
            assert answer.status == (201 if name else 200), answer
            if name:
                assert answer.reply().document["node_id"] == name
                self.registered.append(name)
        self.unanswered += [name for name in sent.names[len(got) :] if name]
        assert not any(answer.closes for answer in got[:-1])
        if not (ended or got[-1].closes):
            return True
        assert self._stopped, "the server ended a connection before it was told to stop"
        self._check_end(sent, got)
        return False

    def _check_end(self, sent: Sent, got: list[Answer]) -> None:
        if got:
            # A client with fewer answers than requests learns so, and may ask elsewhere.
            assert got[-1].closes
        else:
            assert not sent.before, "a request that was there before the signal was not answered"
        self.closed_by.append("answer" if got else "silence")


async def test_stopping_under_pipelined_load_loses_nothing_that_was_accepted(start: Start, seed: int) -> None:
    server = start("--connections-per-address-max", "1000")
    load = Load(server, seed)
    await load.run()
    assert server.wait() == 0
    assert "Traceback" not in server.log
    assert "0 connections were cut" in server.log
    assert len(load.closed_by) == CONNECTIONS
    with Client(start().address) as client:
        known: set[str] = set()
        for names in (load.registered, load.unanswered):
            for begin in range(0, len(names), 100):
                found = client.ask("POST", "/lookup", {"node_ids": names[begin : begin + 100]}).document
                known |= {node["node_id"] for node in found["nodes"]}
    # Acknowledged nodes are there; unanswered requests had no effect and can be repeated.
    assert known == set(load.registered)


def test_a_stop_waits_for_a_body_on_its_way(start: Start) -> None:
    server = start()
    content = registration("late")
    with (
        socket.create_connection(server.address, timeout=WAIT_S_MAX) as slow,
        socket.create_connection(server.address, timeout=WAIT_S_MAX) as idle,
    ):
        slow.sendall(content[:-10])
        wait_until_read(server)
        server.send_signal(signal.SIGTERM)
        # When those that wait for nothing are closed, all others are waited for.
        assert idle.recv(1) == b""
        slow.sendall(content[-10:])
        received = b""
        while piece := slow.recv(65_536):
            received += piece
    (answer,) = answers(received)
    assert (answer.status, answer.closes) == (201, True)
    assert server.wait() == 0


def test_an_unfinished_request_delays_the_stop_by_the_grace_time_only(start: Start) -> None:
    server = start("--drain-timeout-s", "0.5")
    with socket.create_connection(server.address, timeout=WAIT_S_MAX) as stuck:
        stuck.sendall(registration("never")[:-1])
        wait_until_read(server)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "1 connections were cut" in server.log
        with contextlib.suppress(ConnectionResetError):
            assert stuck.recv(65_536) == b""


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Lock `database`, so that no other process can write to it."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def token_of(server: Server) -> tuple[Node, str]:
    """Return a node on `server`, and a token that it was granted."""
    wait_for_the_next_second()
    node = Node(server, "alice")
    assert node.register().status == 201
    token: str = node.ask("POST", "/security/token", {"node_id": "alice"}).document["token"]
    return node, token


def is_valid(server: Server, token: str) -> bool:
    with Client(server.address) as client:
        return bool(client.ask("POST", "/security/verify", {"token": token}).document["valid"])


def test_a_revocation_that_was_accepted_outlives_an_orderly_stop(start: Start, tmp_path: Path) -> None:
    server = start()
    node, token = token_of(server)
    assert is_valid(server, token)
    with contextlib.closing(node):
        with locked(tmp_path / "nodes.db"):
            reply = node.ask("POST", "/security/revoke", {"node_id": "alice", "token": token})
            assert (reply.status, reply.document["durable"]) == (202, False)
        server.stop()
    assert not is_valid(start(), token)


def test_a_stop_without_saved_revocations_is_reported(start: Start, tmp_path: Path) -> None:
    server = start()
    node, token = token_of(server)
    with contextlib.closing(node), locked(tmp_path / "nodes.db"):
        reply = node.ask("POST", "/security/revoke", {"node_id": "alice", "token": token})
        assert reply.status == 202
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 1
    assert "gave up saving the last revocations after 10 s" in server.log
    assert "ended without saving all changes" in server.log


def test_a_lost_change_of_keys_still_closes_the_store(start: Start, tmp_path: Path) -> None:
    server = start("--admin-socket", str(tmp_path / "operators"))
    keyring = tmp_path / "keys" / "keyring.json"
    with Client(server.address) as client, Client(tmp_path / "operators") as operator:
        until(lambda: client.ask("GET", "/security/keys").status == 200, "the keys of a first start")
        # A file cannot take the place of a folder.
        keyring.unlink()
        keyring.mkdir()
        assert operator.ask("POST", "/admin/keys/rotate").status >= 500
        assert client.register("alice").status == 201
        server.send_signal(signal.SIGTERM)
    assert server.wait() == 1
    assert "gave up writing the last changes of the keys" in server.log
    assert not (tmp_path / "nodes.db-wal").exists()


# A server whose saver fails once for what nobody expected, and then has to pause for an hour.
FAILS_ONCE = """
import sys
from openred_central.cli.main import main
from openred_central.tasks import periodic
from openred_central.tasks.saver import Saver
save = Saver._save_batch
async def fail(saver):
    Saver._save_batch = save
    raise ZeroDivisionError
Saver._save_batch, periodic.PAUSE_S_MIN = fail, 3_600.0
sys.exit(main())
"""


def test_changes_of_a_failed_saver_are_saved_at_the_stop(start: Start) -> None:
    server = start(command=(sys.executable, "-c", FAILS_ONCE))
    until(lambda: "the saver failed and is restarted in 3600 s" in server.log, "the saver to fail")
    with Client(server.address) as client:
        assert client.register("alice").status == 202
    server.stop()
    with Client(start().address) as client:
        assert client.ask("GET", "/nodes/alice").status == 200


def wait_until_read(server: Server) -> None:
    """Return once the server has read all that was sent before: it reads in the order of arrival."""
    with Client(server.address) as client:
        assert client.ask("GET", "/health/live").status == 200

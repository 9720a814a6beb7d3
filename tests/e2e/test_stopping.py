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
    """How many answers with a Content-Length `received` begins with, whole."""
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
        """What comes back, until there are `count` answers; and whether the server has ended instead."""
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
            # Whoever got fewer answers than asked for is told so, and may ask again elsewhere.
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
    # Who was told so is there; what was not answered was not done either, and can be asked for again.
    assert known == set(load.registered)


def test_a_request_whose_body_is_on_its_way_is_waited_for_and_answered(start: Start) -> None:
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


def test_who_never_finishes_a_request_holds_the_end_up_no_longer_than_the_grace_time(start: Start) -> None:
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
    """Nobody else can write to `database`."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def token_of(server: Server) -> tuple[Node, str]:
    """A node on `server`, and a token that it was granted."""
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


def test_an_end_that_could_not_save_a_revocation_says_so(start: Start, tmp_path: Path) -> None:
    server = start()
    node, token = token_of(server)
    with contextlib.closing(node), locked(tmp_path / "nodes.db"):
        reply = node.ask("POST", "/security/revoke", {"node_id": "alice", "token": token})
        assert reply.status == 202
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 1
    assert "gave up saving the last revocations after 10 s" in server.log
    assert "ended without having saved all changes" in server.log


def test_the_store_is_closed_in_order_where_only_a_change_of_the_keys_is_lost(
    start: Start, tmp_path: Path
) -> None:
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


def test_what_a_saver_that_failed_has_not_saved_yet_is_saved_at_the_stop(start: Start) -> None:
    server = start(command=(sys.executable, "-c", FAILS_ONCE))
    until(lambda: "the saver failed and is restarted in 3600 s" in server.log, "the saver to fail")
    with Client(server.address) as client:
        assert client.register("alice").status == 202
    server.stop()
    with Client(start().address) as client:
        assert client.ask("GET", "/nodes/alice").status == 200


def wait_until_read(server: Server) -> None:
    """What was sent before this exchange is read before it: the server reads in the order of arrival."""
    with Client(server.address) as client:
        assert client.ask("GET", "/health/live").status == 200

"""What it costs to know who somebody is: `python -m benchmarks identity`, about half a minute.

A server on loopback, as users run it, is sent heartbeats of each kind in turn: by whoever, with a session,
signed by RSA-2048, signed by Ed25519; then requests for pairs of tokens. Told is its processor time for each
request, of all threads, and what is above a heartbeat that proves nothing; beside it that of the bare
primitives, on the other core, in the same rounds. The fastest round counts, because other work on the machine
only ever adds. A node may sign sixteen times a minute: what is signed is spread over many, which share a key.
"""

from __future__ import annotations

import argparse
import hmac
import os
import re
import socket
import tempfile
from collections.abc import Callable
from math import inf
from pathlib import Path
from time import thread_time, time
from typing import NamedTuple

import orjson
import uvloop

from openred_central.security.directory_keys.keyset import read_document
from openred_central.security.node_keys import verify
from openred_central.security.signing import PrivateKey, signed_headers
from openred_central.security.tokens.link import cross_verify

from . import tokens
from .suite import machine
from .suite.contestants import OURS
from .suite.databases import Databases
from .suite.servers import Running, Site, ask

# With its registration, a node then signs fifteen times within a minute.
ROUNDS = 14
NODES = 250
PIPELINED = 16
TIMEOUT_S = 30.0
# Of a bare primitive, in each round.
CALLS = 200
MESSAGE = bytes(300)
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n")


class Answer(NamedTuple):
    """A status and the document that came with it."""

    status: int
    document: dict[str, str]


class Connection:
    """One keep-alive connection, with a few requests on their way at a time, as from a busy proxy."""

    def __init__(self, port: int) -> None:
        self.authority = f"127.0.0.1:{port}"
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._received = b""

    def close(self) -> None:
        self._socket.close()

    def exchange(self, requests: list[bytes]) -> list[Answer]:
        """The answers to `requests`, in their order."""
        answers = []
        for first in range(0, len(requests), PIPELINED):
            some = requests[first : first + PIPELINED]
            self._socket.sendall(b"".join(some))
            answers += [self._answer() for _ in some]
        return answers

    def _answer(self) -> Answer:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            self._receive()
        length = _LENGTH.search(self._received, 0, end + 2)
        assert length is not None, self._received
        whole = end + 4 + int(length[1])
        while len(self._received) < whole:
            self._receive()
        status, body = int(self._received[9:12]), self._received[end + 4 : whole]
        self._received = self._received[whole:]
        return Answer(status, orjson.loads(body))

    def _receive(self) -> None:
        piece = self._socket.recv(65_536)
        assert piece, "the server has closed"
        self._received += piece


class Node(NamedTuple):
    """A node of the load: its name, and the key that it signs with."""

    node_id: str
    key: PrivateKey

    def post(self, authority: str, path: str, body: bytes, *fields: tuple[str, str]) -> bytes:
        """A request; `fields` are further header fields."""
        given = [("Host", authority), ("Content-Length", str(len(body))), *fields]
        if body:
            given.append(("Content-Type", "application/json"))
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given), "", ""]
        return "\r\n".join(lines).encode() + body

    def signed(self, authority: str, path: str, body: bytes = b"") -> bytes:
        """A request that is signed now."""
        made = signed_headers("POST", authority, path, body, self.key, int(time()), os.urandom(16).hex())
        return self.post(authority, path, body, *made)

    def registration(self) -> bytes:
        """The body with which it registers."""
        fields = {"node_id": self.node_id, "address": "192.0.2.1", "port": 8_000}
        return orjson.dumps({**fields, "public_key": self.key.public_text})


class Load:
    """Nodes of three kinds on one server, registered, and what they send."""

    def __init__(self, server: Running, nodes: int) -> None:
        self._server = server
        self.connection = Connection(server.port)
        keys = {"ed": PrivateKey.generate_ed25519(), "rsa": PrivateKey.generate_rsa()}
        self._nodes = {
            kind: [Node(f"{kind}-{number}", key) for number in range(nodes)] for kind, key in keys.items()
        }
        self._nodes["plain"] = [Node(f"plain-{number}", keys["ed"]) for number in range(nodes)]
        authority = self.connection.authority
        self._sessions = {}
        for kind, group in self._nodes.items():
            send = Node.post if kind == "plain" else Node.signed
            answers = self.connection.exchange(
                [send(node, authority, "/register", node.registration()) for node in group]
            )
            assert {answer.status for answer in answers} == {201}, answers[0]
            self._sessions[kind] = [answer.document.get("session", "") for answer in answers]

    def unproven(self) -> list[bytes]:
        # Each with another head, as those that prove something have: like is compared with like.
        return [
            node.post(
                self.connection.authority, f"/heartbeat/{node.node_id}", b"", ("User-Agent", node.node_id)
            )
            for node in self._nodes["plain"]
        ]

    def by_session(self) -> list[bytes]:
        return [
            node.post(
                self.connection.authority,
                f"/heartbeat/{node.node_id}",
                b"",
                ("Authorization", f"OpenRed {session}"),
            )
            for node, session in zip(self._nodes["ed"], self._sessions["ed"], strict=True)
        ]

    def signed(self, kind: str) -> list[bytes]:
        authority = self.connection.authority
        return [node.signed(authority, f"/heartbeat/{node.node_id}") for node in self._nodes[kind]]

    def pairs(self) -> list[bytes]:
        made = []
        for node, session in zip(self._nodes["ed"], self._sessions["ed"], strict=True):
            body = orjson.dumps({"node_id": node.node_id, "peer_id": "rsa-0"})
            field = ("Authorization", f"OpenRed {session}")
            made.append(node.post(self.connection.authority, "/security/token", body, field))
        return made

    def cost_us(self, make: Callable[[], list[bytes]]) -> float:
        """Processor time of the server for each of the requests that `make` makes, in microseconds."""
        requests = make()
        before_s = self._server.processor_s()
        answers = self.connection.exchange(requests)
        passed_s = self._server.processor_s() - before_s
        assert {answer.status for answer in answers} == {200}, answers[0]
        return passed_s / len(requests) * 1e6


class Bare(NamedTuple):
    """A primitive alone; `times` is how often it is in the request that it is the heart of."""

    name: str
    times: int
    work: Callable[[], object]


def primitives() -> dict[str, Bare]:
    """The primitives, by the kind of request that each is for."""
    ed, rsa = PrivateKey.generate_ed25519(), PrivateKey.generate_rsa()
    by_ed, by_rsa = ed.sign(MESSAGE), rsa.sign(MESSAGE)
    return {
        "session": Bare("HMAC-SHA-256", 1, lambda: hmac.digest(bytes(32), MESSAGE, "sha256")),
        "rsa": Bare("RSA-2048 check", 1, lambda: verify(rsa.public.spki, by_rsa, MESSAGE)),
        "ed": Bare("Ed25519 check", 1, lambda: verify(ed.public.spki, by_ed, MESSAGE)),
        "pair": Bare("RSA-2048 signature", 2, lambda: rsa.sign(MESSAGE)),
    }


def bare_us(work: Callable[[], object]) -> float:
    """Processor time of one call of `work`, in microseconds."""
    before_s = thread_time()
    for _ in range(CALLS):
        work()
    return (thread_time() - before_s) / CALLS * 1e6


def costs(load: Load, rounds: int) -> None:
    """Print the server's processor time for each kind of request, and that of the primitive beside it."""
    kinds: dict[str, tuple[str, Callable[[], list[bytes]]]] = {
        "unproven": ("heartbeat, unproven", load.unproven),
        "session": ("heartbeat, by session", load.by_session),
        "rsa": ("heartbeat, signed by RSA-2048", lambda: load.signed("rsa")),
        "ed": ("heartbeat, signed by Ed25519", lambda: load.signed("ed")),
        "pair": ("pair of tokens, by session", load.pairs),
    }
    bare = primitives()
    found, alone = dict.fromkeys(kinds, inf), dict.fromkeys(bare, inf)
    for _ in range(rounds):
        for kind, (_, make) in kinds.items():
            found[kind] = min(found[kind], load.cost_us(make))
        for kind, primitive in bare.items():
            alone[kind] = min(alone[kind], bare_us(primitive.work))
    print(f"processor time of the server, the least of {rounds} rounds")
    for kind, (name, _) in kinds.items():
        beside = ""
        if kind in bare:
            above, (what, times, _) = found[kind] - found["unproven"], bare[kind]
            beside = f"  {above:+7.1f}, of which {times} x {what} {times * alone[kind]:.1f}"
        print(f"  {name:<42} {found[kind]:8.1f} µs{beside}", flush=True)


def pair_check(load: Load, server: Running) -> None:
    """Print what a peer pays to check a pair of tokens offline."""
    (pair,) = load.connection.exchange(load.pairs()[:1])
    content = ask(server.port, "GET", "/security/keys")
    keys = read_document(content, orjson.loads(content)["root"]["kid"], time())
    a, b, now = pair.document["token"], pair.document["peer_token"], time()
    assert cross_verify(a, b, keys, now).linked
    tokens.report("check of a pair of tokens, offline", lambda: cross_verify(a, b, keys, now))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, default=NODES, help=f"nodes of each kind (default {NODES})")
    help_of_rounds = f"1 to {ROUNDS} (default {ROUNDS})"
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, choices=range(1, ROUNDS + 1), help=help_of_rounds, metavar="N"
    )
    parser.add_argument("--no-stalls", action="store_true", help="leave out the ten seconds of stalls")


def run(given: argparse.Namespace) -> int:
    """Measure and print. Returns the exit code."""
    cores = machine.choose_cores()
    with tempfile.TemporaryDirectory(prefix="openred-bench-") as folder, machine.on_cores(cores.load):
        site = Site(Path(folder), Databases(Path(folder)), cores)
        with site.server(OURS) as server:
            server.open_keys()
            load = Load(server, given.nodes)
            try:
                costs(load, given.rounds)
                pair_check(load, server)
            finally:
                load.connection.close()
        if not given.no_stalls:
            uvloop.run(tokens.stalls())
    return 0

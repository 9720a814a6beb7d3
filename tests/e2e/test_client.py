"""Nodes with the client, and a real directory."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from openred_central.client import (
    Address,
    BlockingClient,
    Client,
    ClockError,
    ConnectionFailed,
    Connections,
    ProblemError,
    RetryLater,
    TrustedKeys,
    answer_challenge,
    check_answer,
    verify_pair,
)
from openred_central.clock import Clock, SystemClock
from openred_central.security.refusals import VerificationError
from openred_central.security.signing import PrivateKey
from openred_central.security.tokens.tokens import verify_token
from tests.support.running import Server, Start
from tests.support.serving import lasting_port


class WrongClock:
    """A clock that is off."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s

    def wall_s(self) -> float:
        return time.time() + self._ahead_s

    monotonic_s = staticmethod(time.monotonic)


class Watched(Connections):
    """Connections that remember what was proved how."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.proofs: list[str] = []

    async def ask(self, build: Callable[[], bytes], *, repeatable: bool = True) -> Any:
        def built() -> bytes:
            request = build()
            signed, session = b"\r\nSignature: " in request, b"\r\nAuthorization: OpenRed " in request
            self.proofs.append("signature" if signed else "session" if session else "nothing")
            return request

        return await super().ask(built, repeatable=repeatable)


def url_of(server: Server) -> str:
    host, port = server.address
    return f"http://{host}:{port}"


def node(
    connections: Connections | str, key: PrivateKey | None = None, clock: Clock | None = None, **options: Any
) -> Client:
    key = key or PrivateKey.generate_ed25519()
    return Client(connections, key, clock=clock or SystemClock(), entropy=os.urandom, **options)


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
async def test_a_node_lives_its_life(start: Start, kind: str) -> None:
    server = start(OPENRED_AUTH="strict", OPENRED_AUTHORITY="localhost")
    address = Address.of(f"http://localhost:{server.address[1]}")
    # As a proxy would pass it on.
    address = address._replace(authority="localhost", host=server.address[0])
    key = PrivateKey.generate_rsa() if kind == "rsa" else PrivateKey.generate_ed25519()

    connections = Watched(address, SystemClock())
    async with node(connections, key) as alice:
        registered = await alice.register("192.0.2.1", 7, services=["storage"])
        assert (registered["status"], registered["identity"]) == ("registered", "proven")
        connections.proofs.clear()
        for _ in range(3):
            assert (await alice.heartbeat())["current_state"] == "active"
        assert connections.proofs == ["session"] * 3
        await alice.heartbeat(metadata={"load": 1})
        assert (await alice.node())["metadata"] == {"load": 1}
        assert (await alice.leave())["status"] == "left"
        assert (await alice.heartbeat())["previous_state"] == "coma"
        assert (await alice.forget())["status"] == "forgotten"
        with pytest.raises(ProblemError) as caught:
            await alice.heartbeat()
        assert caught.value.error == "node_dead"


def test_a_node_lives_its_life_without_an_event_loop(start: Start) -> None:
    with BlockingClient(url_of(start()), PrivateKey.generate_ed25519()) as alice:
        assert alice.register("192.0.2.1", 7, services=["storage"])["identity"] == "proven"
        reports: Queue[Any] = Queue()
        beating = Thread(target=alice.keep_alive, args=(reports.put,))
        beating.start()
        assert reports.get(timeout=60)["current_state"] == "active"
        (found,) = alice.discover(["storage"])["nodes"]
        assert found["node_id"] == alice.node_id
        token = alice.tokens()["token"]
        assert verify_token(token, alice.key_set(), alice.now_s()).node_id == alice.node_id
        assert alice.forget()["status"] == "forgotten"
    beating.join(60)
    assert not beating.is_alive()


@pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
def test_one_client_serves_one_loop_after_the_other(start: Start, loops: str) -> None:
    """As people write it first: `asyncio.run` around each call, and nothing is closed."""
    program = """
import os, sys
from LOOPS import run
from openred_central.client import Client
from openred_central.clock import SystemClock

alice = Client(sys.argv[1], node_id="alice", clock=SystemClock(), entropy=os.urandom)
for _ in range(3):
    print(sorted(run(alice.stats()))[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program.replace("LOOPS", loops), url_of(start())],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.both_loops
@pytest.mark.parametrize("ended", [False, True])
async def test_unrequested_bytes_are_no_answer(ended: bool) -> None:
    """A proxy may send 408 while it waits, and somebody may slip an answer in."""
    unasked, connections = (
        b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"bad":1}',
        list[asyncio.StreamWriter](),
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"good":1}')
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with node(f"http://127.0.0.1:{port}") as alice:
        assert await alice.stats() == {"good": 1}
        # It lies in the socket when the next request is made.
        connections[0].write(unasked)
        if ended:
            connections[0].close()
        assert await alice.stats() == {"good": 1}
    assert len(connections) == 2
    listener.close()
    await listener.wait_closed()


@pytest.mark.both_loops
async def test_two_nodes_find_each_other(start: Start) -> None:
    server = start()

    async with node(url_of(server)) as alice, node(url_of(server)) as bob:
        await asyncio.gather(
            alice.register("192.0.2.1", 7, services=["storage"], region="eu"),
            bob.register("192.0.2.2", 8, services=["storage", "relay"]),
        )
        found = await alice.discover(["relay", "storage"], max_results=5)
        assert [(peer["node_id"], peer["port"]) for peer in found["nodes"]] == [(bob.node_id, 8)]
        found = await bob.discover(["storage"], region="eu")
        assert [peer["node_id"] for peer in found["nodes"]] == [alice.node_id]
        known = await bob.lookup([alice.node_id, "nobody"])
        assert (known["nodes"][0]["address"], known["missing"]) == ("192.0.2.1", ["nobody"])
        assert (await bob.stats())["directory"]["nodes"] == 2
        async with aclosing(bob.watch([alice.node_id])) as events:
            assert (await anext(events)).what == ("now",)
            await alice.heartbeat(address="192.0.2.9", port=9)
            moved = await anext(events)
        assert (moved.what, (moved.node or {})["address"]) == (("moved",), "192.0.2.9")


async def test_a_restart_of_the_directory_costs_a_signature(start: Start) -> None:
    port = str(lasting_port())
    server = start("--port", port)
    key = PrivateKey.generate_ed25519()
    clock = SystemClock()

    async def send_heartbeat(alice: Client, connections: Watched) -> list[str]:
        connections.proofs.clear()
        assert (await alice.heartbeat())["current_state"] == "active"
        return connections.proofs

    connections = Watched(Address.of(url_of(server)), clock)
    async with node(connections, key) as alice:
        await alice.register("192.0.2.1", 7)
        assert await send_heartbeat(alice, connections) == ["session"]
        server.stop()
        with pytest.raises(ConnectionFailed, match="connection refused: is the server running on http:"):
            await alice.heartbeat()
        start("--port", port)
        proofs = await send_heartbeat(alice, connections)
        # Twice where the directory's first second was not over.
        assert proofs[0] == "session"
        assert set(proofs[1:]) == {"signature"}
        assert await send_heartbeat(alice, connections) == ["session"]


@pytest.mark.parametrize("ahead_s", [-50_000.0, 50_000.0])
async def test_a_clock_that_is_off_by_hours_is_corrected(start: Start, ahead_s: float) -> None:
    server = start()

    connections = Watched(Address.of(url_of(server)), SystemClock())
    async with node(connections, clock=WrongClock(ahead_s)) as alice:
        await alice.register("192.0.2.1", 7)
        assert abs(alice.clock_offset_s + ahead_s) < 5
        # Twice, and once more where the directory's first second was not over.
        assert 2 <= len(connections.proofs) <= 3
        connections.proofs.clear()
        await alice.heartbeat(port=8)
        assert connections.proofs == ["signature"]


async def test_an_unset_clock_is_reported(start: Start) -> None:
    server = start()

    async with node(url_of(server), clock=WrongClock(-90 * 86_400.0)) as alice:
        with pytest.raises(ClockError, match="Set the clock of this machine"):
            await alice.register("192.0.2.1", 7)


async def test_keys_are_replaced_and_lost_keys_recovered(start: Start) -> None:
    server = start()
    first, second, third = (PrivateKey.generate_ed25519() for _ in range(3))

    async with node(url_of(server), first) as alice, node(url_of(server), first) as thief:
        await alice.register("192.0.2.1", 7)
        await alice.change_key(second, next_key=third.key_id)
        assert (await alice.heartbeat(port=8))["current_state"] == "active"
        with pytest.raises(ProblemError) as caught:
            await thief.heartbeat()
        assert (caught.value.status, caught.value.reason) == (401, "wrong_key")
        await alice.change_key(third, lost=True)
        assert (await alice.heartbeat(port=9))["current_state"] == "active"
        assert (await alice.node())["public_key_fingerprint"] == third.key_id


async def test_a_node_without_a_key_lives_by_its_claim(start: Start) -> None:
    server = start()

    bob = Client(url_of(server), None, clock=SystemClock(), entropy=os.urandom, node_id="bob")
    async with bob:
        await bob.register("192.0.2.1", 7, public_key="no key at all", discoverable=False)
        await bob.heartbeat()
        await bob.heartbeat(port=8)
        assert (await bob.node())["port"] == 8
        async with node(url_of(server)) as stranger:
            with pytest.raises(ProblemError, match="node_not_found"):
                await stranger.node("bob")
        await bob.change_key(PrivateKey.generate_ed25519())
        assert (await bob.heartbeat(port=9))["current_state"] == "active"
        assert (await bob.forget())["status"] == "forgotten"


@pytest.mark.parametrize("kinds", ["ed25519 rsa", "rsa ed25519"])
async def test_two_nodes_know_each_other_when_the_directory_is_gone(start: Start, kinds: str) -> None:
    server = start()
    make = {"ed25519": PrivateKey.generate_ed25519, "rsa": PrivateKey.generate_rsa}
    first, second = (make[kind]() for kind in kinds.split())
    clock = SystemClock()

    async with node(url_of(server), first) as alice, node(url_of(server), second) as bob:
        await alice.register("192.0.2.1", 7, services=["a"])
        await bob.register("192.0.2.2", 8, services=["b"])
        (peer,) = (await alice.discover(["b"]))["nodes"]
        granted, other = [await alice.tokens(peer["node_id"], purpose="chat") for _ in range(2)]
        keys = await alice.key_set()
        assert await alice.key_set() is keys
        assert alice.trusted.root_key_id
        bobs = TrustedKeys(alice.trusted.root_key_id)
        server.stop()
        # Bob never requested a key from the directory: alice passed the document on.
        bobs.take(alice.trusted.document, clock.wall_s())
        assert bobs.key_set is not None
        ours, theirs = granted["token"], granted["peer_token"]
        pair = verify_pair(theirs, ours, bobs.key_set, clock.wall_s())
        assert (pair.a.node_id, pair.b.node_id) == (bob.node_id, alice.node_id)
        for name, key in ((alice.node_id, first), (bob.node_id, second)):
            challenged = os.urandom(32)
            check_answer(pair, name, challenged, answer_challenge(pair, name, challenged, key))
        for mixed in ((ours, other["peer_token"]), (other["token"], theirs), (ours, ours)):
            with pytest.raises(VerificationError):
                verify_pair(*mixed, bobs.key_set, clock.wall_s())
        with pytest.raises(VerificationError, match="not the one that the token"):
            check_answer(
                pair, bob.node_id, challenged, answer_challenge(pair, bob.node_id, challenged, first)
            )


async def test_revoked_tokens_are_known_to_the_directory(start: Start) -> None:
    server = start()

    async with node(url_of(server)) as alice, node(url_of(server)) as bob:
        await alice.register("192.0.2.1", 7)
        await bob.register("192.0.2.2", 8)
        assert await alice.session()
        granted = await alice.tokens(bob.node_id)
        pair = granted["token"], granted["peer_token"]
        assert (await bob.verify(*pair))["linked"] is True
        assert (await bob.verify(granted["token_id"]))["valid"] is True
        with pytest.raises(ProblemError, match="forbidden"):
            await bob.revoke(granted["token_id"])
        await alice.revoke(granted["token_id"])
        revoked = await bob.verify(*pair)
        assert (revoked["valid"], revoked["reason"]) == (False, "token_a: it was revoked")
        alone = await alice.tokens(lifetime_s=60)
        await alice.revoke()
        assert (await bob.verify(alone["token"]))["valid"] is False
        assert (await alice.heartbeat())["current_state"] == "active"


async def test_limits_are_respected(start: Start) -> None:
    server = start(OPENRED_RATE_LIMIT_EXEMPT="")
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds <= 1.1:
            # The directory's first second is not over.
            await asyncio.sleep(seconds)
        else:
            pauses.append(seconds)
            raise asyncio.CancelledError

    async with node(url_of(server), sleep=sleep, wait_s_max=1.1) as alice:
        await alice.register("192.0.2.1", 7)
        await alice.heartbeat()
        await alice.heartbeat()
        with pytest.raises(RetryLater) as caught:
            await alice.heartbeat()
        assert caught.value.error == "rate_limited"
        assert 0 < caught.value.retry_after_s <= 60
        with pytest.raises(asyncio.CancelledError):
            await alice.keep_alive()
        assert 1 < pauses[0] <= 66


@pytest.mark.both_loops
async def test_a_unix_socket_leads_to_the_directory(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "openred.sock"
    start("--unix-socket", str(path))

    address = Address.of("http://localhost", str(path))
    async with node(Connections(address, SystemClock())) as alice:
        await alice.register("192.0.2.1", 7)
        await alice.heartbeat(port=8)
    missing = Address.of("http://localhost", str(tmp_path / "nothing.sock"))
    with pytest.raises(ConnectionFailed, match=r"there is no socket .*nothing\.sock"):
        await node(Connections(missing, SystemClock())).stats()


@pytest.mark.both_loops
async def test_servers_are_distinguished_by_their_certificate(
    start: Start, certificate: tuple[Path, Path]
) -> None:
    chain, key = certificate
    server = start("--tls-certificate", str(chain), "--tls-key", str(key))
    address = Address.of(f"https://localhost:{server.address[1]}")._replace(host=server.address[0])

    trusted = ssl.create_default_context(cafile=str(chain))
    trusted.check_hostname = False
    async with node(Connections(address, SystemClock(), tls=trusted)) as alice:
        await alice.register("192.0.2.1", 7)
        await alice.heartbeat()
    with pytest.raises(ConnectionFailed, match=r"the certificate of https://.* cannot be trusted"):
        await node(Connections(address, SystemClock())).stats()

"""What the load signs holds, and the session that a server grants is the one that is used from then on."""

from __future__ import annotations

import random
from collections import Counter
from time import time
from typing import NamedTuple

import orjson
import pytest

from benchmarks.load.kinds import sources
from benchmarks.load.proofs import SESSION_KINDS, SIGNED_KINDS, session_requests, signed_registrations
from benchmarks.load.requests import Target
from benchmarks.signers import ED25519, RSA, Signers, new_signers
from openred_central.micro_engine.wire.messages import Request
from openred_central.security.node_keys import load_node_key
from openred_central.security.signatures import Message, Proof, check_proof, read_signature

from .test_requests import read

NODES = 3
HOST = "127.0.0.1:80"


@pytest.fixture(scope="module")
def signers() -> Signers:
    return new_signers("load-ab-")


def target(signers: Signers, generator: int = 0, generators: int = 1, stock: int = 0) -> Target:
    return Target(HOST, NODES, (), "load-ab", random.Random(1), "/p", signers, generator, generators, stock)


class Sent(NamedTuple):
    """A request as the server reads it."""

    request: Request
    body: bytes

    def proof(self, public_key: str) -> Proof:
        """What it proves by that key. Raises `ProofError`."""
        request = self.request
        message = Message(
            request.method, request.authority, request.path, request.query, self.body, request.headers.fields
        )
        return check_proof(read_signature(message), message, load_node_key(public_key).spki)


def sent(data: bytes) -> Sent:
    return Sent(*read(data))


@pytest.mark.parametrize("kind", SIGNED_KINDS)
@pytest.mark.parametrize("stock", [0, 4])
def test_all_nodes_sign_in_turn_and_nothing_is_signed_twice(kind: str, stock: int, signers: Signers) -> None:
    key, _ = SIGNED_KINDS[kind]
    source = sources([kind], target(signers, stock=stock), {})[kind]
    nonces, senders = set(), Counter[str]()
    for _ in range(2 * NODES):
        each = sent(source(0))
        node_id = each.request.path.removeprefix("/p/heartbeat/")
        number = next(n for n in range(NODES) if signers.node_id(key, n) == node_id)
        proof = each.proof(signers.document(key, number)["public_key"])
        assert abs(proof.created - time()) < 60
        nonces.add(proof.nonce)
        senders[node_id] += 1
    assert len(nonces) == 2 * NODES
    assert set(senders.values()) == {2}


def test_generators_begin_with_different_nodes(signers: Signers) -> None:
    paths = {
        sent(
            sources(["signed_ed25519"], target(signers, number, NODES), {})["signed_ed25519"](0)
        ).request.path
        for number in range(NODES)
    }
    assert len(paths) == NODES


@pytest.mark.parametrize("kind", [ED25519, RSA])
def test_registrations_are_signed_with_the_key_that_they_tell(kind: str, signers: Signers) -> None:
    names = []
    for data in signed_registrations(target(signers), kind):
        each = sent(data)
        told = orjson.loads(each.body)
        each.proof(told["public_key"])
        names.append(told["node_id"])
    assert names == [signers.node_id(kind, number) for number in range(NODES)]


def test_a_node_asks_for_one_session_however_many_connections_are_its_own(signers: Signers) -> None:
    asked = [sent(data) for data in session_requests(target(signers, 1, 2), 5)]
    told = [orjson.loads(each.body) for each in asked]
    # Connections 0 to 4 of the second of two generators are 1, 3, 5, 7 and 9 of all.
    assert [each["node_id"] for each in told] == [signers.node_id(ED25519, number) for number in (1, 0, 2)]
    assert {each["purpose"] for each in told} == {"session"}
    asked[0].proof(signers.document(ED25519, 1)["public_key"])


@pytest.mark.parametrize("kind", SESSION_KINDS)
def test_a_connection_is_of_one_node_and_uses_the_last_session_it_was_granted(
    kind: str, signers: Signers
) -> None:
    source = SESSION_KINDS[kind](target(signers), {0: "or3s.a", 1: "or3s.b"})
    first, other = source(0), source(1)
    assert sent(first).request.headers.get("authorization") == "OpenRed or3s.a"
    assert sent(other).request.headers.get("authorization") == "OpenRed or3s.b"
    source.heard(0, b'{"status":"heartbeat_received"}')
    source.heard(0, b'{"status":"heartbeat_received","session":"or3s.a"}')
    assert source(0) is first
    source.heard(0, b'{"status":"heartbeat_received","session":"or3s.c"}')
    assert source(0) == first.replace(b"or3s.a", b"or3s.c")
    assert source(1) is other


def test_a_pair_is_for_two_nodes(signers: Signers) -> None:
    source = SESSION_KINDS["token_pair"](target(signers), {0: "s", 1: "s", 2: "s"})
    for connection in range(NODES):
        told = orjson.loads(sent(source(connection)).body)
        assert told["node_id"] == signers.node_id(ED25519, connection)
        assert told["peer_id"] != told["node_id"]

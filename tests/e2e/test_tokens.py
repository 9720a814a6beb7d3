"""Two nodes on one machine find each other by the directory, and then know each other without it."""

from __future__ import annotations

import base64
import os
import random
import time
from itertools import product
from typing import Any, NamedTuple

import orjson
import pytest

from openred_central.encoding import spki_of
from openred_central.security.directory_keys.keyset import KeySet, read_document
from openred_central.security.node_keys import verify
from openred_central.security.refusals import VerificationError
from openred_central.security.signing import PrivateKey
from openred_central.security.tokens.holder import challenge, check_holder, prove
from openred_central.security.tokens.link import Pair, cross_verify
from tests.support.running import Client, Server, Start, until
from tests.support.serving import lasting_port
from tests.support.signing import Node, wait_for_the_next_second

BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CHANGES = 2_000
SIGNED_CHANGES = 1_000


class Known(NamedTuple):
    """All that two nodes hold when the directory is gone."""

    alice: Node
    bob: Node
    pairs: list[dict[str, Any]]
    keys: KeySet


def introduce(server: Server, key: PrivateKey) -> Known:
    """Let two nodes register, find each other, and fetch two pairs of tokens, and the keys to check them."""
    wait_for_the_next_second()
    alice, bob = Node(server, "alice", key), Node(server, "bob")
    assert alice.register(services=["storage"]).status == 201
    assert bob.register(services=["relay"], port=8_002).status == 201
    (found,) = alice.client.ask("GET", "/discover?services=relay").document["nodes"]
    assert (found["node_id"], found["port"], found["identity"]) == ("bob", 8_002, "proven")
    (found,) = bob.client.ask("GET", "/discover?services=storage").document["nodes"]
    assert found["node_id"] == "alice"
    until(lambda: alice.client.ask("GET", "/security/keys").status == 200, "the keys of a first start")
    asked = {"node_id": "alice", "peer_id": "bob"}
    pairs = [alice.ask("POST", "/security/token", asked).document for _ in range(2)]
    document = alice.client.ask("GET", "/security/keys").document
    # A peer pins this once and for all.
    root = document["root"]["kid"]
    return Known(alice, bob, pairs, read_document(orjson.dumps(document), root, time.time()))


def linked(known: Known, a: str, b: str) -> Pair | None:
    return cross_verify(a, b, known.keys, time.time()).pair


@pytest.mark.parametrize("key", [PrivateKey.generate_ed25519(), PrivateKey.generate_rsa()], ids=["ed", "rsa"])
def test_two_nodes_know_each_other_with_the_directory_gone(start: Start, key: PrivateKey, seed: int) -> None:
    server = start()
    known = introduce(server, key)
    with Client(server.address) as client:
        first = known.pairs[0]
        told = client.ask(
            "POST", "/security/verify", {"token_a": first["token"], "token_b": first["peer_token"]}
        )
        assert (told.document["valid"], told.document["linked"]) == (True, True)
    for node in (known.alice, known.bob):
        node.close()
    server.stop()
    texts = [pair[name] for pair, name in product(known.pairs, ("token", "peer_token"))]
    belong = {(0, 1), (1, 0), (2, 3), (3, 2)}
    for i, j in product(range(4), repeat=2):
        assert (linked(known, texts[i], texts[j]) is not None) == ((i, j) in belong), (i, j)
    check_holders(known)
    check_altered(known, random.Random(seed))


def check_holders(known: Known) -> None:
    """Either node proves to the other that it is the one the token names, and nobody else can."""
    pair = linked(known, known.pairs[0]["token"], known.pairs[0]["peer_token"])
    other = linked(known, known.pairs[1]["peer_token"], known.pairs[1]["token"])
    assert pair is not None
    assert other is not None
    thief = PrivateKey.generate_ed25519()
    for node in (known.alice, known.bob):
        sent = challenge(os.urandom)
        proof = prove(pair, node.node_id, sent, spki_of(node.key.public_text), node.key.sign)
        check_holder(pair, node.node_id, sent, proof, verify)
        with pytest.raises(VerificationError):
            check_holder(pair, node.node_id, challenge(os.urandom), proof, verify)
        with pytest.raises(VerificationError):
            check_holder(other, node.node_id, sent, proof, verify)
        stolen = prove(pair, node.node_id, sent, spki_of(thief.public_text), thief.sign)
        with pytest.raises(VerificationError):
            check_holder(pair, node.node_id, sent, stolen, verify)
        with pytest.raises(VerificationError):
            check_holder(pair, node.node_id, sent, proof._replace(signature=stolen.signature), verify)


def check_altered(known: Known, chance: random.Random) -> None:
    """No token with one other character is accepted beside its counterpart."""
    texts = known.pairs[0]["token"], known.pairs[0]["peer_token"]
    for number in range(CHANGES):
        altered = list(texts)
        altered[number % 2] = one_character_changed(texts[number % 2], chance, BASE64URL + ".")
        assert linked(known, altered[0], altered[1]) is None, altered


def one_character_changed(text: str, chance: random.Random, alphabet: str) -> str:
    place = chance.randrange(len(text))
    other = chance.choice([one for one in alphabet if one != text[place]])
    return text[:place] + other + text[place + 1 :]


def test_a_changed_signature_or_digest_is_refused(start: Start, seed: int) -> None:
    server, chance = start(), random.Random(seed)
    wait_for_the_next_second()
    alice = Node(server, "alice")
    assert alice.register().status == 201
    body = b'{"port":9001}'
    printable = "".join(map(chr, range(33, 127)))
    for number in range(SIGNED_CHANGES):
        if number % 250 == 0:
            headers = alice.headers("POST", "/heartbeat/alice", body)
        name = chance.choice(["Signature", "Signature_Input", "Content_Digest"])
        altered = {**headers, name: one_character_changed(headers[name], chance, printable)}
        reply = alice.client.ask("POST", "/heartbeat/alice", body, **altered)
        assert reply.status in (400, 401), (altered, reply)
    assert alice.client.ask("GET", "/nodes/alice").document["port"] == 8_001
    # As it was made, it is accepted: once.
    assert [alice.client.ask("POST", "/heartbeat/alice", body, **headers).status for _ in range(2)] == [
        200,
        401,
    ]
    assert alice.client.ask("GET", "/nodes/alice").document["port"] == 9_001
    alice.close()


def test_signatures_from_before_a_restart_are_refused(start: Start) -> None:
    # The signature names this authority after the restart as well.
    port = str(lasting_port())
    server = start("--port", port)
    wait_for_the_next_second()
    alice = Node(server, "alice")
    assert alice.register().status == 201
    session = alice.ask("POST", "/heartbeat/alice").document["session"]
    headers = alice.headers("POST", "/heartbeat/alice")
    alice.close()
    server.stop()
    server = start("--port", port)
    wait_for_the_next_second()
    with Client(server.address) as client:
        reply = client.ask("POST", "/heartbeat/alice", **headers)
        assert (reply.status, reply.document["reason"]) == (401, "signature_expired")
        reply = client.ask("POST", "/heartbeat/alice", Authorization=f"OpenRed {session}")
        assert (reply.status, reply.document["reason"]) == (401, "bad_session")
    again = Node(server, "alice", alice.key)
    assert again.ask("POST", "/heartbeat/alice").status == 200
    again.close()


def test_the_public_key_of_a_reply_is_in_the_key_set(start: Start) -> None:
    known = introduce(start(), PrivateKey.generate_ed25519())
    shown = base64.b64decode(known.pairs[0]["public_verification_key"]).decode()
    assert shown in {published.key.pem() for published in known.keys.keys}
    for node in (known.alice, known.bob):
        node.close()

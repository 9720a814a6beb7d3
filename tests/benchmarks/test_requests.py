"""A mix is read as meant or refused; the load sends whole requests of registered nodes, with valid proofs."""

from __future__ import annotations

import random
import re
from collections import Counter
from time import time
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.requests import (
    KINDS,
    SHARE_MAX,
    LoadError,
    LoadOptions,
    Source,
    WithSession,
    deal,
    parse_mix,
)
from benchmarks.population import ATTENDED_S, REGISTERED_AT, node_id, records
from benchmarks.signers import ED25519, RSA, Signers, new_signers
from benchmarks.suite.inprocess import columns_of
from openred_central.api.discovering import read_query
from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Request
from openred_central.micro_engine.wire.parser import RequestParser
from openred_central.security.node_keys import load_node_key
from openred_central.security.signatures import Message, Proof, check_proof, read_signature
from tests.support.options import directory_options, lifecycle_options, mass_silence_options

NODES = 20
SIGNING = 3
SHARES = st.dictionaries(st.sampled_from(sorted(KINDS)), st.integers(1, 100), min_size=1)


class Sent(NamedTuple):
    """A request as the server reads it."""

    request: Request
    body: bytes

    def proof(self, public_key: str) -> Proof:
        """Check the signature by that key. Raises `ProofError`."""
        request = self.request
        message = Message(
            request.method, request.authority, request.path, request.query, self.body, request.headers.fields
        )
        return check_proof(read_signature(message), message, load_node_key(public_key).spki)


def read(data: bytes) -> Sent:
    """Return the one request in `data`."""
    parser = RequestParser(EngineLimits())
    parser.feed(data)
    request = parser.read_head()
    assert request is not None
    body = parser.read_body(10_000) if request.content_length else b""
    assert body is not None
    assert parser.idle
    return Sent(request, body)


def options(kind: str = "heartbeat", **others: object) -> LoadOptions:
    given = {"nodes": NODES, "services": ("index", "storage"), "run": "load-ab", **others}
    return LoadOptions("127.0.0.1", 80, {kind: 1}, **given)  # type: ignore[arg-type]


def source(kind: str, **others: object) -> Source:
    return KINDS[kind].source(options(kind, **others))


@pytest.fixture(scope="module")
def signers() -> Signers:
    return new_signers("load-ab-")


def test_shares_of_a_mix_are_read() -> None:
    shares = {"heartbeat": 80, "discover": 15, "register": 5}
    assert parse_mix("heartbeat=80, discover = 15,register=5") == shares
    assert parse_mix("discover") == {"discover": 1}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is no kind of request; the kinds are heartbeat, own_heartbeat, proxied"),
        ("lunch=1", "'lunch' is no kind"),
        ("heartbeat=1,heartbeat=2", "heartbeat stands in the mix twice"),
        ("heartbeat=", "the share of heartbeat is ''"),
        ("heartbeat=0", "a whole number, 1 to 10000"),
        ("heartbeat=-1", "the share of heartbeat is '-1'"),
        ("heartbeat=1.5", "the share of heartbeat is '1.5'"),
        ("heartbeat=²", "the share of heartbeat is '²'"),
        (f"heartbeat={SHARE_MAX + 1}", "the share of heartbeat"),
    ],
)
def test_wrong_mix_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(LoadError, match=complaint):
        parse_mix(text)


@given(SHARES, st.integers())
def test_round_holds_each_kind_as_often_as_its_share(shares: dict[str, int], seed: int) -> None:
    assert parse_mix(",".join(f"{kind}={share}" for kind, share in shares.items())) == shares
    assert Counter(deal(shares, random.Random(seed))) == shares


@pytest.mark.parametrize("kind", [kind for kind, each in KINDS.items() if not each.key])
def test_every_request_is_one_whole_request(kind: str) -> None:
    send = source(kind, prefix="/p")
    for _ in range(3):
        request, _ = read(send(0))
        assert request.path.startswith("/p/")
        assert request.authority == "127.0.0.1:80"


def test_heartbeats_and_look_ups_are_of_registered_nodes(seed: int) -> None:
    known = {node_id(number) for number in range(NODES)}
    for kind, path in (("heartbeat", "/heartbeat/"), ("look_up", "/nodes/")):
        send = source(kind, seed=seed)
        assert {read(send(0)).request.path.removeprefix(path) for _ in range(1_000)} == known


def test_connection_sends_own_heartbeats_of_one_node() -> None:
    send = source("own_heartbeat", generator=1, generators=2)
    paths = [read(send(connection)).request.path for connection in (0, 1, 0, 1, NODES // 2)]
    first, second = (f"/heartbeat/{node_id(number)}" for number in (1, 3))
    assert paths == [first, second, first, second, first]


def test_nginx_passes_heartbeats_on_in_its_own_order() -> None:
    send = source("proxied")
    sent = [send(0) for _ in range(200)]
    for data in sent:
        # As captured from nginx with the documented configuration and our client, but for Host.
        match = re.fullmatch(
            rb"POST /heartbeat/node-\d{7}(\d{3}) HTTP/1\.1\r\nHost: 127\.0\.0\.1:80\r\n"
            rb"X-Forwarded-For: 192\.0\.0\.(\d+)\r\nX-Request-Id: [0-9a-f]{32}\r\nContent-Length: 0\r\n"
            rb"User-Agent: openred-central/[\d.]+\r\nAccept: application/json\r\n\r\n",
            data,
        )
        assert match
        assert int(match[1]) == int(match[2]) < NODES
    assert len({read(data).request.headers.get("x-request-id") for data in sent}) == len(sent)


def test_varied_discoveries_are_answered_by_fifty_nodes() -> None:
    options = (directory_options(), lifecycle_options(), mass_silence_options())
    directory = Directory(*options, random.Random(1).random)
    directory.saving.restore_records(map(columns_of, records(1_000)))
    now = Now(ATTENDED_S, REGISTERED_AT, 0.0)
    send = source("discover_varied")
    questions = [read(send(0)).request.query for _ in range(200)]
    assert len(set(questions)) > 150
    for question in questions:
        query, ignored = read_query(question)
        found = directory.discover(query, now).step()
        assert found is not None, question
        assert (len(found.slots), found.degraded, ignored) == (50, False, ()), question


def test_each_registration_is_of_another_node() -> None:
    send = source("register", generator=2)
    names = [orjson.loads(read(send(0)).body)["node_id"] for _ in range(3)]
    assert names == ["load-ab-2-0000000", "load-ab-2-0000001", "load-ab-2-0000002"]


def test_discovery_asks_for_all_services() -> None:
    assert read(source("discover")(0)).request.query == "services=index,storage"


def test_nodes_are_registered_under_the_ids_in_requests() -> None:
    bodies = [orjson.loads(read(request).body) for request in options().registrations()]
    assert [body["node_id"] for body in bodies] == [node_id(number) for number in range(NODES)]
    assert list(options("root").registrations()) == []


@pytest.mark.parametrize(("kind", "key"), [("signed_ed25519", ED25519), ("signed_rsa", RSA)])
@pytest.mark.parametrize("stock", [0, 4])
def test_all_nodes_sign_in_turn_with_new_nonces(kind: str, key: str, stock: int, signers: Signers) -> None:
    send = source(kind, nodes=SIGNING, signers=signers, stock=stock, prefix="/p")
    nonces, senders = set(), Counter[str]()
    for _ in range(2 * SIGNING):
        sent = read(send(0))
        name = sent.request.path.removeprefix("/p/heartbeat/")
        number = next(n for n in range(SIGNING) if signers.node_id(key, n) == name)
        proof = sent.proof(signers.document(key, number)["public_key"])
        assert abs(proof.created - time()) < 60
        nonces.add(proof.nonce)
        senders[name] += 1
    assert len(nonces) == 2 * SIGNING
    assert set(senders.values()) == {2}


def test_generators_start_with_different_nodes(signers: Signers) -> None:
    given = {"nodes": SIGNING, "generators": SIGNING, "signers": signers}
    sent = [read(source("signed_ed25519", generator=n, **given)(0)) for n in range(SIGNING)]
    assert len({each.request.path for each in sent}) == SIGNING


@pytest.mark.parametrize(("kind", "key"), [("signed_ed25519", ED25519), ("signed_rsa", RSA)])
def test_registrations_are_signed_with_the_registered_key(kind: str, key: str, signers: Signers) -> None:
    names = []
    for data in options(kind, nodes=SIGNING, signers=signers).registrations():
        sent = read(data)
        document = orjson.loads(sent.body)
        sent.proof(document["public_key"])
        names.append(document["node_id"])
    assert names == [signers.node_id(key, number) for number in range(SIGNING)]


def test_node_asks_for_one_session_for_all_its_connections(signers: Signers) -> None:
    given = options("session", nodes=SIGNING, signers=signers, generator=1, generators=2, connections=5)
    sent = [read(data) for data in given.session_requests()]
    asked = [orjson.loads(each.body) for each in sent]
    # Connections 0 to 4 of the second of two generators are 1, 3, 5, 7 and 9 of all.
    assert [each["node_id"] for each in asked] == [signers.node_id(ED25519, number) for number in (1, 0, 2)]
    assert {each["purpose"] for each in asked} == {"session"}
    sent[0].proof(signers.document(ED25519, 1)["public_key"])


@pytest.mark.parametrize("kind", [kind for kind, each in KINDS.items() if each.with_session])
def test_connection_uses_the_last_session_it_was_granted(kind: str, signers: Signers) -> None:
    send = source(kind, nodes=SIGNING, signers=signers, sessions={0: "or3s.a", 1: "or3s.b"})
    assert isinstance(send, WithSession)
    first, other = send(0), send(1)
    assert read(first).request.headers.get("authorization") == "OpenRed or3s.a"
    assert read(other).request.headers.get("authorization") == "OpenRed or3s.b"
    send.take_answer(0, b'{"status":"heartbeat_received"}')
    send.take_answer(0, b'{"status":"heartbeat_received","session":"or3s.a"}')
    assert send(0) is first
    send.take_answer(0, b'{"status":"heartbeat_received","session":"or3s.c"}')
    assert send(0) == first.replace(b"or3s.a", b"or3s.c")
    assert send(1) is other


def test_pair_of_tokens_is_for_two_nodes(signers: Signers) -> None:
    send = source("token_pair", nodes=SIGNING, signers=signers, sessions=dict.fromkeys(range(SIGNING), "s"))
    for connection in range(SIGNING):
        asked = orjson.loads(read(send(connection)).body)
        assert asked["node_id"] == signers.node_id(ED25519, connection)
        assert asked["peer_id"] != asked["node_id"]

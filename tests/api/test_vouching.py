"""``POST /security/verify`` and ``/revoke``: revoked tokens, and those of former keys and removed nodes."""

from __future__ import annotations

import random

import orjson
import pytest

from openred_central.security.directory_keys.keyset import read_document
from openred_central.security.signing import PrivateKey
from openred_central.storage.store import StoreState
from tests.support.minting import root_key
from tests.support.options import limit_options
from tests.support.world import NODE, Reply, World, assert_problem

from .caller.test_proving import rotate
from .test_granting import ALICE, BOB, ask, keys_of, world_of_two

VERIFY = "/security/verify"
REVOKE = "/security/revoke"


def verified(world: World, a: str, b: str) -> tuple[bool, bool]:
    document = world.call("POST", VERIFY, {"token_a": a, "token_b": b}).document
    assert document["linked"] or document["reason"], document
    return document["valid"], document["linked"]


def revoke(world: World, key: PrivateKey = ALICE, **body: object) -> Reply:
    return world.signed(key, "POST", REVOKE, {"node_id": "alice", **body})


def test_a_pair_is_verified_whole_by_ids_and_reversed() -> None:
    world = world_of_two()
    pair = ask(world, peer_id="bob").document
    for a, b in (("token", "peer_token"), ("token_id", "peer_token_id"), ("token", "peer_token_id")):
        assert verified(world, pair[a], pair[b]) == (True, True)
        assert verified(world, pair[b], pair[a]) == (True, True)


def test_tokens_of_two_requests_do_not_belong_together() -> None:
    world = world_of_two()
    first, second = ask(world, peer_id="bob").document, ask(world, peer_id="bob").document
    for a, b in (("token", "peer_token"), ("token_id", "peer_token_id"), ("token", "peer_token_id")):
        assert verified(world, first[a], second[b]) == (True, False)
    assert verified(world, first["token"], first["token"]) == (True, False)
    assert verified(world, first["token_id"], first["token_id"]) == (True, False)


def test_a_single_token_is_verified_alone() -> None:
    world = world_of_two()
    token = ask(world).document["token"]
    reply = world.call("POST", VERIFY, {"token": token})
    assert (reply.document["valid"], reply.document["linked"]) == (True, False)
    assert reply.document["tokens"][0]["node_state"] == "active"
    world.clock.advance(301)
    assert not world.call("POST", VERIFY, {"token": token}).document["valid"]


def test_a_revoked_token_counts_no_more_and_its_siblings_do() -> None:
    world = world_of_two()
    first, second = ask(world, peer_id="bob").document, ask(world, peer_id="bob").document
    assert revoke(world, token_id=first["token_id"]).document["durable"]
    assert verified(world, first["token"], first["peer_token"]) == (False, False)
    assert verified(world, second["token"], second["peer_token"]) == (True, True)


def test_all_is_revoked_at_once_for_good() -> None:
    world = world_of_two()
    pair = ask(world, peer_id="bob").document
    session = ask(world, purpose="session").document["session"]
    assert revoke(world, all=True).status == 200
    assert verified(world, pair["token"], pair["peer_token"]) == (False, False)
    assert world.call("POST", "/heartbeat/alice", authorization=f"OpenRed {session}").status == 401
    fresh = ask(world, peer_id="bob").document
    assert verified(world, fresh["token"], fresh["peer_token"]) == (True, True)


def test_a_key_change_or_departure_voids_tokens() -> None:
    world = World(mint=world_of_two().api.mint)
    body = {"node_id": "node-1", "address": "192.0.2.1", "port": 1, "public_key": ALICE.public_text}
    assert world.signed(ALICE, "POST", "/register", body).status == 201
    token = world.signed(ALICE, "POST", "/security/token", {"node_id": "node-1"}).document["token"]
    assert rotate(world, ALICE, BOB).status == 200
    assert not world.call("POST", VERIFY, {"token": token}).document["valid"]
    token = world.signed(BOB, "POST", "/security/token", {"node_id": "node-1"}).document["token"]
    assert world.call("POST", VERIFY, {"token": token}).document["valid"]
    world.signed(BOB, "DELETE", "/nodes/node-1", {"mode": "forget"})
    assert not world.call("POST", VERIFY, {"token": token}).document["valid"]


def test_revocations_survive_a_new_registration() -> None:
    world = world_of_two()
    pair = ask(world, peer_id="bob").document
    session = ask(world, purpose="session").document["session"]
    assert revoke(world, all=True).status == 200
    world.signed(ALICE, "DELETE", "/nodes/alice", {"mode": "forget"})
    world.clock.advance(1)
    body = {**NODE, "node_id": "alice", "public_key": ALICE.public_text}
    assert world.signed(ALICE, "POST", "/register", body).status == 201
    assert verified(world, pair["token"], pair["peer_token"]) == (False, False)
    assert verified(world, pair["token_id"], pair["peer_token_id"]) == (False, False)
    assert world.call("POST", "/heartbeat/alice", authorization=f"OpenRed {session}").status == 401
    fresh = ask(world, peer_id="bob").document
    assert verified(world, fresh["token"], fresh["peer_token"]) == (True, True)


def test_forged_tokens_are_checked_thirty_times_a_minute() -> None:
    world = world_of_two(limits=limit_options())
    token = ask(world).document["token"]
    forged = f"{token[:-8]}{'A' * 6}{token[-2:]}"
    statuses = [world.call("POST", VERIFY, {"token": forged}).status for _ in range(40)]
    assert statuses == [200] * 30 + [429] * 10
    assert world.call("POST", VERIFY, {"token": token}, peer="203.0.113.9").document["valid"]


def test_only_the_node_of_a_token_revokes_it() -> None:
    world = world_of_two()
    pair = ask(world, peer_id="bob").document
    assert_problem(revoke(world, BOB, token_id=pair["token_id"]), 401, "proof_required")
    assert_problem(revoke(world, token_id=pair["peer_token_id"]), 403, "forbidden")
    assert world.call("POST", REVOKE, {"node_id": "alice", "all": True}).status == 401
    assert_problem(revoke(world, token_id="A" * 22), 404, "token_not_found")
    assert_problem(revoke(world), 400, "bad_request", fields=["token_id"])
    assert verified(world, pair["token"], pair["peer_token"]) == (True, True)


def test_a_token_no_longer_remembered_is_revoked_whole() -> None:
    world = world_of_two()
    document = ask(world).document
    world.api.recent_tokens.sweep(world.clock.wall_s() + 10_000)
    assert_problem(revoke(world, token_id=document["token_id"]), 404, "token_not_found")
    assert revoke(world, token=document["token"]).status == 200
    assert not world.call("POST", VERIFY, {"token": document["token"]}).document["valid"]


def test_no_token_is_revoked_without_a_store() -> None:
    world = world_of_two()
    token_id = ask(world).document["token_id"]
    world.store_state = StoreState.DETACHED
    assert_problem(revoke(world, token_id=token_id), 503, "store_unavailable")
    world.store_state = StoreState.OK
    world.durable = False
    reply = revoke(world, token_id=token_id)
    assert (reply.status, reply.document["durable"]) == (202, False)


def test_the_key_set_is_signed_and_asked_for_once() -> None:
    world = world_of_two()
    reply = world.start(world.request("GET", "/security/keys"))
    with pytest.raises(StopIteration) as answered:
        reply.send(None)
    response = answered.value.value
    keys = read_document(response.body, root_key().public.key_id, world.clock.wall_s())
    assert keys.encode() == keys_of(world).encode()
    headers = dict(response.headers)
    assert headers["Cache-Control"] == "public, max-age=3600"
    for known, status in (
        (headers["ETag"], 304),
        (f'"x", W/{headers["ETag"]}', 304),
        ("*", 304),
        ('"x"', 200),
    ):
        again = world.start(world.request("GET", "/security/keys", if_none_match=known))
        with pytest.raises(StopIteration) as answered:
            again.send(None)
        assert answered.value.value.status == status


def test_without_keys_the_answer_says_when_to_retry() -> None:
    world = World()
    assert_problem(world.call("GET", "/security/keys"), 503, "tokens_unavailable")
    assert_problem(world.call("POST", VERIFY, {"token": "A" * 22}), 503, "tokens_unavailable")
    assert world.call("GET", "/").document["quantum"] == {"root": None, "pq": False}
    assert world_of_two().call("GET", "/").document["quantum"] == {"root": "rsa3072-pss-sha256", "pq": False}


def test_no_token_survives_a_change_of_one_character(seed: int) -> None:
    world, chance = world_of_two(), random.Random(seed)
    pair = ask(world, peer_id="bob").document
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    for _ in range(1_000):
        name = chance.choice(["token", "peer_token"])
        text = pair[name]
        place = chance.randrange(len(text))
        letter = chance.choice(letters.replace(text[place], ""))
        changed = {**pair, name: f"{text[:place]}{letter}{text[place + 1 :]}"}
        body = {"token_a": changed["token"], "token_b": changed["peer_token"]}
        reply = world.call("POST", VERIFY, body)
        assert reply.status == 400 or not reply.document["valid"], orjson.dumps(body)


def test_every_wrong_token_is_named_whichever_counts() -> None:
    world = world_of_two()
    reply = world.call("POST", VERIFY, {"token": "A" * 22, "token_a": "no token"})
    assert_problem(reply, 400, "bad_request", fields=["token_a"])
    assert_problem(world.call("POST", VERIFY, {"token_a": "A" * 22}), 400, "bad_request", fields=["token_b"])
    body = {"node_id": "alice", "all": True, "token_id": "A" * 22, "token": "no token"}
    reply = world.call("POST", "/security/revoke", body)
    assert_problem(reply, 400, "bad_request", fields=["token"])

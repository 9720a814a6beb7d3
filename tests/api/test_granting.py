"""``POST /security/token``: sessions, tokens and pairs of tokens."""

from __future__ import annotations

from typing import Any

import pytest

from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import PROVEN
from openred_central.security.signing import PrivateKey
from openred_central.security.tokens.link import cross_verify
from openred_central.security.tokens.tokens import verify_token
from tests.support.minting import Here
from tests.support.options import limit_options
from tests.support.world import DAY_S, NODE, Reply, World, assert_problem

ALICE = PrivateKey.generate_ed25519()
BOB = PrivateKey.generate_ed25519()
TOKEN = "/security/token"


def world_of_two(**options: Any) -> World:
    """Make a world in which ``alice`` and ``bob`` are bound to their keys, and tokens are signed."""
    world = World(mint=Here(), **options)
    for node_id, key in (("alice", ALICE), ("bob", BOB)):
        body = {**NODE, "node_id": node_id, "public_key": key.public_text}
        assert world.signed(key, "POST", "/register", body).status == 201
    return world


def ask(world: World, key: PrivateKey = ALICE, **body: Any) -> Reply:
    return world.signed(key, "POST", TOKEN, {"node_id": "alice", **body})


def keys_of(world: World) -> Any:
    publication = world.api.mint.publication
    assert publication is not None
    return publication.keyset


def state_of(world: World, node_id: str) -> State:
    slot = world.directory.nodes.registry.slot_of(node_id)
    assert slot is not None
    return world.directory.nodes.registry.state(slot)


def test_a_pair_is_two_tokens_that_belong_together() -> None:
    world = world_of_two()
    document = ask(world, peer_id="bob").document
    result = cross_verify(document["token"], document["peer_token"], keys_of(world), world.clock.wall_s())
    assert result.linked, result.reason
    assert result.pair is not None
    assert (result.pair.a.node_id, result.pair.a.key_id) == ("alice", ALICE.key_id)
    assert (result.pair.b.node_id, result.pair.b.key_id) == ("bob", BOB.key_id)
    assert document["mathematical_link"] == result.pair.a.link
    assert document["token_id"] == result.pair.a.token_id
    assert document["peer_token_id"] == result.pair.b.token_id


def test_a_token_alone_is_for_anybody_and_has_no_link() -> None:
    world = world_of_two()
    document = ask(world).document
    token = verify_token(document["token"], keys_of(world), world.clock.wall_s(), audience="anybody")
    assert (token.audience, token.link, document["mathematical_link"]) == ("*", None, None)
    assert "peer_token" not in document


def test_the_answer_keeps_the_names_of_earlier_servers() -> None:
    names = {
        "token_id",
        "expires_at",
        "public_verification_key",
        "mathematical_link",
        "usage",
        "token",
        "kid",
    }
    assert names <= ask(world_of_two()).document.keys()


@pytest.mark.parametrize(("asked", "given"), [(None, 300), (1, 30), (90, 90), (1e9, 3_600), (0.5, 30)])
def test_a_lifetime_is_clamped_to_its_limits(asked: float | None, given: int) -> None:
    world = world_of_two()
    body = {} if asked is None else {"lifetime_s": asked}
    token = verify_token(ask(world, **body).document["token"], keys_of(world), world.clock.wall_s())
    assert token.expires_at - token.issued_at == given


def test_a_session_is_enough_for_tokens() -> None:
    world = world_of_two()
    session = ask(world, purpose="session").document["session"]
    reply = world.call(
        "POST", TOKEN, {"node_id": "alice", "peer_id": "bob"}, authorization=f"OpenRed {session}"
    )
    assert reply.status == 200
    again = {"node_id": "alice", "purpose": "session"}
    assert_problem(
        world.call("POST", TOKEN, again, authorization=f"OpenRed {session}"), 401, "proof_required"
    )


@pytest.mark.parametrize("days", [181, 300])
def test_only_a_proved_request_revives_the_node(days: int) -> None:
    world = world_of_two()
    world.register(node_id="carol")
    world.wait(days * DAY_S)
    reply = world.call("POST", TOKEN, {"node_id": "carol"})
    assert_problem(reply, 403, "forbidden")
    assert state_of(world, "carol") is not State.ACTIVE
    assert ask(world).status == 200
    assert state_of(world, "alice") is State.ACTIVE


def test_a_binding_signature_is_durable_only_once_stored() -> None:
    for durable, status in ((True, 200), (False, 202)):
        world = World(mint=Here())
        world.register(node_id="alice", public_key=ALICE.public_text)
        world.durable = durable
        reply = ask(world)
        assert (reply.status, reply.document["durable"]) == (status, durable)
        assert verify_token(reply.document["token"], keys_of(world), world.clock.wall_s())
        again = ask(world)
        assert again.status == 200, "it changes nothing"
        assert "durable" not in again.document


def test_tokens_of_unproven_nodes_name_no_key() -> None:
    world = world_of_two()
    world.register(node_id="carol", public_key=BOB.public_text)
    reply = world.call("POST", TOKEN, {"node_id": "carol", "peer_id": "bob"})
    token = verify_token(reply.document["token"], keys_of(world), world.clock.wall_s())
    assert (token.key_id, token.peer_key_id) == (None, BOB.key_id)
    assert world.signed(BOB, "POST", TOKEN, {"node_id": "carol"}).status == 200
    slot = world.directory.nodes.registry.slot_of("carol")
    assert slot is not None
    assert world.directory.nodes.registry.flags[slot] & PROVEN, "its first signature binds it"


@pytest.mark.parametrize(("caller", "status"), [("bob", 401), ("nobody", 401), ("alice", 200)])
def test_only_its_key_gets_tokens_for_a_bound_node(caller: str, status: int) -> None:
    world = world_of_two()
    body = {"node_id": "alice", "peer_id": "bob"}
    if caller == "nobody":
        assert world.call("POST", TOKEN, body).status == status
    else:
        assert world.signed(ALICE if caller == "alice" else BOB, "POST", TOKEN, body).status == status


def test_strict_gives_nothing_unproved() -> None:
    world = world_of_two(strict=True)
    assert world.call("POST", TOKEN, {"node_id": "alice"}).status == 401
    assert ask(world).status == 200


def test_a_hidden_peer_is_unknown() -> None:
    world = world_of_two()
    world.register(node_id="carol", discoverable=False)
    hidden, unknown = ask(world, peer_id="carol"), ask(world, peer_id="dave")
    assert_problem(hidden, 404, "node_not_found")
    assert hidden.document["message"].replace("carol", "dave") == unknown.document["message"]


def test_all_wrong_fields_are_named_at_once() -> None:
    world = world_of_two()
    reply = ask(world, peer_id="alice", purpose="Ärger", lifetime_s=-1)
    assert_problem(reply, 400, "bad_request", fields=["peer_id", "purpose", "lifetime_s"])


def test_unavailable_tokens_are_503_with_when_to_retry() -> None:
    world = world_of_two()
    world.api.mint.busy = True  # type: ignore[attr-defined]
    reply = ask(world, peer_id="bob")
    assert_problem(reply, 503, "tokens_unavailable")
    assert reply.headers["Retry-After"] == "1"


def test_a_node_gets_five_grants_a_minute() -> None:
    world = world_of_two(limits=limit_options())
    statuses = [ask(world, peer_id="bob").status for _ in range(6)]
    assert statuses == [200] * 5 + [429]

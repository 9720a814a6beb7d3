"""Callers and nodes that are blocked, and the operators who block them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from openred_central.api.caller.limiting import LimitOptions
from openred_central.directory import blocking
from openred_central.directory.state.blocks import Block, Kind
from openred_central.micro_engine.wire.messages import StreamingResponse
from openred_central.security.signing import PrivateKey
from openred_central.storage.store import StoreState
from openred_central.tasks.blockkeeper import Blockkeeper
from tests.api.admin.helpers import Office
from tests.api.caller.test_proving import rotate
from tests.support.minting import Here
from tests.support.options import limit_options
from tests.support.world import DAY_S, NODE, PEER, Reply, World, assert_problem

ALICE, BOB = PrivateKey.generate_ed25519(), PrivateKey.generate_ed25519()
SPAM = "?reason=spam"
BLOCKS = {
    "id": "/admin/blocks/id/alice",
    "key": f"/admin/blocks/key/{ALICE.key_id}",
    # The network of the node; its caller is elsewhere.
    "network": f"/admin/blocks/network/{quote('192.0.2.0/30', safe='')}",
}
ANYWHERE = {"address": "203.0.113.9"}


def office_of_two() -> Office:
    office = Office(mint=Here())
    assert join(office.world, "alice", ALICE).status == 201
    assert join(office.world, "bob", BOB, **ANYWHERE).status == 201
    return office


def join(world: World, node_id: str, key: PrivateKey, **fields: Any) -> Reply:
    body = {**NODE, "node_id": node_id, "public_key": key.public_text, "services": ["chat"], **fields}
    return world.signed(key, "POST", "/register", body)


def grant(world: World, **fields: Any) -> Reply:
    return world.signed(ALICE, "POST", "/security/token", {"node_id": "alice", **fields})


def assert_blocked(reply: Reply, reason: str = "spam") -> None:
    document = {**reply.document}
    document.pop("blocked_until")
    assert_problem(reply._replace(document=document), 403, "blocked")
    assert document["detail"].endswith(f": {reason}.")


def found(world: World) -> set[str]:
    return {node["node_id"] for node in world.call("GET", "/discover?services=chat").document["nodes"]}


@pytest.mark.parametrize("path", BLOCKS.values(), ids=BLOCKS)
def test_a_blocked_node_is_hidden_and_refused(path: str) -> None:
    office = office_of_two()
    world = office.world
    reply = office.call("POST", path + SPAM)
    assert (reply.status, reply.document["status"], reply.document["nodes"]) == (200, "blocked", 1)
    assert found(world) == {"bob"}
    assert_problem(world.call("GET", "/nodes/alice"), 404, "node_not_found")
    assert world.call("POST", "/lookup", {"node_ids": ["alice", "bob"]}).document["missing"] == ["alice"]
    assert_blocked(world.signed(ALICE, "GET", "/nodes/alice"))
    assert_blocked(world.signed(ALICE, "POST", "/heartbeat/alice"))
    assert_blocked(world.signed(ALICE, "POST", "/heartbeat/alice", {"metadata": {"a": 1}}))
    assert_blocked(join(world, "alice", ALICE))
    assert_blocked(grant(world))
    assert_blocked(grant(world, purpose="session"))
    assert_blocked(world.signed(ALICE, "POST", "/security/revoke", {"node_id": "alice", "all": True}))
    assert_blocked(world.signed(ALICE, "DELETE", "/nodes/alice"))
    assert_blocked(world.signed(ALICE, "POST", "/nodes/alice/key", {"public_key": BOB.public_text}))
    paired = world.signed(BOB, "POST", "/security/token", {"node_id": "bob", "peer_id": "alice"})
    assert_problem(paired, 404, "node_not_found")
    seen = office.call("GET", "/admin/nodes/alice").document
    assert (seen["blocked"], seen["block"]["reason"]) == (True, "spam")
    seen = office.call("GET", "/admin/nodes/bob").document
    assert (seen["blocked"], seen["block"]) == (False, None)


@pytest.mark.parametrize("path", BLOCKS.values(), ids=BLOCKS)
def test_a_node_is_itself_again_after_a_block(path: str) -> None:
    office = office_of_two()
    before = office.call("GET", "/admin/nodes/alice").document
    office.call("POST", path + SPAM)
    reply = office.call("DELETE", path)
    assert (reply.status, reply.document["status"], reply.document["nodes"]) == (200, "unblocked", 1)
    after = office.call("GET", "/admin/nodes/alice").document
    for name in ("registered_at", "public_key_fingerprint", "address", "metadata", "state", "discoverable"):
        assert after[name] == before[name]
    assert found(office.world) == {"alice", "bob"}
    assert office.world.signed(ALICE, "POST", "/heartbeat/alice").status == 200
    assert_problem(office.call("DELETE", path), 404, "block_not_found")


@pytest.mark.parametrize("path", BLOCKS.values(), ids=BLOCKS)
def test_a_block_ends_what_was_granted_before_for_good(path: str) -> None:
    office = office_of_two()
    world = office.world
    token = grant(world, lifetime_s=3_600).document["token"]
    session = grant(world, purpose="session").document["session"]
    office.call("POST", path + SPAM)
    verified = world.call("POST", "/security/verify", {"token": token}).document
    assert (verified["valid"], verified["reason"]) == (False, "token: its node is blocked")
    assert_blocked(world.call("POST", "/heartbeat/alice", authorization=f"OpenRed {session}"))
    office.call("DELETE", path)
    assert not world.call("POST", "/security/verify", {"token": token}).document["valid"]
    assert world.call("POST", "/heartbeat/alice", authorization=f"OpenRed {session}").status == 401


def test_what_nobody_registered_yet_is_kept_out() -> None:
    office = Office()
    for path in BLOCKS.values():
        assert office.call("POST", path + SPAM).document["nodes"] == 0
    assert_blocked(office.world.register(node_id="alice", **ANYWHERE))
    assert_blocked(office.world.register(public_key=ALICE.public_text, **ANYWHERE))
    assert_blocked(office.world.register())
    assert_blocked(office.world.register(**ANYWHERE, addresses=[{"address": "::ffff:192.0.2.2", "port": 1}]))
    assert office.world.register(**ANYWHERE).status == 201


def test_another_key_or_address_in_the_network_is_no_way_around() -> None:
    office = Office()
    claim = office.world.claim_of(node_id="alice", public_key=ALICE.public_text, **ANYWHERE)
    office.call("POST", BLOCKS["key"] + SPAM)
    assert_blocked(office.world.register(node_id="alice", claim=claim, public_key="other", **ANYWHERE))
    claim = office.world.claim_of(node_id="bob", **ANYWHERE)
    office.call("POST", BLOCKS["network"] + SPAM)
    moved = {"address": "192.0.2.1", "port": 9}
    assert_blocked(office.world.call("POST", "/heartbeat/bob", moved, claim=claim))
    assert_blocked(office.world.register(node_id="bob", claim=claim))


def test_no_node_changes_to_a_blocked_key() -> None:
    office = Office()
    assert join(office.world, "node-1", BOB).status == 201
    office.call("POST", BLOCKS["key"] + SPAM)
    assert_blocked(rotate(office.world, BOB, ALICE))
    assert office.world.signed(BOB, "POST", "/heartbeat/node-1").status == 200


def test_a_node_that_moves_out_of_a_blocked_network_is_free() -> None:
    office = Office()
    claim = office.world.claim_of(node_id="alice", services=["chat"])
    # One of several addresses is enough.
    more = [{"address": "192.0.2.2", "port": 1}]
    office.world.claim_of(node_id="bob", services=["chat"], **ANYWHERE, addresses=more)
    office.call("POST", BLOCKS["network"] + SPAM)
    assert found(office.world) == set()
    reply = office.world.register(node_id="alice", claim=claim, services=["chat"], **ANYWHERE)
    assert (reply.status, found(office.world)) == (200, {"alice"})
    assert office.call("GET", "/admin/nodes/alice").document["blocked"] is False


@pytest.mark.parametrize(
    ("network", "limits", "fields"),
    [
        (f"{PEER}/32", limit_options(), {}),
        ("198.51.0.0/16", limit_options(), {"peer": f"::ffff:{PEER}"}),
        ("2001:db8::/32", limit_options(), {"peer": "2001:db8:1::7"}),
        ("::ffff:198.51.100.0/120", limit_options(), {}),
        ("203.0.113.0/24", limit_options(trusted_proxies=(PEER,)), {"x_forwarded_for": "203.0.113.4"}),
    ],
)
def test_callers_from_a_blocked_network_are_refused(
    network: str, limits: LimitOptions, fields: dict[str, str]
) -> None:
    office = Office(limits=limits)
    world = office.world
    assert world.call("GET", "/stats", **fields).status == 200
    office.call("POST", f"/admin/blocks/network/{quote(network, safe='')}{SPAM}")
    for method, target in (
        ("GET", "/stats"),
        ("GET", "/discover"),
        ("POST", "/heartbeat/alice"),
        ("GET", "/"),
    ):
        assert_blocked(world.call(method, target, **fields))
    assert_blocked(world.call("POST", "/register", {**NODE, **ANYWHERE}, **fields))
    # A supervisor must not take the server for dead.
    assert world.call("GET", "/health/live", **fields).status == 200
    assert world.call("GET", "/stats", peer="192.0.2.200").status == 200


def test_only_a_trusted_proxy_names_the_caller() -> None:
    office = Office()
    office.call("POST", f"/admin/blocks/network/{PEER}{SPAM}")
    assert_blocked(office.world.call("GET", "/stats", x_forwarded_for="203.0.113.4"))


async def test_an_open_stream_ends_when_its_network_is_blocked() -> None:
    office = Office()
    world = office.world
    stream = await world.start(world.request("GET", "/events?nodes=alice"))
    assert isinstance(stream, StreamingResponse)
    assert b"event: node" in await anext(stream.chunks)
    world.register(node_id="alice")
    office.call("POST", f"/admin/blocks/network/{PEER}")
    list(world.api.watching.tick())
    assert [chunk async for chunk in stream.chunks] == []


def test_a_block_ends_by_itself_at_its_time() -> None:
    office = office_of_two()
    world = office.world
    keeper = Blockkeeper(world.directory, world.now)
    reply = office.call("POST", f"{BLOCKS['id']}{SPAM}&lifetime_s=3600")
    refusal = world.signed(ALICE, "POST", "/heartbeat/alice")
    assert refusal.document["blocked_until"] == reply.document["ends_at"]
    assert f"until {reply.document['ends_at']}: spam" in refusal.document["detail"]
    world.clock.advance(3_599)
    drive(keeper)
    assert found(world) == {"bob"}
    world.clock.advance(1)
    drive(keeper)
    assert found(world) == {"alice", "bob"}
    assert office.call("GET", "/admin/blocks").document["blocks_total"] == 0
    assert world.directory.nodes.kept.at_once == 1
    world.check()


def test_blocks_that_ended_while_no_server_ran_end_at_the_start() -> None:
    office = office_of_two()
    office.call("POST", f"{BLOCKS['id']}?lifetime_s=60")
    office.world.clock.advance(61)
    drive(Blockkeeper(office.world.directory, office.world.now))
    assert found(office.world) == {"alice", "bob"}


def test_a_start_judges_records_that_a_crash_left() -> None:
    office = office_of_two()
    # The block was stored, and the records were not.
    office.world.directory.blocking.add(Block(Kind.KEY, ALICE.key_id, "spam", 0.0, None))
    drive(Blockkeeper(office.world.directory, office.world.now))
    assert found(office.world) == {"bob"}


def drive(keeper: Blockkeeper) -> None:
    """Let a look at the clock come to its end."""
    work = keeper.work()
    for _ in range(1_000):
        try:
            work.send(None)
        except StopIteration:
            return
    raise AssertionError("the look never ends")


def test_a_blocked_node_ages_as_a_silent_one_and_may_be_purged() -> None:
    office = office_of_two()
    office.call("POST", BLOCKS["id"])
    office.world.wait(300 * DAY_S)
    assert office.call("GET", "/admin/nodes/alice").document["state"] == "coma"
    office.call("DELETE", BLOCKS["id"])
    assert office.world.signed(ALICE, "POST", "/heartbeat/alice").document["previous_state"] == "coma"
    office.call("POST", BLOCKS["id"] + SPAM)
    assert office.call("POST", "/admin/nodes/alice/purge").status == 200
    assert_blocked(join(office.world, "alice", ALICE))


def test_overlapping_blocks_end_one_by_one() -> None:
    office = office_of_two()
    for path in BLOCKS.values():
        office.call("POST", path)
    *first, last = BLOCKS.values()
    for path in first:
        assert office.call("DELETE", path).document["nodes"] == 0
        assert found(office.world) == {"bob"}
    assert office.call("DELETE", last).document["nodes"] == 1
    assert found(office.world) == {"alice", "bob"}


def test_who_watches_a_node_is_told_that_it_is_gone() -> None:
    office = office_of_two()
    watching = office.world.api.watching
    watcher = watching.join(b"", ["alice"], "")
    assert b'"services":["chat"]' in watching.take(watcher)
    office.call("POST", BLOCKS["id"])
    list(watching.tick())
    told = watching.take(watcher)
    assert (b'"what":["gone"]' in told, b'"node":null' in told) == (True, True)
    office.call("DELETE", BLOCKS["id"])
    list(watching.tick())
    assert b'"services":["chat"]' in watching.take(watcher)


def test_blocks_are_listed_in_pages_and_replaced() -> None:
    office = Office()
    for path in BLOCKS.values():
        office.call("POST", path + SPAM)
    office.call("POST", f"{BLOCKS['id']}?reason=worse&lifetime_s=60")
    first = office.call("GET", "/admin/blocks?limit=2").document
    assert [(each["kind"], each["reason"]) for each in first["blocks"]] == [("id", "worse"), ("key", "spam")]
    assert (first["blocks"][0]["ends_at"] is None, first["next"], first["blocks_total"]) == (False, "2", 3)
    rest = office.call("GET", "/admin/blocks?limit=2&cursor=2").document
    assert ([each["subject"] for each in rest["blocks"]], rest["next"]) == (["192.0.2.0/30"], None)


@pytest.mark.parametrize(("method", "path"), [("POST", BLOCKS["id"]), ("GET", "/admin/blocks")])
def test_parameters_that_nobody_knows_are_told_as_ignored(method: str, path: str) -> None:
    assert Office().call(method, f"{path}?colour=red").document["ignored"] == ["colour"]


@pytest.mark.parametrize(
    "path",
    [
        *("/admin/blocks/id/a%2Fb", "/admin/blocks/key/short", "/admin/blocks/colour/red"),
        *("/admin/blocks/network/192.0.2.1%2F24", "/admin/blocks/network/example.com"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_cannot_be_blocked_is_refused(method: str, path: str) -> None:
    assert_problem(Office().call(method, path), 400, "bad_request")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"reason={'x' * 201}", "reason"), ("reason=%0A", "reason")),
        *(("lifetime_s=0", "lifetime_s"), ("lifetime_s=1.5", "lifetime_s"), ("lifetime_s=x", "lifetime_s")),
    ],
)
def test_a_wrong_reason_or_lifetime_is_refused(query: str, field: str) -> None:
    office = Office()
    assert_problem(office.call("POST", f"{BLOCKS['id']}?{query}"), 400, "bad_request", fields=[field])
    assert not office.world.directory.blocking.blocks


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "BLOCKS_MAX", 2)
    office = Office()
    for node_id in ("a", "b", "a"):
        assert office.call("POST", f"/admin/blocks/id/{node_id}").status == 200
    assert_problem(office.call("POST", "/admin/blocks/id/c"), 409, "blocks_full")


def test_no_block_is_made_without_a_store() -> None:
    office = office_of_two()
    office.world.store_state = StoreState.DETACHED
    assert_problem(office.call("POST", BLOCKS["id"]), 503, "store_unavailable")
    assert found(office.world) == {"alice", "bob"}


def test_a_block_not_on_disk_yet_is_202() -> None:
    office = office_of_two()
    office.world.durable = False
    reply = office.call("POST", BLOCKS["id"])
    assert (reply.status, reply.document["durable"]) == (202, False)
    assert office.world.saved_changes[-1] == office.world.directory.saving.last_change


def test_events_before_a_block_name_the_node_no_more() -> None:
    office = office_of_two()
    office.call("POST", BLOCKS["id"])
    assert "alice" in office.world.directory.nodes.concealed

"""Limits as callers meet them: what is refused, what it says, and who is never in the way of whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openred_central.api.caller.limiting import QUOTA_EXCEEDED
from openred_central.errors import CallerError
from openred_central.limits.gcra import Policy
from openred_central.micro_engine.wire.messages import PROBLEM_TYPE, Request
from openred_central.security.signing import PrivateKey
from tests.support.minting import Here
from tests.support.options import limit_options
from tests.support.world import PEER, Reply, World, assert_problem

DEFAULTS = limit_options()
UNBOUNDED = limit_options(register=None, new_nodes=None)


def add(world: World, number: int, peer: str = PEER, **headers: str) -> Reply:
    """Register one more node from `peer`."""
    body = {"node_id": f"n-{number}", "address": "192.0.2.1", "port": 1, "public_key": f"k{number}"}
    return world.call("POST", "/register", body, peer=peer, **headers)


def assert_limited(reply: Reply, policy: str, retry_after_s: int) -> None:
    """Check a 429: the form of every error, with the members of its registered type."""
    assert (reply.status, reply.content_type) == (429, PROBLEM_TYPE)
    assert reply.headers["Retry-After"] == str(retry_after_s)
    document = reply.document
    assert document["type"] == QUOTA_EXCEEDED
    assert document["error"] == "rate_limited"
    assert document["violated-policies"] == [policy]
    assert document["message"] == document["detail"]
    assert document["suggestion"]


def raised(call: Any, *arguments: Any) -> CallerError | None:
    try:
        call(*arguments)
    except CallerError as error:
        return error
    return None


def test_ten_registrations_a_minute_from_one_address() -> None:
    world = World(limits=DEFAULTS)
    replies = [add(world, number) for number in range(10)]
    assert [reply.status for reply in replies] == [201] * 10
    assert replies[0].headers["RateLimit-Policy"] == '"register";q=10;w=60'
    assert [reply.headers["RateLimit"] for reply in (replies[0], replies[9])] == [
        '"register";r=9;t=6',
        '"register";r=0;t=60',
    ]
    world.wait(0.5)
    refused = add(world, 10)
    assert_limited(refused, "register", 6)
    assert refused.headers["RateLimit-Policy"] == '"register";q=10;w=60'
    assert refused.headers["RateLimit"] == '"register";r=0;t=60'
    assert add(world, 10, "192.0.2.99").status == 201
    world.wait(6)
    assert add(world, 11).status == 201
    assert_limited(add(world, 12), "register", 6)


def test_an_alias_has_no_quota_of_its_own() -> None:
    world = World(limits=DEFAULTS)
    for number in range(10):
        add(world, number)
    assert_limited(world.call("POST", "/api/v3/nodes/register", {}), "register", 6)


def test_a_refusal_precedes_the_body_and_errors_are_charged() -> None:
    world = World(limits=DEFAULTS)
    for _ in range(10):
        reply = world.call("POST", "/register", b"{")
        assert_problem(reply, 400, "bad_json")
        assert "RateLimit" in reply.headers
    assert_limited(world.call("POST", "/register", b"{"), "register", 6)


def test_sixty_discoveries_a_minute_also_by_head() -> None:
    world = World(limits=DEFAULTS)
    for number in range(60):
        assert world.call("GET" if number % 2 else "HEAD", "/discover").status == 200
    assert_limited(world.call("GET", "/discover"), "discover", 1)
    assert world.call("GET", "/discover", peer="192.0.2.2").headers["RateLimit"] == '"discover";r=59;t=1'


def test_look_ups_count_as_discoveries_also_of_one_node() -> None:
    """A reader of the events has names: look-ups of them are bounded."""
    world = World(limits=DEFAULTS)
    add(world, 1)
    statuses = [world.call("POST", "/lookup", {"node_ids": ["n-1"]}).status for _ in range(20)]
    statuses += [world.call("GET", "/nodes/n-1").status for _ in range(19)]
    statuses += [world.call("HEAD", "/nodes/n-1").status]
    statuses += [world.call("GET", "/discover").status for _ in range(20)]
    assert statuses == [200] * 60
    for method, path in [("GET", "/nodes/n-1"), ("GET", "/nodes/nobody"), ("HEAD", "/nodes/n-1")]:
        assert_limited(world.call(method, path), "discover", 1)
    assert_limited(world.call("POST", "/lookup", {"node_ids": ["n-1"]}), "discover", 1)
    assert_limited(world.call("GET", "/discover"), "discover", 1)
    assert world.call("GET", "/nodes/n-1", peer="192.0.2.2").status == 200


def test_unlimited_answers_have_no_limit_fields() -> None:
    world = World(limits=DEFAULTS)
    add(world, 1)
    for method, path in [("GET", "/health"), ("GET", "/stats"), ("GET", "/")]:
        for _ in range(200):
            reply = world.call(method, path)
            assert reply.status == 200
            assert not [name for name in reply.headers if name.startswith("RateLimit")]


def test_limits_are_off_for_exempt_networks_only() -> None:
    world = World(limits=limit_options(exempt_networks=("198.51.100.0/24",), nodes_per_network_max=3))
    replies = [add(world, number, "198.51.100.77") for number in range(30)]
    assert {reply.status for reply in replies} == {201}
    assert not any("RateLimit" in reply.headers for reply in replies)
    assert [add(world, number, "198.51.101.1").status for number in range(30, 34)] == [201, 201, 201, 429]


def test_an_inactive_policy_refuses_no_caller() -> None:
    options = replace(DEFAULTS, **dict.fromkeys(["register", "discover", "heartbeat"]))
    world = World(limits=options)
    for number in range(100):
        reply = add(world, number)
        assert reply.status == 201
        assert "RateLimit" not in reply.headers
        request = world.request("POST", "/heartbeat/n-0")
        assert world.api.limits.charge_heartbeat(request, 0, proved=True) == ()


def test_an_ipv6_64_is_one_caller_and_a_48_eight() -> None:
    world = World(limits=DEFAULTS)
    for number in range(200):
        status = add(world, number, f"2001:db8:0:1::{number:x}").status
        assert status == (201 if number < 10 else 429)
    for number in range(200, 400):
        status = add(world, number, f"2001:db8:0:{number:x}::1").status
        # Ten of the eighty went to the first /64; what it was refused cost the others nothing.
        assert status == (201 if number < 270 else 429)
    assert add(world, 400, "2001:db8:1::1").status == 201


def test_a_network_has_256_nodes_which_are_served() -> None:
    world = World(limits=UNBOUNDED, nodes_max=2_000)
    claims = [add(world, number, f"203.0.113.{number % 200}").document["claim"] for number in range(256)]
    for _ in range(2):
        assert_limited(add(world, 256, "203.0.113.250"), "nodes-per-network", 3_600)
    assert add(world, 7, "203.0.113.250").status == 200
    assert world.call("POST", "/heartbeat/n-7", peer="203.0.113.250").status == 200
    assert add(world, 256, "203.0.114.1").status == 201
    # Room again when one of them is gone, for one.
    assert world.call("DELETE", "/nodes/n-7?mode=forget", claim=claims[7]).status == 200
    assert add(world, 300, "203.0.113.250").status == 201
    assert_limited(add(world, 301, "203.0.113.250"), "nodes-per-network", 3_600)


def test_of_ipv6_a_56_is_one_network() -> None:
    world = World(limits=replace(UNBOUNDED, nodes_per_network_max=2))
    statuses = [add(world, number, f"2001:db8:0:{number:x}::1").status for number in range(3)]
    assert statuses == [201, 201, 429]
    assert add(world, 3, "2001:db8:0:100::1").status == 201


def test_new_nodes_are_limited_to_200_a_second() -> None:
    world = World(limits=replace(DEFAULTS, new_nodes=Policy("new-nodes", 20, 1, 20)))
    peers = [f"10.{number}.0.1" for number in range(22)]
    assert [add(world, number, peers[number]).status for number in range(20)] == [201] * 20
    assert_limited(add(world, 20, peers[20]), "new-nodes", 1)
    assert add(world, 3, peers[21]).status == 200
    world.wait(0.05)
    assert add(world, 20, peers[20]).status == 201


def test_refused_nodes_take_no_room_in_a_network() -> None:
    world = World(limits=replace(UNBOUNDED, nodes_per_network_max=1), nodes_max=1)
    add(world, 0, "192.0.2.1")
    for number in range(1, 5):
        assert_problem_code(add(world, number), "directory_full")
    assert world.call("DELETE", "/nodes/n-0?mode=forget", claim=claim_of(world, 0)).status == 200
    assert add(world, 1).status == 201


def assert_problem_code(reply: Reply, code: str) -> None:
    assert reply.document["error"] == code


def claim_of(world: World, slot: int) -> str:
    registry = world.directory.nodes.registry
    return world.prover.claims.claim(registry.node_id(slot), registry.registered_at[slot])


def test_clients_behind_a_trusted_proxy_are_distinguished() -> None:
    world = World(limits=limit_options(trusted_proxies=("10.0.0.0/8",)))
    for client in ("203.0.113.1", "203.0.113.2"):
        for number in range(11):
            reply = add(world, number, "10.0.0.1", x_forwarded_for=client)
            assert reply.status == (429 if number == 10 else reply.status)
    reply = add(world, 50, "10.0.0.1", x_forwarded_for="203.0.113.3")
    assert reply.document["observed_address"] == "203.0.113.3"
    assert world.api.limits.origin(world.request("GET", "/", peer="10.0.0.1")).address == "10.0.0.1"


def test_an_untrusted_forwarding_header_is_ignored() -> None:
    world = World(limits=limit_options(trusted_proxies=("10.0.0.0/8",)))
    statuses = [add(world, n, x_forwarded_for=f"203.0.113.{n}").status for n in range(12)]
    assert statuses == [201] * 10 + [429] * 2
    assert add(world, 20, "192.0.2.7", x_forwarded_for=PEER).document["observed_address"] == "192.0.2.7"


def test_thirty_failed_proofs_block_an_address() -> None:
    world = World(limits=DEFAULTS)
    limits, request = world.api.limits, world.request("POST", "/heartbeat/n-1")
    tried = 0
    for _ in range(100):
        if raised(limits.may_try_proof, request) is None:
            tried += 1
            limits.proof_failed(request)
    assert tried == 30
    error = raised(limits.may_try_proof, request)
    assert error is not None
    assert error.status == 429
    assert error.problem()["violated-policies"] == ["proof-fail"]
    assert dict(error.headers)["Retry-After"] == "2"
    # The owner, elsewhere, is not concerned; and trying alone costs nothing.
    owner = world.request("POST", "/heartbeat/n-1", peer="192.0.2.1")
    for _ in range(100):
        limits.may_try_proof(owner)
    world.clock.advance(2.0)
    limits.may_try_proof(request)


def test_failed_proofs_of_others_leave_the_node_its_heartbeats() -> None:
    world = World(limits=DEFAULTS)
    add(world, 1)
    limits, attacker = world.api.limits, world.request("POST", "/heartbeat/n-1", peer="192.0.2.66")
    for _ in range(1_000):
        limits.proof_failed(attacker)
    owner = world.request("POST", "/heartbeat/n-1")
    assert dict(limits.charge_heartbeat(owner, 0, proved=False)) == {
        "RateLimit-Policy": '"heartbeat";q=1;w=60',
        "RateLimit": '"heartbeat";r=1;t=60',
    }


def test_heartbeats_and_tokens_of_a_node_have_own_quotas() -> None:
    world = World(limits=DEFAULTS)
    claim = add(world, 1).document["claim"]
    limits, request = world.api.limits, world.request("POST", "/heartbeat/n-1")

    def heartbeat(request: Request, slot: int) -> None:
        limits.charge_heartbeat(request, slot, proved=True)

    def ask(request: Request, slot: int) -> None:
        limits.charge_token(request, slot, proved=True)

    assert [raised(heartbeat, request, 0) is None for _ in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    assert [raised(ask, request, 0) is None for _ in range(6)] == [True] * 5 + [False]
    error = raised(heartbeat, request, 0)
    assert error is not None
    assert dict(error.headers)["Retry-After"] == "60"
    # From another address, it is the same node.
    assert raised(heartbeat, world.request("GET", "/", peer="192.0.2.8"), 0) is not None
    # A node that takes over its slot begins anew.
    world.call("DELETE", "/nodes/n-1?mode=forget", claim=claim)
    world.wait(1)
    assert add(world, 2).status == 201
    assert raised(heartbeat, request, 0) is None


def test_an_exempt_caller_is_never_charged() -> None:
    world = World()
    limits, request = world.api.limits, world.request("POST", "/heartbeat/n-1")
    world.register()
    for _ in range(100):
        assert limits.charge_heartbeat(request, 0, proved=False) == ()
        assert limits.charge_token(request, 0, proved=False) == ()
        limits.proof_failed(request)
        limits.may_try_proof(request)


def test_strangers_cannot_use_up_the_quota_of_a_node() -> None:
    world = World(limits=DEFAULTS, mint=Here())
    claim = add(world, 1).document["claim"]
    stranger, about = "192.0.2.66", {"node_id": "n-1"}
    heartbeats = [world.call("POST", "/heartbeat/n-1", peer=stranger).status for _ in range(3)]
    tokens = [world.call("POST", "/security/token", about, peer=stranger).status for _ in range(6)]
    assert (heartbeats, tokens) == ([200, 200, 429], [200] * 5 + [429])
    change = {"metadata": {"x": 1}}
    mine = [world.call("POST", "/heartbeat/n-1", change, claim=claim).status for _ in range(3)]
    assert mine == [200, 200, 429]
    mine = [world.call("POST", "/security/token", about, claim=claim).status for _ in range(6)]
    assert mine == [200] * 5 + [429]


def test_strangers_cannot_keep_a_node_from_binding_its_key() -> None:
    world, key = World(limits=DEFAULTS), PrivateKey.generate_ed25519()
    assert world.register(node_id="n-1", public_key=key.public_text).status == 201
    for _ in range(3):
        world.call("POST", "/heartbeat/n-1", peer="192.0.2.66")
    assert world.signed(key, "POST", "/heartbeat/n-1").status == 200
    assert world.call("POST", "/heartbeat/n-1", peer="192.0.2.66").status == 401


def test_refusals_are_counted_by_policy() -> None:
    world = World(limits=DEFAULTS)
    for number in range(12):
        add(world, number)
    for _ in range(4):
        world.call("POST", "/heartbeat/n-0")
    for _ in range(62):
        world.call("GET", "/discover")
    counted = {name: count for name, count in world.limits.refusals.by_policy.items() if count}
    assert counted == {"register": 2, "heartbeat": 2, "discover": 2}
    assert world.limits.refusals.by_policy.keys() == {
        *("register", "discover", "proof-fail", "heartbeat", "token", "new-nodes"),
        *("nodes-per-network", "proofs"),
    }

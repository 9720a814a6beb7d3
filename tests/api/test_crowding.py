"""A directory that fills up: who has a place keeps it, and who never was heard makes room."""

from __future__ import annotations

from typing import Any

from openred_central.security.signing import PrivateKey
from tests.support.world import DAY_S, NODE, World, assert_problem

KEY = PrivateKey.generate_ed25519()


def crowded(nodes: int, **options: Any) -> World:
    """Make a directory with room for 100 nodes; some were registered three days ago."""
    world = World(nodes_max=100, **options)
    for number in range(nodes):
        assert world.register(node_id=f"old-{number}").status == 201
    world.wait(3 * DAY_S)
    return world


def test_nodes_never_heard_make_room_in_a_crowd() -> None:
    world = crowded(95)
    for number in range(200):
        reply = world.register(node_id=f"new-{number}")
        assert reply.status == (201 if number < 100 else 503), number
    # Only those that were registered three days ago have gone: the new ones may still be heard.
    assert [world.call("GET", f"/nodes/new-{number}").status for number in (0, 99)] == [200, 200]
    assert world.call("POST", "/heartbeat/old-7").status == 410


def test_heard_and_bound_nodes_stay_in_a_crowd() -> None:
    world = World(nodes_max=100)
    for number in range(50):
        body = {**NODE, "node_id": f"bound-{number}", "public_key": KEY.public_text}
        assert world.signed(KEY, "POST", "/register", body).status == 201
        world.clock.advance(5)
    for number in range(49):
        world.register(node_id=f"heard-{number}")
    world.wait(60)
    for number in range(49):
        assert world.call("POST", f"/heartbeat/heard-{number}").status == 200
    world.wait(3 * DAY_S)
    assert world.register(node_id="new").status == 201
    assert_problem(world.register(node_id="newer"), 503, "directory_full")
    assert len(world.directory) == 100


def test_no_node_makes_room_while_there_is_some() -> None:
    world = crowded(80)
    for number in range(9):
        world.register(node_id=f"new-{number}")
    assert len(world.directory) == 89


def test_longer_records_are_refused_at_the_limit_of_bytes() -> None:
    world = World(nodes_bytes_max=4_200)
    claim = world.claim_of(metadata={"padding": "x" * 3_000})
    world.wait(1)
    assert world.call("POST", "/heartbeat/node-1").status == 200
    world.wait(181 * DAY_S)
    new = world.register(node_id="other", metadata={"padding": "x" * 3_000})
    assert_problem(new, 503, "directory_full")
    assert "of 4200 bytes" in new.document["detail"]
    assert new.headers["Retry-After"] == "3600"
    for path, body in (
        ("/heartbeat/node-1", {"metadata": {"more": "y" * 1_000}, "services": ["chat"]}),
        ("/register", {**NODE, "metadata": {"padding": "x" * 4_000}, "services": ["chat", "mail"]}),
    ):
        longer = world.call("POST", path, body, claim=claim)
        assert_problem(longer, 503, "directory_full")
        # Nothing has happened: it sleeps as before.
        assert world.call("GET", "/nodes/node-1").document["state"] == "pending_1st"
    shorter = world.call("POST", "/heartbeat/node-1", {"metadata": {"padding": None}}, claim=claim)
    assert shorter.status == 200
    assert world.call("GET", "/nodes/node-1").document["metadata"] == {}
    figures = world.call("GET", "/stats").document["directory"]
    assert figures["nodes_bytes"] == world.directory.nodes.registry.bytes_held
    assert (figures["nodes_bytes"] < 500, figures["nodes_bytes_max"]) == (True, 4_200)
    assert world.register(node_id="other", metadata={"padding": "x" * 3_000}).status == 201

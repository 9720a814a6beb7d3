"""What is answered to who changes a key; who may is in ``test_proving``."""

from __future__ import annotations

from openred_central.storage.store import StoreState
from tests.support.world import World, assert_problem

from .caller.test_proving import NEW, OWNER, enrol, rotate


def test_a_body_that_names_no_key_is_refused_before_anything_else() -> None:
    world = World()
    enrol(world)
    assert_problem(world.call("POST", "/nodes/node-1/key", {}), 400, "bad_request", fields=["public_key"])
    reply = world.call("POST", "/nodes/node-1/key", {"public_key": "text"})
    assert_problem(reply, 400, "invalid_key", fields=["public_key"])
    reply = world.call("POST", "/nodes/node-1/key", {"public_key": NEW.public_text, "next_key": "short"})
    assert_problem(reply, 400, "bad_request", fields=["next_key"])


def test_an_unknown_node_has_no_key() -> None:
    reply = World().call("POST", "/nodes/node-1/key", {"public_key": NEW.public_text})
    assert_problem(reply, 404, "node_not_found")


def test_nothing_is_promised_that_a_crash_could_undo() -> None:
    world = World()
    enrol(world)
    world.store_state = StoreState.DETACHED
    assert_problem(rotate(world, OWNER, NEW), 503, "store_unavailable")
    world.store_state = StoreState.OK
    world.durable = False
    reply = rotate(world, OWNER, NEW)
    assert (reply.status, reply.document["durable"]) == (202, False)


def test_a_next_key_is_named_with_the_change() -> None:
    world = World()
    enrol(world, next_key=NEW.key_id)
    reply = rotate(world, None, NEW, {"public_key": NEW.public_text, "next_key": OWNER.key_id})
    assert reply.document["next_key"] == OWNER.key_id
    assert world.call("GET", "/nodes/node-1").document["next_key"] == OWNER.key_id

"""Watched nodes are told of at every instance, and a stream goes on at another one when its own is gone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.test_events import Stream, stream
from tests.support.instances import Instance, MakeCluster
from tests.support.loading import ask
from tests.support.running import until

from .test_proofs import registration
from .trial import FLAGS

WATCH = "/events?nodes=alice"


def register(instance: Instance, address: str, claim: str) -> str:
    """Register alice at an address, with her claim unless she is new. Return the claim."""
    fields = {"Authorization": f"Claim {claim}"} if claim else None
    reply = ask(instance, "POST", "/register", {**registration("alice", "key"), "address": address}, fields)
    assert reply.status in (200, 201), reply.document
    return str(reply.document.get("claim", claim))


def told(watched: Stream, count: int) -> Any:
    """Return what the last of so many events of a node tells."""
    return [event for event in watched.until("node", count) if event.name == "node"][-1].document


def test_watched_nodes_are_told_of_at_every_instance_and_after_a_change_of_leader(
    cluster: MakeCluster,
) -> None:
    made = cluster(count=2, flags=FLAGS)
    for instance in made.instances:
        made.begin(instance)
    leader = made.wait_ready()
    (follower,) = made.followers()
    claim = register(leader, "192.0.2.1", "")
    until(lambda: ask(follower, "GET", "/nodes/alice").status == 200, "alice at the follower")
    with stream(leader, WATCH) as at_leader, stream(follower, WATCH) as at_follower:
        for watched in (at_leader, at_follower):
            assert told(watched, 1)["what"] == ["now"]
        fields = {"If-None-Match": ask(follower, "GET", "/nodes/alice").headers["ETag"], "Prefer": "wait=60"}
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask, follower, "GET", "/nodes/alice", None, fields)
            register(follower, "192.0.2.9", claim)
            assert waiting.result().document["address"] == "192.0.2.9"
        for watched in (at_leader, at_follower):
            assert told(watched, 2)["what"] == ["moved"]
        position = at_leader.content.rpartition(b"\nid: ")[2].partition(b"\n")[0].decode()
    leader.stop()
    assert made.leader(other_than=leader) is follower
    register(follower, "192.0.2.10", claim)
    with stream(follower, WATCH, Last_Event_ID=position) as again:
        assert told(again, 1)["node"]["address"] == "192.0.2.10"

"""A commit that reaches the database only after another instance took the lead changes nothing."""

from __future__ import annotations

import threading

from tests.support.instances import Instance, MakeCluster
from tests.support.loading import ask, register
from tests.support.running import until
from tests.support.world import Reply

from .trial import CALM_S_MAX, FLAGS

ATTEMPTS = 5
# Shorter than a leader waits for a renewal: after that it begins another connection.
HELD_S_MAX = 0.8


class Client(threading.Thread):
    """One registration at an instance, which may take long; `reply` is the answer."""

    def __init__(self, instance: Instance, node_id: str) -> None:
        super().__init__(daemon=True)
        self.node_id = node_id
        self.reply: Reply | None = None
        self._instance = instance

    def run(self) -> None:
        body = {"node_id": self.node_id, "address": "192.0.2.1", "port": 1, "public_key": "key"}
        self.reply = ask(self._instance, "POST", "/register", body)


def held(leader: Instance) -> Client:
    """Hold the commit of a registration back on its way to the database."""
    for attempt in range(ATTEMPTS):
        client = Client(leader, f"held-{attempt}")
        leader.database.swallow("to_server")
        client.start()
        try:
            until(lambda: leader.database.holds(client.node_id.encode()), "its commit", HELD_S_MAX)  # noqa: B023
        except AssertionError:
            # A renewal was before it.
            leader.database.restore()
            client.join()
        else:
            return client
    raise AssertionError("no commit was held back")


def test_a_commit_that_comes_after_another_one_leads_is_undone(cluster: MakeCluster) -> None:
    made = cluster(count=2, flags=FLAGS)
    made.start()
    leader = made.leader()
    (follower,) = made.followers()
    register(leader, "before")
    client = held(leader)
    leader.pause()
    until(lambda: follower.leads, "the follower to lead", CALM_S_MAX)
    register(follower, "after")
    leader.database.restore()
    until(lambda: not leader.database.holds(client.node_id.encode()), "the commit to arrive")
    leader.go_on()
    client.join()
    assert client.reply is not None
    assert (client.reply.status, client.reply.document["error"]) == (503, "outcome_unknown")
    made.wait_ready()
    made.wait_at_rest()
    assert made.leader() is follower
    names = made.sql("SELECT node_id FROM openred.node ORDER BY registered_at").split()
    # Between the two stands each attempt to hold a commit back that a renewal was before.
    assert (names[0], names[-1]) == ("before", "after")
    assert client.node_id not in names
    for instance in made.running:
        statuses = [instance.ask(f"/nodes/{name}")[0] for name in ("before", "after", client.node_id)]
        assert statuses == [200, 200, 404], instance.name

"""HAProxy with the ready file before a cluster: a leader that dies stops changes for a while, no more."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

import orjson

from tests.e2e.test_deployment import haproxy_before
from tests.support.instances import Instance, MakeCluster
from tests.support.running import Client, until

FLAGS = ("--trusted-proxies", "127.0.0.1/32", "--access-log", "1", "--limit-register", "off")


def registrations(instance: Instance) -> int:
    """Return how many registrations came to the public port of an instance."""
    return len(re.findall(r"method=POST path=/register .* peer=127\.0\.0\.1 ", instance.log))


def test_changes_go_to_the_leader_and_the_rest_goes_on_without(cluster: MakeCluster, tmp_path: Path) -> None:
    made = cluster(count=2, flags=FLAGS)
    made.start()
    leader = made.leader()
    (follower,) = made.followers()
    with haproxy_before(made.instances, tmp_path) as address:

        def ask(method: str, target: str, content: bytes | None = None) -> int:
            with Client(address) as client:
                # The balancer answers by itself where it reaches nobody.
                return client.fetch(method, target, content, **{"Content-Type": "application/json"})[0]

        def register(node_id: str) -> int:
            node = {"node_id": node_id, "address": "192.0.2.1", "port": 1, "public_key": f"key of {node_id}"}
            return ask("POST", "/register", orjson.dumps(node))

        def spares_the_hop() -> bool:
            logged, before, node_ids = came(), registrations(follower), next(groups)
            assert {register(node_id) for node_id in node_ids} == {201}
            # A log is written a moment after the answer.
            until(lambda: came() >= logged + len(node_ids), "the logs to tell of all")
            return registrations(follower) == before

        def came() -> int:
            return sum(map(registrations, made.instances))

        groups = ([f"node-{10 * ten + one}" for one in range(10)] for ten in count())
        until(spares_the_hop, "changes to go to the leader alone")
        leader.kill()
        # For what needs no leader there is another instance.
        until(lambda: ask("GET", "/nodes/node-1") == 200, "a look-up")
        until(lambda: ask("POST", "/heartbeat/node-1") in (200, 429), "a heartbeat")
        until(lambda: register("another") in (200, 201), "a change")
        until(lambda: follower.leads, "the other one to lead")

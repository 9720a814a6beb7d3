"""HAProxy with the ready file before a cluster: a leader that dies stops changes for a while, no more."""

from __future__ import annotations

import re
from pathlib import Path

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

        def ask(method: str, target: str) -> int:
            with Client(address) as client:
                return client.ask(method, target).status

        def register(node_id: str) -> int:
            with Client(address) as client:
                return client.register(node_id).status

        log = tmp_path / "haproxy.log"
        spared = f"Server leader/openred-{made.instances.index(follower) + 1} is DOWN"
        until(lambda: spared in log.read_text(), "the balancer to know the leader")
        for number in range(10):
            assert register(f"node-{number}") == 201
        assert (registrations(leader), registrations(follower)) == (10, 0)
        leader.kill()
        while not follower.leads:
            assert ask("GET", "/nodes/node-1") == 200
            assert ask("POST", "/heartbeat/node-1") in (200, 429)
        until(lambda: register("node-11") == 201, "a change")
        assert registrations(follower) > 0

"""Nodes do not age, and do not die, because the instance that heard them is cut off or gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_life import DWELL_TIMES, transitions
from tests.support.instances import Cluster, Instance, MakeCluster, clusters_in
from tests.support.postgres import PgServer
from tests.support.running import Client, until

# A client may stand still for two seconds on a busy machine, and its node is silent meanwhile.
TOLERANCE_S = 3.5
DWELL_S = 0.4
# Much longer than a follower takes to be missing.
WAIT_S = 60.0
QUICK = ("--tick-s", "0.1", "--flush-interval-s", "0.2")


@pytest.fixture
def make_cluster(tmp_path: Path, postgres: PgServer) -> Iterator[MakeCluster]:
    with clusters_in(tmp_path, lambda: postgres) as make:
        yield make


def role_of(leader: Instance, name: str) -> str | None:
    """Return the role of an instance as the leader tells it."""
    told: list[dict[str, Any]] = (leader.ask("/stats")[1] or {}).get("cluster", {}).get("instances", [])
    return next((each["role"] for each in told if each["name"] == name), None)


def state_of(leader: Instance, node_id: str) -> str:
    status, document = leader.ask(f"/nodes/{node_id}")
    return "dead" if status == 404 else document["state"] if document else ""


def led(cluster: Cluster) -> tuple[Instance, Instance]:
    """Start two instances; return the leader and the follower."""
    cluster.start()
    leader = cluster.leader()
    (follower,) = cluster.followers()
    until(lambda: role_of(leader, follower.name) == "follower", "the follower to join")
    return leader, follower


def test_node_that_speaks_to_a_follower_which_is_cut_off_stays_active(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(count=2, flags=("--heartbeat-tolerance-s", str(TOLERANCE_S), *QUICK))
    leader, follower = led(cluster)
    with Client(follower.address) as client:

        def beats() -> None:
            assert client.ask("POST", "/heartbeat/heard").status in (200, 202)

        for name in ("heard", "silent"):
            assert client.register(name).status == 201
        leader.link.half_open()
        ends_s = time.monotonic() + 2.5 * TOLERANCE_S
        while time.monotonic() < ends_s:
            beats()
            time.sleep(0.1)
        leader.link.restore()
        until(lambda: (beats(), state_of(leader, "silent"))[1] == "pending_1st", "the other node to be late")
        assert state_of(leader, "heard") == "active"
    assert ("active", "pending_1st") not in transitions(leader.log, "heard")


def test_nobody_is_buried_while_an_instance_is_missing(make_cluster: MakeCluster) -> None:
    life = [text for flag in DWELL_TIMES for text in (flag, str(DWELL_S))]
    cluster = make_cluster(count=2, flags=(*life, *QUICK))
    leader, follower = led(cluster)
    with Client(leader.address) as client:
        follower.kill()
        assert client.register("silent").status == 201
        until(lambda: role_of(leader, follower.name) == "missing", "the follower to be missing", WAIT_S)
        until(lambda: state_of(leader, "silent") == "coma", "the node to be in coma", WAIT_S)
        time.sleep(5 * DWELL_S)
        assert state_of(leader, "silent") == "coma"
        # Another run under the name: the former process is gone, with all that only it has heard.
        cluster.start(follower)
        until(lambda: role_of(leader, follower.name) == "follower", "the follower to join")
        assert client.register("mortal").status == 201
        until(lambda: state_of(leader, "mortal") == "dead", "the other node to die")
        assert client.ask("POST", "/heartbeat/silent").document["current_state"] == "active"

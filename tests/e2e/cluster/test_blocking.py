"""A block holds at every instance, and at those that lead after the one that took it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import orjson

from tests.support.instances import Instance, MakeCluster
from tests.support.loading import ask
from tests.support.running import Client, until

from .test_proofs import registration
from .trial import FLAGS

ALICE = "id/alice"


def socket_of(folder: Path, instance: Instance) -> Path:
    return folder / f"{instance.name}.operators"


def is_refused(instance: Instance) -> bool:
    return ask(instance, "POST", "/heartbeat/alice").status == 403


def assert_out(instance: Instance) -> None:
    """Fail unless the block holds at `instance`."""
    assert ask(instance, "POST", "/heartbeat/alice").document["error"] == "blocked"
    assert ask(instance, "GET", "/nodes/alice").status == 404
    body = {**registration("mallory", "key"), "address": "198.51.100.7"}
    assert ask(instance, "POST", "/register", body).document["error"] == "blocked"


def is_told(operator: Client, method: str, subject: str) -> bool:
    """Make or end a block; tell whether all instances know of it in time, as one that is held up does not."""
    reply = operator.ask(method, f"/admin/blocks/{subject}")
    assert reply.status == 200, reply
    return bool(reply.document["everywhere"])


def is_let_in(operator: Client) -> bool:
    """Block alice, since a former attempt may have let her in, and let her in; tell as `is_told` does."""
    is_told(operator, "POST", ALICE)
    return is_told(operator, "DELETE", ALICE)


def test_blocks_hold_at_every_instance(cluster: MakeCluster) -> None:
    made = cluster(count=2, flags=FLAGS)
    for instance in made.instances:
        made.begin(instance, "", "--admin-socket", str(socket_of(made.folder, instance)))
    leader = made.wait_ready()
    (follower,) = made.followers()
    assert ask(leader, "POST", "/register", registration("alice", "key")).status == 201
    for instance in made.instances:
        until(lambda at=instance: ask(at, "POST", "/heartbeat/alice").status == 200, "alice")
    with Client(socket_of(made.folder, leader)) as operator:
        assert operator.ask("POST", f"/admin/blocks/{ALICE}?reason=spam").document["nodes"] == 1
        for subject in (ALICE, "network/198.51.100.0%2F24"):
            until(partial(is_told, operator, "POST", subject), "all instances to know of the block")
    with Client(socket_of(made.folder, follower)) as operator:
        assert operator.ask("POST", "/admin/blocks/id/bob").document["error"] == "not_the_leader"
        assert operator.ask("GET", "/admin/blocks").document["blocks_total"] == 2
    for instance in made.instances:
        assert_out(instance)
    leader.stop()
    assert made.leader(other_than=leader) is follower
    assert_out(follower)
    made.begin(leader, "", "--admin-socket", str(socket_of(made.folder, leader)))
    made.wait_ready()
    until(partial(is_refused, leader), "the block")
    assert_out(leader)
    with Client(socket_of(made.folder, follower)) as operator:
        until(partial(is_let_in, operator), "all instances to let alice in")
    for instance in made.instances:
        assert ask(instance, "POST", "/heartbeat/alice").status == 200
    assert orjson.loads(made.sql("SELECT json_agg(name) FROM openred.kept WHERE name LIKE 'block/%'")) == [
        "block/network/198.51.100.0/24"
    ]

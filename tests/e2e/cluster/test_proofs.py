"""One name, one owner; one signature, one use; an end of grants that holds everywhere: at any instance."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any

import orjson

from openred_central.security.signing import PrivateKey, rotation_headers
from tests.conftest import SOAK
from tests.support.instances import Cluster, Instance, MakeCluster
from tests.support.loading import AUTHORITY, answered, ask, signed
from tests.support.running import until
from tests.support.signing import wait_for_the_next_second
from tests.support.world import Reply

from .trial import FLAGS

NAMES = 1_000 if SOAK else 60


def registration(node_id: str, key: str) -> dict[str, Any]:
    return {"node_id": node_id, "address": "192.0.2.1", "port": 8_001, "public_key": key}


def test_one_name_has_one_owner_wherever_it_is_registered(cluster: MakeCluster) -> None:
    made = cluster(flags=FLAGS)
    made.start()
    owners: dict[str, str] = {}
    with ThreadPoolExecutor(len(made.instances)) as pool:

        def race(number: int) -> None:
            node_id = f"name-{number}"
            keys = {instance.name: f"key of {instance.name}" for instance in made.running}
            tries = {
                one.name: pool.submit(
                    answered, one, "POST", "/register", registration(node_id, keys[one.name])
                )
                for one in made.running
            }
            replies = {name: tried.result() for name, tried in tries.items()}
            winners = [name for name, reply in replies.items() if reply.status == 201]
            assert len(winners) == 1, replies
            assert all(reply.status in (201, 409) for reply in replies.values()), replies
            owners[node_id] = keys[winners[0]]

        for number in range(NAMES):
            race(number)
        leader = made.leader()
        leader.kill()
        made.leader(other_than=leader)
        for number in range(NAMES, NAMES + 10):
            race(number)
    made.wait_at_rest()
    for instance in made.running:
        for node_id, key in owners.items():
            assert ask(instance, "GET", f"/nodes/{node_id}").document["public_key"] == key


class Bound:
    """A node that is bound to a key."""

    def __init__(self, at: Instance, node_id: str) -> None:
        self.node_id = node_id
        self.key = PrivateKey.generate_ed25519()
        body = orjson.dumps(registration(node_id, self.key.public_text))
        reply = ask(at, "POST", "/register", body, signed("POST", "/register", body, self.key))
        assert reply.status == 201, reply
        self.session: str = reply.document["session"]

    @property
    def beat(self) -> str:
        return f"/heartbeat/{self.node_id}"

    def signed_beat(self) -> dict[str, str]:
        """Return the header fields of a signed heartbeat, as one who listens would have them."""
        return signed("POST", self.beat, b"", self.key)

    def by_session(self, at: Instance) -> Reply:
        """Give a sign of life by the session."""
        return ask(at, "POST", self.beat, fields={"Authorization": f"OpenRed {self.session}"})


def holds(node: Bound, instance: Instance) -> bool:
    """Tell whether the session of a node counts at an instance."""
    return node.by_session(instance).status == 200


def gains(reply: Reply) -> bool:
    """Tell whether an answer gives something to who sent the request."""
    return reply.status == 200 and "session" in reply.document


def test_signatures_count_once_and_sessions_hold_in_the_whole_cluster(cluster: MakeCluster) -> None:
    made = cluster(flags=FLAGS)
    made.start()
    wait_for_the_next_second()
    leader = made.leader()
    node = Bound(made.followers()[0], "alice")
    before = node.signed_beat()
    replies = [ask(instance, "POST", node.beat, fields=before) for instance in made.instances * 2]
    assert [gains(reply) for reply in replies].count(True) == 1, replies
    assert all(reply.status in (200, 401) for reply in replies)
    for instance in made.instances:
        until(partial(holds, node, instance), f"the session to hold at {instance.name}")
    unused = node.signed_beat()
    leader.kill()
    while not made.leaders():
        for instance in made.running:
            for fields in (before, unused):
                assert not gains(ask(instance, "POST", node.beat, fields=fields)) or made.leaders()
    for instance in made.running:
        # Both were signed before this term began.
        for fields in (before, unused):
            reply = ask(instance, "POST", node.beat, fields=fields)
            assert (reply.status, reply.document["reason"]) == (401, "signature_expired"), reply
        until(partial(holds, node, instance), f"the session to hold at {instance.name}")
    wait_for_the_next_second()
    after = node.signed_beat()
    replies = [ask(instance, "POST", node.beat, fields=after) for instance in made.running * 2]
    assert [gains(reply) for reply in replies].count(True) == 1, replies


def revoked(made: Cluster, node: Bound) -> Reply:
    """Revoke everything granted to a node, at a follower."""
    body = orjson.dumps({"node_id": node.node_id, "all": True})
    fields = signed("POST", "/security/revoke", body, node.key)
    return ask(made.followers()[0], "POST", "/security/revoke", body, fields)


def exchanged(made: Cluster, node: Bound) -> Reply:
    """Exchange the key of a node, at a follower."""
    path, new = f"/nodes/{node.node_id}/key", PrivateKey.generate_ed25519()
    body = orjson.dumps({"public_key": new.public_text})
    moment, nonce = int(time.time()), os.urandom(16).hex()
    fields = dict(rotation_headers(AUTHORITY, path, body, node.key, new, moment, nonce))
    return ask(made.followers()[0], "POST", path, body, fields)


def ended(made: Cluster, names: Iterator[str], end: Callable[[Cluster, Bound], Reply]) -> Bound | None:
    """Let all that was granted to a new node end; return it, None where an instance was held up."""
    node = Bound(made.followers()[0], next(names))
    for instance in made.instances:
        until(partial(holds, node, instance), "the session to hold")
    reply = end(made, node)
    assert reply.status == 200, reply
    return node if reply.document["everywhere"] else None


def test_revoked_and_former_keys_end_at_every_instance(cluster: MakeCluster) -> None:
    made = cluster(flags=FLAGS)
    made.start()
    wait_for_the_next_second()
    for number, end in enumerate([revoked, exchanged] * (10 if SOAK else 2)):
        names = (f"node-{number}-{attempt}" for attempt in count())
        node: Bound = until(partial(ended, made, names, end), "all instances to know in time")
        for instance in made.instances:
            assert node.by_session(instance).status == 401, instance.name


def test_an_instance_that_is_halted_is_told_of(cluster: MakeCluster) -> None:
    made = cluster(flags=FLAGS)
    made.start()
    wait_for_the_next_second()
    node = Bound(made.leader(), "alice")
    halted, asked = made.followers()
    halted.pause()
    try:
        body = orjson.dumps({"node_id": node.node_id, "all": True})
        fields = signed("POST", "/security/revoke", body, node.key)
        reply = ask(asked, "POST", "/security/revoke", body, fields)
        assert (reply.status, reply.document["everywhere"]) == (200, False), reply
    finally:
        halted.go_on()
    until(lambda: node.by_session(halted).status == 401, "the halted instance to know")

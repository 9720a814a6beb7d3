"""Instances share their secrets through the database, and exchange the key secret without a pause."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import orjson

from openred_central.security.signing import PrivateKey, signed_headers
from tests.support.instances import Cluster, Instance, MakeCluster
from tests.support.loading import AUTHORITY
from tests.support.running import Client, proof, until
from tests.support.signing import wait_for_the_next_second
from tests.support.world import Reply

FORMER, NEXT = "the former secret of operators", "the next secret of theirs"
HERE = "127.0.0.1"
NO_LIMITS = ("--limit-register", "off", "--limit-heartbeat", "off")


def write_secrets(cluster: Cluster, *secrets: str) -> None:
    cluster.secret_file.write_text("\n".join(secrets) + "\n")


def session_of(instance: Instance, key: PrivateKey) -> str:
    """Register a node that signs, and return its session."""
    # Signatures from before the start are refused.
    wait_for_the_next_second()
    body = {"node_id": "signer", "address": HERE, "port": 1, "public_key": key.public_text}
    content = orjson.dumps(body)
    made = signed_headers(
        "POST", AUTHORITY, "/register", content, key, int(time.time()), os.urandom(16).hex()
    )
    headers = {name.replace("-", "_"): value for name, value in made}
    with Client(instance.address) as client:
        reply = client.ask("POST", "/register", content, Host=AUTHORITY, **headers)
    assert reply.status == 201, reply.document
    return str(reply.document["session"])


def answered(instance: Instance, ask: Callable[[Client], Reply]) -> Reply:
    """Return the answer that a client gets which comes back when it is told to."""

    def attempt() -> Reply | None:
        with Client(instance.address) as client:
            reply = ask(client)
        return None if reply.status == 503 else reply

    reply: Reply = until(attempt, f"an answer of {instance.name}")
    return reply


def registered(instance: Instance, node_id: str, **fields: Any) -> Reply:
    return answered(instance, lambda client: client.register(node_id, **fields))


def root_key_id(instance: Instance) -> str:
    """Return the id of the root key; keys are made when they are first needed."""
    reply = answered(instance, lambda client: client.ask("GET", "/security/keys"))
    assert reply.status == 200, reply
    return str(reply.document["root"]["kid"])


def test_the_key_secret_is_exchanged_without_a_pause(cluster: MakeCluster) -> None:
    made = cluster(count=2, flags=NO_LIMITS)
    write_secrets(made, FORMER)
    made.start()
    session = session_of(made.followers()[0], PrivateKey.generate_ed25519())
    root, claims = root_key_id(made.leader()), dict[str, str]()

    def check() -> None:
        """Check that all secrets of before hold at each instance, and register a node at each of them."""
        for instance in made.running:
            with Client(instance.address) as client:
                # Nothing but the session shows this node to be alive, also while nobody leads.
                reply = client.ask("POST", "/heartbeat/signer", Authorization=f"OpenRed {session}")
                assert reply.status == 200, reply
            reply = answered(instance, lambda client: client.ask("POST", "/heartbeat/signer"))
            assert reply.status == 401, reply
            for node_id, claim in claims.items():
                assert registered(instance, node_id, claim=claim, port=1_000 + len(claims)).status == 200
            node_id = f"node-{len(claims)}"
            reply = registered(instance, node_id)
            assert reply.status == 201, reply.document
            claims[node_id] = reply.document["claim"]
        assert root_key_id(made.leader()) == root

    check()
    for secrets in ((FORMER, NEXT), (NEXT, FORMER), (NEXT,)):
        write_secrets(made, *secrets)
        for instance in [*made.followers(), made.leader()]:
            instance.stop()
            check()
            made.start(instance)
            check()
    made.wait_at_rest()


def test_an_instance_with_another_key_secret_takes_no_part(cluster: MakeCluster) -> None:
    made = cluster(count=2)
    one, other = made.instances
    write_secrets(made, FORMER)
    made.start(one)
    write_secrets(made, NEXT)
    made.start(other, ready=False)
    until(lambda: "cannot be followed" in other.log, "the other instance to give a reason")
    assert "certificate verify failed" in other.log
    assert registered(one, "node-1").status == 201
    assert not other.ready
    # Nor when it may lead: it opens nothing that the former leader has sealed.
    one.stop()
    until(lambda: "the other instances have" in other.log, "the other instance to give a reason")
    assert not other.leads
    other.kill()


def test_a_lost_claim_is_told_again_at_any_instance(cluster: MakeCluster) -> None:
    made = cluster(count=2, flags=[*NO_LIMITS, "--trusted-proxies", "127.0.0.0/8"])
    made.start()
    first, second = made.followers()[0], made.leader()
    client = {"X_Forwarded_For": "198.51.100.7"}
    body = {"node_id": "node-1", "address": "198.51.100.7", "port": 1, "public_key": "key"}

    def register(instance: Instance, **headers: str) -> Reply:
        with Client(instance.address) as caller:
            return caller.ask("POST", "/register", body, **headers)

    told = register(first, **client)
    assert (told.status, told.document["observed_address"]) == (201, "198.51.100.7")
    for instance in (first, second):
        again = register(instance, **client)
        assert (again.status, again.document["claim"]) == (200, told.document["claim"])
        # Another address gets nothing, whatever it tells.
        for stranger in ({}, {"X_Forwarded_For": "198.51.100.8"}):
            reply = register(instance, X_Real_Ip="198.51.100.7", Forwarded="for=198.51.100.7", **stranger)
            assert "claim" not in reply.document
    second.kill()
    made.leader()
    again = register(first, **client)
    assert again.document["claim"] == told.document["claim"]
    assert register(first, **proof(again.document["claim"])).status == 200

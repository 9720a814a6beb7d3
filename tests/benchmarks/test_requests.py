"""What the load sends is what a server can read: every request is whole, of nodes that are there."""

from __future__ import annotations

import random

import orjson
import pytest

from benchmarks.load.kinds import PLAIN_KINDS
from benchmarks.load.requests import Target, registrations
from benchmarks.population import node_id
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Request
from openred_central.micro_engine.wire.parser import RequestParser

NODES = 20


def target(seed: int = 1, prefix: str = "") -> Target:
    return Target("127.0.0.1:80", NODES, ("index", "storage"), "load-ab", random.Random(seed), prefix)


def read(data: bytes) -> tuple[Request, bytes]:
    """The one request in `data`, and its body."""
    parser = RequestParser(EngineLimits())
    parser.feed(data)
    request = parser.read_head()
    assert request is not None
    body = parser.read_body(10_000) if request.content_length else b""
    assert body is not None
    assert parser.idle
    return request, body


@pytest.mark.parametrize("kind", PLAIN_KINDS)
def test_every_request_is_one_whole_request(kind: str) -> None:
    source = PLAIN_KINDS[kind](target(prefix="/p"))
    for _ in range(3):
        request, _ = read(source(0))
        assert request.path.startswith("/p/")
        assert request.authority == "127.0.0.1:80"


def test_heartbeats_and_look_ups_speak_of_registered_nodes(seed: int) -> None:
    known = {node_id(number) for number in range(NODES)}
    for kind, path in (("heartbeat", "/heartbeat/"), ("look_up", "/nodes/")):
        source = PLAIN_KINDS[kind](target(seed))
        heard = {read(source(0))[0].path.removeprefix(path) for _ in range(1_000)}
        assert heard == known


def test_a_connection_of_its_own_is_of_one_node_and_others_are_of_others() -> None:
    source = PLAIN_KINDS["own_heartbeat"](target()._replace(generator=1, generators=2))
    paths = [read(source(connection))[0].path for connection in (0, 1, 0, 1, NODES // 2)]
    first, second = (f"/heartbeat/{node_id(number)}" for number in (1, 3))
    assert paths == [first, second, first, second, first]


def test_each_registration_is_of_another_node() -> None:
    source = PLAIN_KINDS["register"](target())
    names = [orjson.loads(read(source(0))[1])["node_id"] for _ in range(3)]
    assert names == ["load-ab-0000000", "load-ab-0000001", "load-ab-0000002"]


def test_discovery_asks_for_all_services() -> None:
    assert read(PLAIN_KINDS["discover"](target())(0))[0].query == "services=index,storage"


def test_the_nodes_of_a_run_are_registered_by_the_names_it_speaks_of() -> None:
    bodies = [orjson.loads(read(request)[1]) for request in registrations(target(), range(3))]
    assert [body["node_id"] for body in bodies] == [node_id(number) for number in range(3)]

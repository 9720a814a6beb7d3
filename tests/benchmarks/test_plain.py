"""The plain directory does the same work as ours, in the same shape of answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from benchmarks.peers.plain import PlainDirectory
from benchmarks.population import document, node_id


def told(answer: tuple[int, bytes]) -> tuple[int, Any]:
    status, body = answer
    return status, orjson.loads(body)


def test_a_heartbeat_is_noted() -> None:
    status, reply = told(PlainDirectory(5).heartbeat(node_id(3)))
    assert (status, reply["node_id"], reply["current_state"]) == (200, node_id(3), "active")
    assert reply["last_heartbeat"].endswith("Z")


def test_nobody_beats_who_is_not_there() -> None:
    assert told(PlainDirectory(5).heartbeat("node-x"))[0] == 404


@pytest.mark.parametrize(("services", "total"), [("storage", 1_000), ("index,storage", 100), ("none", 0)])
def test_discovery_draws_from_all_who_offer_everything(services: str, total: int) -> None:
    status, reply = told(PlainDirectory(1_000).discover(services))
    names = {node["node_id"] for node in reply["nodes"]}
    assert (status, reply["total_found"], len(names)) == (200, total, min(50, total))
    assert all(set(services.split(",")) <= set(node["services"]) for node in reply["nodes"])


def test_who_registers_is_found() -> None:
    directory = PlainDirectory(0)
    assert told(directory.register(orjson.dumps(document(1))))[0] == 201
    assert told(directory.discover("relay"))[1]["total_found"] == 1
    assert told(directory.heartbeat(node_id(1)))[0] == 200


def test_a_name_is_not_given_away_and_nonsense_is_refused() -> None:
    directory = PlainDirectory(2)
    assert told(directory.register(orjson.dumps({**document(1), "public_key": "other"})))[0] == 409
    assert told(directory.register(b"{"))[0] == 400
    assert told(directory.register(b'{"node_id":"a"}'))[0] == 400

"""The plain directory answers the requests of the benchmarks like ours."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import orjson
import pytest

from benchmarks.peers import wsgi_app
from benchmarks.peers.plain import PlainDirectory
from benchmarks.population import document, node_id


def decoded(answer: tuple[int, bytes]) -> tuple[int, Any]:
    status, body = answer
    return status, orjson.loads(body)


def test_heartbeat_is_answered() -> None:
    status, reply = decoded(PlainDirectory(5).heartbeat(node_id(3)))
    assert (status, reply["node_id"], reply["current_state"]) == (200, node_id(3), "active")
    assert reply["last_heartbeat"].endswith("Z")


def test_heartbeat_of_unknown_node_is_refused() -> None:
    assert decoded(PlainDirectory(5).heartbeat("node-x"))[0] == 404


@pytest.mark.parametrize(("services", "total"), [("storage", 1_000), ("index,storage", 100), ("none", 0)])
def test_discovery_draws_from_nodes_with_all_services(services: str, total: int) -> None:
    status, reply = decoded(PlainDirectory(1_000).discover(services))
    names = {node["node_id"] for node in reply["nodes"]}
    assert (status, reply["total_found"], len(names)) == (200, total, min(50, total))
    assert all(set(services.split(",")) <= set(node["services"]) for node in reply["nodes"])


def test_registered_node_is_discovered() -> None:
    directory = PlainDirectory(0)
    assert decoded(directory.register(orjson.dumps(document(1))))[0] == 201
    assert decoded(directory.discover("relay"))[1]["total_found"] == 1
    assert decoded(directory.heartbeat(node_id(1)))[0] == 200


def test_plain_directory_answers_over_wsgi() -> None:
    called = wsgi_app.application(PlainDirectory(100))

    def ask(method: str, path: str, query: str = "", body: bytes = b"") -> tuple[str, Any]:
        started: list[str] = []
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
        (answer,) = called(
            {**environ, "wsgi.input": BytesIO(body)}, lambda status, headers: started.append(status)
        )
        return started[0], orjson.loads(answer)

    assert ask("POST", f"/heartbeat/{node_id(3)}")[0] == "200 OK"
    assert ask("GET", "/discover", "max_results=50&services=relay,storage")[1]["total_found"] == 90
    assert ask("POST", "/register", body=orjson.dumps(document(100)))[0] == "201 Created"
    assert ask("POST", "/heartbeat/node-x")[0].startswith("404 ")


def test_taken_id_and_nonsense_are_refused() -> None:
    directory = PlainDirectory(2)
    assert decoded(directory.register(orjson.dumps({**document(1), "public_key": "other"})))[0] == 409
    assert decoded(directory.register(b"{"))[0] == 400
    assert decoded(directory.register(b'{"node_id":"a"}'))[0] == 400

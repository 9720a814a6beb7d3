"""Which method and path leads where: the table of the wire contract."""

from __future__ import annotations

import inspect
from functools import partial

import pytest

from openred_central.api.routes import ENDPOINTS, NAMES, RECORD_BYTES_MAX, install
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.wire.messages import Headers, Request
from tests.support.world import World, assert_problem

CONTRACT = [
    ("GET", "/", "root"),
    ("GET", "/dashboard", "dashboard"),
    ("POST", "/register", "register"),
    ("POST", "/api/v3/nodes/register", "register"),
    ("POST", "/heartbeat/node-1", "heartbeat"),
    ("GET", "/discover", "discover"),
    ("GET", "/api/v3/nodes/discover", "discover"),
    ("GET", "/nodes/node-1", "get_node"),
    ("DELETE", "/nodes/node-1", "delete_node"),
    ("POST", "/nodes/node-1/key", "change_key"),
    ("POST", "/lookup", "lookup"),
    ("POST", "/security/token", "grant"),
    ("POST", "/api/v3/tokens/request", "grant"),
    ("POST", "/security/verify", "verify"),
    ("POST", "/security/revoke", "revoke"),
    ("GET", "/security/keys", "keys"),
    ("GET", "/stats", "stats"),
    ("GET", "/analytics", "analytics"),
    ("GET", "/events", "events"),
    ("GET", "/health/live", "live"),
    ("GET", "/health/ready", "ready"),
    ("GET", "/health", "ready"),
    ("GET", "/api/v3/health", "ready"),
    ("GET", "/health/leader", "leads"),
    ("GET", "/openapi.json", "openapi"),
    ("GET", "/docs", "reference"),
]


@pytest.mark.parametrize(("method", "path", "endpoint"), CONTRACT)
def test_every_path_leads_to_its_endpoint(method: str, path: str, endpoint: str) -> None:
    route, _ = World().router.admit(Request(method, path))
    # Limits and blocks wrap the handler.
    handler = inspect.unwrap(route.handler)
    assert isinstance(handler, partial)
    assert handler.func.__name__ == endpoint


def test_the_contract_is_complete() -> None:
    served = {(one.method, path) for one in ENDPOINTS for path in (one.path, *one.aliases)}
    assert {(method, path.replace("node-1", "{node_id}")) for method, path, _ in CONTRACT} == served
    assert set(NAMES) == {f"{one.method} {one.path}" for one in ENDPOINTS}


@pytest.mark.parametrize("path", [path for method, path, _ in CONTRACT if method == "GET"])
def test_head_works_wherever_get_does(path: str) -> None:
    router = World().router
    assert router.admit(Request("HEAD", path))[0] is router.admit(Request("GET", path))[0]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/register", "OPTIONS, POST"),
        ("DELETE", "/heartbeat/node-1", "OPTIONS, POST"),
        ("POST", "/discover", "GET, HEAD, OPTIONS"),
        ("POST", "/nodes/node-1", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/lookup", "OPTIONS, POST"),
        ("DELETE", "/", "GET, HEAD, OPTIONS"),
        ("POST", "/api/v3/health", "GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_is_405_with_the_allowed_ones(method: str, path: str, allow: str) -> None:
    reply = World().call(method, path)
    assert_problem(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"] == allow


@pytest.mark.parametrize(
    "path", ["/nothing", "/nodes", "/nodes/", "/heartbeat", "/register/", "/nodes/a/b", "//"]
)
def test_an_unknown_path_is_404(path: str) -> None:
    assert_problem(World().call("GET", path), 404, "not_found")


@pytest.mark.parametrize("path", ["/register", "/heartbeat/node-1", "/lookup"])
def test_bodies_are_json_of_at_most_64_kib(path: str) -> None:
    router = World().router
    typed = Headers((("content-type", "application/json"),))
    router.admit(Request("POST", path, headers=typed, content_length=RECORD_BYTES_MAX))
    with pytest.raises(Exception, match="413 content_too_large"):
        router.admit(Request("POST", path, headers=typed, content_length=RECORD_BYTES_MAX + 1))
    with pytest.raises(Exception, match="415 unsupported_media_type"):
        router.admit(Request("POST", path, content_length=2))


def test_a_heartbeat_without_a_body_needs_no_content_type() -> None:
    World().router.admit(Request("POST", "/heartbeat/node-1"))


def test_a_real_engine_takes_all_endpoints() -> None:
    engine = Engine()
    install(engine, World().api)
    with pytest.raises(ValueError, match="has a handler already"):
        install(engine, World().api)

"""``GET /openapi.json`` and ``GET /docs`` as they are answered."""

from __future__ import annotations

import orjson
import pytest

from tests.support.world import DOCUMENTS, World, run


@pytest.mark.parametrize(
    ("path", "content_type"), [("/openapi.json", "application/json"), ("/docs", "text/html; charset=utf-8")]
)
def test_the_description_is_sent_and_not_sent_again(path: str, content_type: str) -> None:
    world = World()
    first = run(world.start(world.request("GET", path)))
    assert (first.status, first.content_type) == (200, content_type)
    tag = dict(first.headers)["ETag"]
    again = run(world.start(world.request("GET", path, if_none_match=tag)))
    assert (again.status, again.body) == (304, b"")


def test_it_tells_the_version_of_the_server() -> None:
    assert World().call("GET", "/openapi.json").document["info"]["version"] == "9.9.9"


def test_no_request_makes_it_anew() -> None:
    world = World()
    bodies = [run(world.start(world.request("GET", "/openapi.json"))).body for _ in range(2)]
    assert bodies[0] is bodies[1] is DOCUMENTS.openapi.body
    assert orjson.loads(bodies[0])["openapi"] == "3.1.0"


def test_the_page_may_run_and_load_nothing() -> None:
    world = World()
    headers = dict(run(world.start(world.request("GET", "/docs"))).headers)
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "style-src 'unsafe-inline'", "frame-ancestors 'none'"} <= set(policy)
    assert not any("script" in rule or "http" in rule for rule in policy)

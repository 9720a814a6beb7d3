"""The operators' table, apart from the public one."""

from __future__ import annotations

import pytest

from openred_central.api.admin import page
from openred_central.api.admin.routes import ADMIN_ENDPOINTS, METRICS
from openred_central.api.routes import ENDPOINTS
from openred_central.micro_engine.wire.messages import Request
from tests.support.world import World, assert_problem

from .helpers import Office

ALL = [*ADMIN_ENDPOINTS, METRICS]


@pytest.mark.parametrize("endpoint", ALL, ids=lambda endpoint: endpoint.path)
def test_none_of_it_is_on_the_public_side(endpoint: object) -> None:
    method, path = endpoint.method, endpoint.path.replace("{node_id}", "node-1")  # type: ignore[attr-defined]
    assert_problem(World().call(method, path), 404, "not_found")


def test_none_of_the_public_side_is_here() -> None:
    office = Office()
    for endpoint in ENDPOINTS:
        if endpoint.path == page.PATH:
            # A page of its own.
            continue
        assert office.call(endpoint.method, endpoint.path.replace("{node_id}", "a")).status in (404, 501)


def test_pages_in_a_browser_read_nothing_of_it() -> None:
    for route in Office().router.routes():
        assert route.cors is False


def test_no_body_is_looked_at() -> None:
    router = Office().router
    for endpoint in ALL:
        path = endpoint.path.replace("{node_id}", "node-1")
        route, _ = router.admit(Request(endpoint.method, path, content_length=5))
        assert route.body == "none"


def test_every_action_has_its_own_name_in_the_log() -> None:
    assert len({endpoint.action for endpoint in ALL}) == len(ALL)

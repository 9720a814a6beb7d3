"""Who may speak as an operator, and what is remembered of it."""

from __future__ import annotations

import logging

import pytest

from openred_central.api.admin.admission import Admission
from openred_central.api.admin.routes import ADMIN_ENDPOINTS
from tests.support.world import assert_problem

from .helpers import GUARDED, SECRET, Office

EVERYTHING = [(endpoint.method, endpoint.path.replace("{node_id}", "node-1")) for endpoint in ADMIN_ENDPOINTS]


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_without_the_secret_nothing_is_done(method: str, path: str) -> None:
    office = Office(GUARDED)
    office.world.register()
    before = office.world.directory.nodes.registry.record(0)
    reply = office.call(method, path)
    assert_problem(reply, 401, "proof_required")
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    nearly = (f"Bearer {SECRET}s", f"Bearer {SECRET[:-1]}", f"Basic {SECRET}", SECRET)
    for wrong in (*nearly, "Bearer x", "Bearer", ""):
        assert_problem(office.call(method, path, authorization=wrong), 403, "forbidden")
    assert office.world.directory.nodes.registry.record(0) == before
    assert office.snapshots == 0


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_with_the_secret_an_operator_is_heard(scheme: str) -> None:
    office = Office(GUARDED)
    office.world.register()
    assert office.call("GET", "/admin/nodes", authorization=f"{scheme} {SECRET}").status == 200


def test_where_there_is_no_secret_nobody_guesses_it() -> None:
    office = Office(Admission(trusted=False, secret=None, metrics_open=True))
    for presented in ("Bearer ", "Bearer None", "Bearer"):
        assert_problem(office.call("GET", "/admin/nodes", authorization=presented), 403, "forbidden")
    assert office.ask("GET", "/metrics").status == 200


def test_metrics_need_the_secret_where_they_are_not_open() -> None:
    office = Office(GUARDED)
    assert office.ask("GET", "/metrics").status == 401
    assert office.ask("GET", "/metrics", authorization=f"Bearer {SECRET}").status == 200


def test_every_action_leaves_one_line_and_so_does_a_refused_one(caplog: pytest.LogCaptureFixture) -> None:
    office = Office(GUARDED)
    office.world.register()
    with caplog.at_level(logging.INFO, "openred.audit"):
        office.call("POST", "/admin/nodes/node-1/hold", authorization=f"Bearer {SECRET}")
        office.call("POST", "/admin/nodes/node-1/purge")
        office.call("POST", "/admin/nodes/nobody/wake", authorization=f"Bearer {SECRET}")
        office.call("POST", "/admin/snapshot", authorization=f"Bearer {SECRET}")
        office.ask("GET", "/metrics", authorization=f"Bearer {SECRET}")
    assert caplog.messages == [
        'operator at 198.51.100.7: hold node "node-1": 200',
        'operator at 198.51.100.7: purge node "node-1": 401 proof_required',
        'operator at 198.51.100.7: wake node "nobody": 404 node_not_found',
        "operator at 198.51.100.7: take snapshot: 200",
    ]
    assert SECRET not in caplog.text


def test_no_name_can_write_a_line_of_its_own_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    with caplog.at_level(logging.INFO, "openred.audit"):
        office.call("POST", "/admin/nodes/a%0Aoperator at%1b%E2%80%A8/wake")
    (message,) = caplog.messages
    assert message.isprintable()
    assert message.startswith('operator at unix socket: wake node "a\\noperator at')

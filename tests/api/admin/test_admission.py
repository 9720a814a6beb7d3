"""Admission of operators, the hosts that a listener answers for, and the audit log."""

from __future__ import annotations

import logging

import pytest

from openred_central.api.admin.admission import Admission, Hosts
from openred_central.api.admin.routes import ADMIN_ENDPOINTS, METRICS
from openred_central.errors import CallerError
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


def test_without_a_secret_no_caller_is_admitted() -> None:
    office = Office(Admission(trusted=False, secret=None, metrics_open=True))
    for presented in ("Bearer ", "Bearer None", "Bearer"):
        assert_problem(office.call("GET", "/admin/nodes", authorization=presented), 403, "forbidden")
    assert office.ask("GET", "/metrics").status == 200


def test_metrics_need_the_secret_where_they_are_not_open() -> None:
    office = Office(GUARDED)
    assert office.ask("GET", "/metrics").status == 401
    assert office.ask("GET", "/metrics", authorization=f"Bearer {SECRET}").status == 200


def test_every_action_is_audited_also_a_refused_one(caplog: pytest.LogCaptureFixture) -> None:
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


def test_no_node_id_can_forge_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    with caplog.at_level(logging.INFO, "openred.audit"):
        office.call("POST", "/admin/nodes/a%0Aoperator at%1b%E2%80%A8/wake")
    (message,) = caplog.messages
    assert message.isprintable()
    assert message.startswith('operator at unix socket: wake node "a\\noperator at')


# Hosts

LOOPBACK = [
    *("localhost", "localhost:8001", "a.localhost:1", "127.0.0.1:8001", "127.9.9.9", "[::1]:8001", "[::1]"),
]
STRANGERS = ["", "evil.example:8001", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example"]
ADDRESSES = ["192.0.2.7", "192.0.2.7:8001", "[2001:db8::7]:8001", "[::ffff:192.0.2.7]"]


def answered(hosts: Hosts, authority: str) -> bool:
    try:
        hosts.check(authority)
    except CallerError as error:
        return error.code != "misdirected_request"
    return True


@pytest.mark.parametrize("authority", [*LOOPBACK, "localhost.", "[0:0::1]:9", "[::ffff:127.0.0.1]:8001"])
def test_loopback_is_accepted_in_every_spelling(authority: str) -> None:
    assert answered(Hosts(()), authority)


@pytest.mark.parametrize("authority", [*STRANGERS, *ADDRESSES, "0.0.0.0:8001", "127.1", "2130706433"])
def test_other_hosts_are_refused(authority: str) -> None:
    assert not answered(Hosts(("127.0.0.1", "admin.example")), authority)


@pytest.mark.parametrize("authority", ["admin.example", "admin.example:8001", "10.0.0.5:1", "[fd00::5]:8001"])
def test_configured_hosts_are_accepted_with_any_port(authority: str) -> None:
    assert answered(Hosts(("Admin.Example", "10.0.0.5", "fd00:0::5")), authority)


@pytest.mark.parametrize("unspecified", ["0.0.0.0", "::"])
def test_an_unspecified_address_admits_addresses_but_no_names(unspecified: str) -> None:
    hosts = Hosts((unspecified,))
    assert all(answered(hosts, authority) for authority in ADDRESSES)
    assert not any(answered(hosts, authority) for authority in STRANGERS)


@pytest.mark.parametrize("endpoint", [*ADMIN_ENDPOINTS, METRICS], ids=lambda endpoint: endpoint.path)
def test_no_endpoint_answers_for_another_host(endpoint: object) -> None:
    admission = Admission(trusted=True, secret=None, metrics_open=True, hosts=Hosts(("directory.example",)))
    method, path = endpoint.method, endpoint.path  # type: ignore[attr-defined]
    refused = Office(admission).ask(method, path, authority="evil.example:8001")
    assert refused.status == 421
    assert b"misdirected_request" in refused.body
    assert Office(admission).ask(method, path, authority="directory.example").status != 421
    # No browser reaches a Unix socket.
    assert Office().ask(method, path, authority="evil.example").status != 421

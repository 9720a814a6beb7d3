"""Whom the operators' listener answers for."""

from __future__ import annotations

import pytest

from openred_central.api.admin.admission import Admission, Hosts
from openred_central.api.admin.routes import ADMIN_ENDPOINTS, METRICS
from openred_central.errors import CallerError

from .helpers import Office

LOOPBACK = [
    "localhost",
    "localhost:8001",
    "a.localhost:1",
    "127.0.0.1:8001",
    "127.9.9.9",
    "[::1]:8001",
    "[::1]",
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
def test_loopback_is_known_by_every_name_and_address(authority: str) -> None:
    assert answered(Hosts(()), authority)


@pytest.mark.parametrize("authority", [*STRANGERS, *ADDRESSES, "0.0.0.0:8001", "127.1", "2130706433"])
def test_nobody_else_is_answered_for(authority: str) -> None:
    assert not answered(Hosts(("127.0.0.1", "admin.example")), authority)


@pytest.mark.parametrize("authority", ["admin.example", "admin.example:8001", "10.0.0.5:1", "[fd00::5]:8001"])
def test_what_is_set_is_answered_for_with_any_port(authority: str) -> None:
    assert answered(Hosts(("Admin.Example", "10.0.0.5", "fd00:0::5")), authority)


@pytest.mark.parametrize("unspecified", ["0.0.0.0", "::"])
def test_a_listener_at_every_address_is_known_by_each_but_by_no_name(unspecified: str) -> None:
    hosts = Hosts((unspecified,))
    assert all(answered(hosts, authority) for authority in ADDRESSES)
    assert not any(answered(hosts, authority) for authority in STRANGERS)


@pytest.mark.parametrize("endpoint", [*ADMIN_ENDPOINTS, METRICS], ids=lambda endpoint: endpoint.path)
def test_no_endpoint_answers_for_others(endpoint: object) -> None:
    admission = Admission(trusted=True, secret=None, metrics_open=True, hosts=Hosts(("directory.example",)))
    method, path = endpoint.method, endpoint.path  # type: ignore[attr-defined]
    refused = Office(admission).ask(method, path, authority="evil.example:8001")
    assert refused.status == 421
    assert b"misdirected_request" in refused.body
    assert Office(admission).ask(method, path, authority="directory.example").status != 421
    # No browser gets to a Unix socket.
    assert Office().ask(method, path, authority="evil.example").status != 421

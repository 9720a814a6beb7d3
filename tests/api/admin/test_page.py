"""The operators' page: it is sent to whoever reaches the listener by one of its names, and holds nothing."""

from __future__ import annotations

from openred_central.api.admin.admission import Admission, Hosts
from openred_central.api.admin.page import operators_page
from openred_central.micro_engine.wire.messages import HTML_TYPE
from tests.support.world import assert_problem, read_reply

from .helpers import GUARDED, SECRET, Office


def test_it_is_sent_without_the_secret_and_with_its_policy() -> None:
    office = Office(GUARDED)
    office.world.register(node_id="node-1")
    answer = office.ask("GET", "/")
    headers = dict(answer.headers)
    assert (answer.status, answer.content_type) == (200, HTML_TYPE)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in headers
    assert answer.body == operators_page().body
    assert b"node-1" not in answer.body


def test_a_browser_that_has_it_is_told_so() -> None:
    assert Office().ask("GET", "/", if_none_match=operators_page().etag).status == 304


def test_it_is_not_sent_for_a_foreign_name() -> None:
    """A page of somebody else, whose name was pointed at this machine, cannot pass for it."""
    office = Office(Admission(trusted=False, secret=SECRET, metrics_open=True, hosts=Hosts(["127.0.0.1"])))
    assert office.ask("GET", "/", authority="localhost:8001").status == 200
    refused = read_reply(office.ask("GET", "/", authority="evil.example:8001"))
    assert_problem(refused, 421, "misdirected_request")

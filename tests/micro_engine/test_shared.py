"""The parts that connections share, and the responses to errors."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from openred_central.errors import CallerError, InternalBug
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.limits import UNREAD_BYTES_MAX, EngineLimits
from openred_central.micro_engine.wire.messages import Request

from .harness import World, get


def test_callers_errors_are_sent_and_not_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    error = CallerError(404, "node_not_found", "There is no node x.", suggestion="Register it.")
    response = world.shared.error_response(error, Request("GET", "/"))
    assert (response.status, response.content_type) == (404, "application/problem+json")
    assert b"Register it." in response.body
    assert caplog.text == ""
    assert world.shared.stats.handler_failures == 0


def test_our_errors_are_logged_and_not_sent(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = world.shared.error_response(InternalBug("the secret"), Request("GET", "/path"))
    assert response.status == 500
    assert b"secret" not in response.body
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "error-1 in GET /path" in record.message


def test_end_of_the_last_connection_is_reported(world: World) -> None:
    told: list[bool] = []
    world.shared.on_empty = lambda: told.append(True)
    world.send(get("/plain/a"))
    assert told == []
    world.call(world.transport.close)
    assert told == [True]
    assert world.shared.connections == set()


@pytest.mark.parametrize(("body", "unread_bytes_max"), [("json", 2 * 2**30), ("none", UNREAD_BYTES_MAX)])
def test_longest_body_fits_beside_others(body: Any, unread_bytes_max: int) -> None:
    async def handler(request: Request) -> None: ...

    engine = Engine(limits=EngineLimits(body_bytes_max=2**30))
    engine.route("/", methods=["POST"], body=body)(handler)

    assert engine.shared.unread_bytes_max == unread_bytes_max

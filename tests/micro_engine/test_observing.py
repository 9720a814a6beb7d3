"""Requests have ids, and the observer gets a report of every exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from openred_central.micro_engine.shared import CLIENT_LEFT
from openred_central.micro_engine.wire.messages import Request, StreamingResponse

from .harness import Observed, Seen, World, answers, get, post


@pytest.fixture
def seen(world: World) -> list[Seen]:
    world.shared.observer = observed = Observed()
    return observed.seen


def test_error_has_the_id_of_its_request(world: World) -> None:
    (answer,) = answers(world.send(get("/nowhere", "X-Request-Id: abc-1.2:3/4+5=")))
    assert answer.headers["x-request-id"] == "abc-1.2:3/4+5="


@pytest.mark.parametrize("sent", ["", "a b", "a\tb", "x" * 65, "\xe9", '"quoted"', "a, b", "<script>", "\\n"])
def test_id_that_is_not_well_formed_is_replaced(world: World, sent: str) -> None:
    (answer,) = answers(world.send(get("/nowhere", f"X-Request-Id: {sent}")))
    assert answer.headers["x-request-id"] == "error-1"


def test_two_ids_are_ignored(world: World) -> None:
    (answer,) = answers(world.send(get("/nowhere", "X-Request-Id: a", "X-Request-Id: b")))
    assert answer.headers["x-request-id"] == "error-1"


def test_only_errors_have_an_id(world: World) -> None:
    sent = world.send(get("/nowhere") + get("/plain/a") + get("/broken") + b"no request\r\n\r\n")
    assert [answer.headers.get("x-request-id") for answer in answers(sent)] == [
        *("error-1", None, "error-2", "error-3")
    ]


def test_internal_error_has_one_id_everywhere(world: World, caplog: pytest.LogCaptureFixture) -> None:
    (answer,) = answers(world.send(get("/broken", "X-Request-Id: mine")))
    assert answer.headers["x-request-id"] == "mine"
    assert b'"id":"mine"' in answer.body
    assert "internal error mine in GET /broken" in caplog.text


def test_ids_of_errors_do_not_fill_the_kept_heads(world: World) -> None:
    world.send(get("/nowhere"))
    kept = len(world.shared.encoder.heads)
    for _ in range(3):
        world.send(get("/nowhere"))
    assert len(world.shared.encoder.heads) == kept


def test_every_exchange_is_reported_once_with_its_bytes(world: World, seen: list[Seen]) -> None:
    pipeline = [
        get("/plain/a?claim=x"),
        get("/plain/a", method="HEAD"),
        post("/echo", b"[1]"),
        get("/broken"),
    ]
    sent = world.send(b"".join(pipeline) + get("/nowhere") + b"no request\r\n\r\n")
    assert [(one.method, one.path, one.status) for one in seen] == [
        ("GET", "/plain/a", 200),
        ("HEAD", "/plain/a", 200),
        ("POST", "/echo", 200),
        ("GET", "/broken", 500),
        ("GET", "/nowhere", 404),
        ("", "", 400),
    ]
    assert sum(one.sent_bytes for one in seen) == len(sent)


def test_duration_is_from_the_head_to_the_answer(world: World, seen: list[Seen]) -> None:
    world.send(get("/waiting/a"))
    world.clock.advance(2.5)
    world.release()
    whole = post("/echo", b'"slow"')
    world.send(whole[:-3])
    world.clock.advance(4)
    world.send(whole[-3:])
    assert [one.duration_s for one in seen] == [2.5, 4.0]


def test_client_that_left_is_reported(world: World, seen: list[Seen]) -> None:
    world.send(get("/waiting/a"))
    world.call(world.transport.close)
    assert seen == []
    world.release()
    assert [(one.status, one.sent_bytes) for one in seen] == [(CLIENT_LEFT, 0)]


def test_stream_is_reported_at_its_end_with_all_bytes(world: World, seen: list[Seen]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"piece"

    async def streaming(request: Request) -> StreamingResponse:
        return StreamingResponse(pieces())

    world.router.add("/stream", ["GET"], streaming)
    sent = world.send(get("/stream"))
    assert [(one.path, one.status, one.sent_bytes) for one in seen] == [("/stream", 200, len(sent))]

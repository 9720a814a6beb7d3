"""The answers that a client gets, their order, and whether its connection stays open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.errors import CallerError
from openred_central.micro_engine.connection import (
    BODY,
    CLOSING,
    HANDLER,
    HEAD,
    LINGER,
    LOST,
    READ_AHEAD_BYTES_MAX,
    TURN_S_MAX,
)
from openred_central.micro_engine.limits import (
    CHUNKS_PER_READ_MAX,
    UNREAD_BYTES_FREE,
    UNREAD_BYTES_MAX,
    EngineLimits,
)
from openred_central.micro_engine.wire.messages import Request, Response, StreamingResponse
from tests.support.clock import VirtualClock

from .harness import FakeTransport, World, answers, get, post

CHUNKED_HEAD = (
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def statuses(sent: bytes, *methods: str) -> list[int]:
    return [answer.status for answer in answers(sent, *methods)]


# Order


def test_request_is_answered_with_one_write(world: World) -> None:
    (answer,) = answers(world.send(get("/plain/a")))
    assert (answer.status, answer.body) == (200, b'{"plain":"a"}')
    assert len(world.transport.writes) == 1
    assert world.connection.phase == HEAD


def test_request_carries_its_peer(world: World) -> None:
    world.send(get("/plain/a"))
    assert world.served[0].peer == "192.0.2.1"


def test_pipelined_requests_are_answered_in_order_with_one_write(world: World) -> None:
    sent = world.send(get("/plain/a") + get("/plain/b") + get("/plain/c"))
    assert [answer.body for answer in answers(sent)] == [b'{"plain":"a"}', b'{"plain":"b"}', b'{"plain":"c"}']
    assert len(world.transport.writes) == 1


def add_slow(world: World) -> list[str]:
    """Add a route whose handler takes longer than a turn may. Return the names that it served."""
    served: list[str] = []

    async def slow(request: Request, name: str) -> dict[str, str]:
        served.append(name)
        world.clock.advance(2 * TURN_S_MAX)
        return {"slow": name}

    world.router.add("/slow/{name}", ["GET"], slow)
    return served


def test_pipeline_takes_turns(world: World) -> None:
    served = add_slow(world)
    turns: list[int] = []

    def other() -> None:
        turns.append(len(served))
        if len(turns) < 3:
            world.loop.call_soon(other)

    world.loop.call_soon(other)
    world.loop.call_soon(world.connection.data_received, b"".join(get(f"/slow/{name}") for name in "abcd"))
    world.settle()
    assert turns == [0, 1, 2]
    bodies = [answer.body for answer in answers(world.transport.sent)]
    assert bodies == [b'{"slow":"%b"}' % name.encode() for name in "abcd"]


class BusyClock(VirtualClock):
    """A clock on which a turn is over whenever it is looked at again."""

    def monotonic_s(self) -> float:
        self.advance(2 * TURN_S_MAX)
        return super().monotonic_s()


@pytest.mark.parametrize("head", [CHUNKED_HEAD, CHUNKED_HEAD.replace(b"/echo", b"/nothing")])
def test_body_of_many_chunks_takes_turns(world: World, head: bytes) -> None:
    world.shared.clock = BusyClock()
    turns: list[int] = []

    def other() -> None:
        turns.append(len(world.served) or len(world.transport.sent))
        if len(turns) < 4:
            world.loop.call_soon(other)

    body = b"1\r\n1\r\n" + b"1\r\n \r\n" * 3 * CHUNKS_PER_READ_MAX + b"0\r\n\r\n"
    world.loop.call_soon(other)
    world.loop.call_soon(world.connection.data_received, head + body + get("/plain/a"))
    world.loop.call_soon(world.connection.eof_received)
    world.settle()
    refused = 0 if head == CHUNKED_HEAD else len(world.transport.writes[0])
    assert turns == [0, *[refused] * 3]
    assert statuses(world.transport.sent) == [200 if head == CHUNKED_HEAD else 404, 200]


def test_input_while_a_pipeline_rests_is_bounded(world: World) -> None:
    served = add_slow(world)
    world.loop.call_soon(world.connection.data_received, get("/slow/a") + get("/slow/b"))
    world.loop.call_soon(world.connection.data_received, get("/slow/c") * (READ_AHEAD_BYTES_MAX // 20))
    world.loop.call_soon(world.loop.stop)
    world.loop.run_forever()
    assert served == ["a"]
    assert not world.transport.reading
    for _ in range(READ_AHEAD_BYTES_MAX // 20):
        world.settle()
    assert served[:3] == ["a", "b", "c"]
    assert len(served) == 2 + READ_AHEAD_BYTES_MAX // 20
    assert world.transport.reading
    assert world.connection.phase == HEAD


def test_resting_pipeline_is_answered_after_a_half_close(world: World) -> None:
    served = add_slow(world)
    world.loop.call_soon(world.connection.data_received, b"".join(get(f"/slow/{name}") for name in "abc"))
    world.loop.call_soon(world.connection.eof_received)
    world.loop.call_soon(world.connection.check_deadlines, world.clock.monotonic_s() + 3_600)
    world.settle()
    assert served == ["a", "b", "c"]
    assert statuses(world.transport.sent) == [200, 200, 200]
    assert world.transport.closing


def test_requests_behind_one_that_waits_keep_their_order(world: World) -> None:
    sent = world.send(get("/plain/a") + get("/waiting/b") + get("/plain/c") + get("/waiting/d"))
    assert [answer.body for answer in answers(sent)] == [b'{"plain":"a"}']
    assert len(world.served) == 2
    before = len(world.transport.sent)
    world.release()
    sent = world.transport.sent[before:]
    assert [answer.body for answer in answers(sent)] == [b'{"waited":"b","for":"it"}', b'{"plain":"c"}']
    world.release("that")
    assert answers(world.transport.sent)[-1].body == b'{"waited":"d","for":"that"}'
    assert world.connection.phase == HEAD


def test_handler_that_does_not_wait_answers_at_once(world: World) -> None:
    sent: list[bytes] = []

    def receive() -> None:
        world.connection.data_received(get("/plain/a"))
        sent.append(world.transport.sent)

    world.call(receive)
    assert statuses(sent[0]) == [200]


def test_late_cancel_of_a_handler_touches_no_other(world: World) -> None:
    kept: list[asyncio.Task[object] | None] = []

    async def keeping(request: Request) -> None:
        kept.append(asyncio.current_task())

    world.router.add("/keeping", ["GET"], keeping)
    world.send(get("/keeping"))
    (task,) = kept
    assert task is not None
    task.cancel()
    world.send(get("/waiting/a"))
    world.release()
    assert statuses(world.transport.sent) == [204, 200]


def test_request_byte_by_byte_is_answered_once(world: World) -> None:
    message = post("/echo", b'{"a":1}')
    parts = [world.send(message[i : i + 1]) for i in range(len(message))]
    assert b"".join(parts[:-1]) == b""
    assert answers(parts[-1])[0].body == b'{"a":1}'


# Connection: close, HTTP/1.0


@pytest.mark.parametrize(
    ("request_bytes", "kept"),
    [
        (get("/plain/a"), True),
        (get("/plain/a", "Connection: close"), False),
        (get("/plain/a", "Connection: keep-alive, close"), False),
        (get("/plain/a", version="1.0"), False),
        (get("/plain/a", "Connection: keep-alive", version="1.0"), True),
    ],
)
def test_connection_is_kept_as_the_client_asks(world: World, request_bytes: bytes, kept: bool) -> None:
    (answer,) = answers(world.send(request_bytes))
    assert answer.headers["connection"] == ("keep-alive" if kept else "close")
    assert answer.headers.get("keep-alive") == ("timeout=75" if kept else None)
    assert world.transport.ended == (not kept)


def test_nothing_behind_the_last_request_is_answered(world: World) -> None:
    sent = world.send(get("/plain/a", "Connection: close") + get("/plain/b"))
    assert len(answers(sent)) == 1
    assert world.send(get("/plain/c")) == b""
    assert len(world.served) == 1


# HEAD


def test_head_has_the_head_of_get_and_no_body(world: World) -> None:
    (got,) = answers(world.send(get("/plain/a")))
    (head,) = answers(world.send(get("/plain/a", method="HEAD")), "HEAD")
    assert head.headers == got.headers
    assert head.body == b""


def test_error_to_head_has_no_body_either(world: World) -> None:
    sent = world.send(get("/nowhere", method="HEAD") + get("/plain/a"))
    assert statuses(sent, "HEAD", "GET") == [404, 200]


# Errors


def test_failing_handler_is_a_500_with_the_id_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        first, second = answers(world.send(get("/broken") + get("/plain/a")))
    assert (first.status, second.status) == (500, 200)
    assert b'"id":"error-1"' in first.body
    assert b"secret" not in first.body
    assert "error-1" in caplog.text
    assert "a secret of the handler" in caplog.text
    assert world.shared.stats.handler_failures == 1


def test_request_behind_a_failed_handler_is_served(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.send(get("/waiting/a") + get("/plain/b"))
    world.waiting.pop().set_exception(RuntimeError("late"))
    world.settle()
    assert statuses(world.transport.sent) == [500, 200]
    assert "late" in caplog.text


@pytest.mark.parametrize("waits", [False, True])
def test_handler_that_is_cancelled_is_a_500(
    world: World, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def cancelled(request: Request) -> None:
        if waits:
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    world.router.add("/cancelled", ["GET"], cancelled)
    assert statuses(world.send(get("/cancelled") + get("/plain/a"))) == [500, 200]
    assert "error-1" in caplog.text


@pytest.mark.parametrize("close", [False, True])
def test_callers_error_is_sent_in_full(world: World, close: bool) -> None:
    async def refusing(request: Request) -> None:
        raise CallerError(
            429, "too_many", "Too many.", suggestion="Wait.", headers=(("Retry-After", "7"),), close=close
        )

    world.router.add("/refusing", ["GET"], refusing)
    (answer,) = answers(world.send(get("/refusing")))
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.headers["content-type"] == "application/problem+json"
    assert b'"suggestion":"Wait."' in answer.body
    assert world.transport.ended == close


@pytest.mark.parametrize(
    "result",
    [
        Response(headers=(("X-Name", "a\r\nSet-Cookie: b"),)),
        Response(headers=(("Content-Length", "5"),)),
        Response(status=204, body=b"x"),
        Response(status=100),
        "text",
        {"a": object()},
        StreamingResponse(AsyncIterator, headers=(("X", "\0"),)),  # type: ignore[arg-type]
    ],
)
def test_unsendable_result_is_a_500_and_never_sent(
    world: World, result: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def wrong(request: Request) -> object:
        return result

    world.router.add("/wrong", ["GET"], wrong)
    sent = world.send(get("/wrong") + get("/plain/a"))
    assert statuses(sent) == [500, 200]
    assert b"Set-Cookie" not in sent
    assert "error-1" in caplog.text


# Cross-origin reading


def test_pages_of_any_origin_may_read_what_get_answers(world: World) -> None:
    got, head, failed, posted = answers(
        world.send(get("/plain/a") + get("/plain/a", method="HEAD") + get("/broken") + post("/echo", b"{}")),
        "GET",
        "HEAD",
    )
    for answer in (got, head, failed):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in posted.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/nowhere", (), 404),
        ("/plain/%", (), 400),
        ("/plain/a#b", (), 400),
        ("/plain/a", ("Expect: a-miracle",), 417),
        ("/plain/a", (f"Content-Length: {10**9}",), 413),
    ],
)
def test_pages_of_any_origin_may_read_refusals_of_get(
    world: World, method: str, path: str, fields: tuple[str, ...], status: int
) -> None:
    (answer,) = answers(world.send(get(path, *fields, method=method)), method)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/echo"), 405),
        (get("/plain/a", method="POST"), 405),
        (get("/nowhere", method="POST"), 404),
        (get("/nowhere", method="BREW"), 501),
        (get("/closed", "Expect: a-miracle"), 417),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_pages_of_other_origins_may_read_no_other_refusal(
    world: World, request_bytes: bytes, status: int
) -> None:
    async def closed(request: Request) -> None: ...

    world.router.add("/closed", ["GET"], closed, cors=False)
    (answer,) = answers(world.send(request_bytes))
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers


# Bodies that nobody wants


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post("/nowhere", get("/plain/smuggled")), 404),
        (post("/plain/a", get("/plain/smuggled")), 405),
        (post("/echo", get("/plain/smuggled"), content_type="text/plain"), 415),
        (post("/echo", get("/plain/smuggled"), content_type=""), 415),
        (post("/nowhere", get("/plain/smuggled")).replace(b"POST", b"BREW"), 501),
        (post("/echo", get("/plain/smuggled"), "Expect: a-miracle"), 417),
    ],
)
def test_body_of_a_refused_request_is_never_a_request(
    world: World, request_bytes: bytes, status: int
) -> None:
    assert statuses(world.send(request_bytes + get("/plain/next"))) == [status, 200]
    assert [request.path for request in world.served] == ["/plain/next"]


def test_body_of_a_refused_request_may_come_later(world: World) -> None:
    message = post("/nowhere", get("/plain/smuggled"))
    head, body = message[:-30], message[-30:]
    assert statuses(world.send(head)) == [404]
    assert world.send(body) == b""
    assert statuses(world.send(get("/plain/next"))) == [200]


def test_body_of_a_refused_request_must_come_in_time(world: World) -> None:
    world.send(post("/nowhere", b"12345")[:-1])
    world.wait(19)
    assert not world.transport.closing
    world.wait(1)
    assert world.transport.closing
    assert len(answers(world.transport.sent)) == 1


def test_refused_body_in_chunks_is_read_up_to_the_limit() -> None:
    world = World(EngineLimits(body_bytes_max=2000))
    head = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(world.send(head)) == [404]
    assert world.send(b"7d1\r\n" + b"x" * 100) == b""
    assert world.transport.ended
    world.close()


def test_body_where_none_is_wanted_is_read_and_ignored(world: World) -> None:
    sent = world.send(post("/plain/a", b"ignored").replace(b"POST", b"GET") + get("/plain/b"))
    assert statuses(sent) == [200, 200]
    assert world.served[0].body == b""


# Body limits and 100-continue


def test_body_above_the_limit_of_its_route_is_refused_unread(world: World) -> None:
    head = post("/echo", b"x" * 1001)[:-1001]
    (answer,) = answers(world.send(head))
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert world.transport.ended
    assert world.send(b"x" * 1001 + get("/plain/a")) == b""


def test_chunks_above_the_limit_of_the_route_are_refused(world: World) -> None:
    assert world.send(CHUNKED_HEAD + b"3e8\r\n" + b"x" * 1000 + b"\r\n") == b""
    assert statuses(world.send(b"1\r\n")) == [413]
    assert world.transport.ended


def test_100_continue_is_sent_only_if_the_client_waits(world: World) -> None:
    message = post("/echo", b'{"a":1}', "Expect: 100-continue")
    assert world.send(message[:-7]) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert statuses(world.send(message[-7:])) == [200]
    assert statuses(world.send(message)) == [200]
    assert statuses(world.send(message[:-6])) == []
    assert statuses(world.send(message[-6:])) == [200]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (post("/nowhere", b"{}", "Expect: 100-continue"), 404),
        (post("/plain/a", b"{}", "Expect: 100-continue"), 405),
        (post("/echo", b"{}", "Expect: 100-continue", content_type="text/plain"), 415),
        (post("/echo", b"x" * 1001, "Expect: 100-continue"), 413),
        (post("/echo", b"{}", "Expect: 200-ok"), 417),
    ],
)
def test_unacceptable_head_is_refused_instead_of_100(world: World, message: bytes, status: int) -> None:
    head = message[: message.index(b"\r\n\r\n") + 4]
    assert statuses(world.send(head)) == [status]


def test_http_1_0_client_never_gets_a_100(world: World) -> None:
    message = post("/echo", b"{}", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert world.send(message[:-2]) == b""
    assert statuses(world.send(message[-2:])) == [200]


# The end of a connection


def test_garbage_behind_a_request_is_refused_after_its_answer(world: World) -> None:
    sent = world.send(get("/plain/a") + b"\x16\x03\x01 garbage\r\n\r\n")
    assert statuses(sent) == [200, 400]
    assert len(world.transport.writes) == 1
    assert world.transport.ended


def test_garbage_behind_a_waiting_request_is_refused_later(world: World) -> None:
    world.send(get("/waiting/a") + b"garbage\r\n\r\n")
    world.release()
    assert statuses(world.transport.sent) == [200, 400]


def test_after_a_framing_error_nothing_is_parsed(world: World) -> None:
    world.send(b"GET / HTTP/1.1\nHost: a\n\n")
    assert world.transport.ended
    assert world.send(get("/plain/a")) == b""
    assert world.served == []


def test_connection_lingers_after_the_last_answer(world: World) -> None:
    world.send(b"nonsense\r\n\r\n")
    assert world.connection.phase == LINGER
    assert not world.transport.closing
    world.wait(1)
    assert not world.transport.closing
    world.wait(1)
    assert world.transport.closing
    assert world.connection.phase == LOST
    assert world.shared.gate.open == 0


def test_lingering_input_is_bounded(world: World) -> None:
    world.send(b"nonsense\r\n\r\n")
    world.send(b"x" * (256 * 1024))
    assert not world.transport.closing
    world.send(b"x")
    assert world.transport.closing


def test_client_that_closes_ends_the_lingering(world: World) -> None:
    world.send(b"nonsense\r\n\r\n")
    world.send_eof()
    assert world.connection.phase == LOST


def test_tls_connection_closes_instead_of_half_closing() -> None:
    world = World(tls=True)
    assert statuses(world.send(b"nonsense\r\n\r\n")) == [400]
    assert world.transport.closing
    world.close()


def test_tls_serves_https_addresses_only() -> None:
    world = World(tls=True)
    assert statuses(world.send(get("https://test/plain/a"))) == [200]
    assert statuses(world.send(get("http://test/plain/b"))) == [421]
    assert [request.path for request in world.served] == ["/plain/a"]
    assert world.transport.closing
    world.close()


def test_client_that_half_closes_gets_its_answer(world: World) -> None:
    world.send(get("/waiting/a") + get("/plain/b"))
    world.send_eof()
    assert not world.transport.closing
    world.release()
    first, second = answers(world.transport.sent)
    assert (first.headers["connection"], second.headers["connection"]) == ("keep-alive", "close")
    assert world.connection.phase == LOST


def test_client_that_half_closes_between_requests_is_closed(world: World) -> None:
    world.send(get("/plain/a"))
    world.send_eof()
    assert world.connection.phase == LOST


@pytest.mark.parametrize("message", [get("/plain/a")[:-1], post("/echo", b"{}")[:-1]])
def test_truncated_request_runs_no_handler_and_is_a_400(world: World, message: bytes) -> None:
    assert world.send(message) == b""
    world.send_eof()
    assert statuses(world.transport.sent) == [400]
    assert world.served == []
    assert world.connection.phase == LOST


def test_handler_runs_to_its_end_without_its_client(world: World) -> None:
    world.send(get("/waiting/a"))
    world.call(world.connection.connection_lost, None)
    assert world.connection.phase == LOST
    assert world.shared.gate.open == 1
    world.wait(100)
    world.release()
    assert world.shared.gate.open == 0
    assert world.transport.sent == b""


def test_handler_that_waits_is_told_that_its_client_is_lost(world: World) -> None:
    world.send(get("/leaving/a"))
    assert (world.told, world.shared.gate.open) == ([], 1)
    world.call(world.connection.connection_lost, None)
    assert (world.told, world.shared.gate.open) == (["a"], 0)
    assert world.transport.sent == b""


def test_handler_that_waits_is_told_of_a_half_close_and_answers(world: World) -> None:
    world.send(get("/leaving/a"))
    world.send_eof()
    assert statuses(world.transport.sent) == [200]
    assert (world.connection.phase, world.shared.gate.open) == (LOST, 0)


def test_handler_that_begins_after_a_half_close_is_told_at_once(world: World) -> None:
    world.send(get("/waiting/a") + get("/leaving/b"))
    world.send_eof()
    assert world.told == []
    world.release()
    assert statuses(world.transport.sent) == [200, 200]
    assert (world.told, world.connection.phase) == (["b"], LOST)


def test_handler_is_not_told_of_the_end_behind_its_answer(world: World) -> None:
    for name in "ab":
        world.send(get(f"/waiting/{name}"))
        world.served[-1].on_input_end = lambda: world.told.append("late")
        world.release()
    world.send_eof()
    assert world.told == []


def test_failure_is_logged_even_if_the_client_left(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.send(get("/waiting/a"))
    world.call(world.connection.connection_lost, None)
    world.waiting.pop().set_exception(RuntimeError("unseen"))
    world.settle()
    assert "unseen" in caplog.text
    assert world.shared.gate.open == 0


# Draining


def test_drain_closes_an_idle_connection(world: World) -> None:
    world.send(get("/plain/a"))
    world.shared.draining = True
    world.call(world.connection.drain)
    assert world.connection.phase == LOST


def test_drain_lets_a_handler_finish_and_closes_then(world: World) -> None:
    world.send(get("/waiting/a"))
    world.shared.draining = True
    world.call(world.connection.drain)
    assert world.connection.phase == HANDLER
    world.release()
    (answer,) = answers(world.transport.sent)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert world.transport.ended


def test_drain_answers_a_request_that_is_coming_in(world: World) -> None:
    message = post("/echo", b"{}")
    world.send(message[:10])
    world.shared.draining = True
    world.call(world.connection.drain)
    world.send(message[10:20])
    (answer,) = answers(world.send(message[20:]))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_drain_closes_a_connection_after_an_unwanted_body(world: World) -> None:
    message = post("/nowhere", b"12345")
    (answer,) = answers(world.send(message[:-1]))
    assert answer.headers["connection"] == "keep-alive"
    world.shared.draining = True
    world.call(world.connection.drain)
    assert world.connection.phase == BODY
    world.send(message[-1:])
    assert world.connection.phase == LOST
    assert not world.transport.aborted


def test_drain_answers_a_request_behind_an_unwanted_body(world: World) -> None:
    message = post("/nowhere", b"12345")
    world.send(message[:-1])
    world.shared.draining = True
    world.call(world.connection.drain)
    (answer,) = answers(world.send(message[-1:] + get("/plain/a")))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_drain_closes_a_connection_whose_stream_just_ended(world: World) -> None:
    async def last_piece() -> AsyncIterator[bytes]:
        yield b"piece"
        world.shared.draining = True
        # Comes when the stream is done, and before the connection is told so.
        world.loop.call_soon(world.connection.drain)

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(last_piece())

    world.router.add("/stream", ["GET"], stream)
    (answer,) = answers(world.send(get("/stream")))
    assert answer.body == b"piece"
    assert world.connection.phase == LOST
    assert not world.transport.aborted


# Any bytes

PIECES = st.one_of(
    st.sampled_from(
        [
            get("/plain/a"),
            get("/plain/b", method="HEAD"),
            get("/nowhere"),
            get("/broken"),
            get("/plain/c", "Connection: close"),
            post("/echo", b'{"a":[1]}'),
            post("/echo", b"not json"),
            post("/nowhere", b"body"),
            CHUNKED_HEAD,
            b"2\r\n{}\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\n",
            b"\r\n",
        ]
    ),
    st.binary(max_size=20),
)


@given(
    pieces=st.lists(PIECES, max_size=6), cuts=st.lists(st.integers(0, 400), max_size=4), ends=st.booleans()
)
def test_any_bytes_are_answered_alike_however_split(pieces: list[bytes], cuts: list[int], ends: bool) -> None:
    data = b"".join(pieces)
    outcomes = []
    for places in ([], sorted({cut % (len(data) + 1) for cut in cuts}), range(len(data))):
        world = World()
        for start, end in zip([0, *places], [*places, len(data)], strict=True):
            if end > start:
                world.send(data[start:end])
        if ends:
            world.send_eof()
        found = statuses(world.transport.sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), *heads(world))
        outcomes.append((found, world.transport.ended or world.transport.closing))
        assert len(found) <= world.shared.stats.requests + 1
        assert world.connection.phase in (HEAD, BODY, HANDLER, LINGER, LOST)
        world.wait(120)
        assert world.connection.phase == LOST, "the connection stayed open"
        assert world.shared.gate.open == 0
        world.transport = FakeTransport(world.loop)
        world.connection = world.connect(world.transport)
        assert statuses(world.send(get("/plain/z"))) == [200]
        world.close()
    assert outcomes[0] == outcomes[1] == outcomes[2]


def heads(world: World) -> list[str]:
    """Return the methods of the requests, HEAD where an answer has no body."""
    methods = []
    rest = world.transport.sent
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]) if b"Content-Length" in head else 0
        bodyless = rest == b"" or rest.startswith(b"HTTP/1.1 ")
        methods.append("HEAD" if bodyless and length else "GET")
        rest = rest if bodyless else rest[length:]
    return methods


def test_closing_connection_is_reset_if_the_client_reads_nothing(world: World) -> None:
    world.transport.client_reads = False
    world.send(get("/plain/a", "Connection: close"))
    world.send(b"x" * (256 * 1024 + 1))
    assert world.connection.phase == CLOSING
    world.wait(28)
    assert not world.transport.aborted
    world.wait(3)
    assert world.transport.aborted


def test_input_while_a_handler_works_is_bounded(world: World) -> None:
    world.send(get("/waiting/a"))
    world.send(b"x" * READ_AHEAD_BYTES_MAX)
    assert world.transport.reading
    world.send(b"x")
    assert not world.transport.reading


# Bodies that nobody reads, and what all connections hold

LONG = 1024 * 1024


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (get("/plain/a", f"Content-Length: {LONG}"), 200),
        (get("/nothing", f"Content-Length: {LONG}"), 404),
        (get("/plain/a", f"Content-Length: {LONG}", method="PUT"), 405),
    ],
)
def test_unwanted_body_is_thrown_away_as_it_comes(world: World, head: bytes, status: int) -> None:
    world.send(head)
    for _ in range(LONG // 2**16):
        assert world.connection.parser.unread_bytes == 0
        world.send(b"x" * 2**16)
    assert statuses(world.transport.sent) == [status]
    assert [request.body for request in world.served] == [b""] * (status == 200)
    assert statuses(world.send(get("/plain/b"))) == [200]


@pytest.mark.parametrize("path", ["/plain/a", "/nothing"])
def test_unwanted_body_in_chunks_is_thrown_away(world: World, path: str) -> None:
    world.send(get(path, "Transfer-Encoding: chunked") + b"80000\r\n")
    for _ in range(8):
        world.send(b"x" * 2**16)
        assert world.connection.parser.unread_bytes == 0
    world.send(b"\r\n0\r\n\r\n" + get("/plain/b"))
    assert len(answers(world.transport.sent)) == 2


def test_unread_bytes_are_counted_until_read(world: World) -> None:
    whole = post("/echo", b'"' + b"a" * 998 + b'"')
    world.send(whole[:-1])
    assert world.shared.unread_bytes == 0, "the first bytes of each connection are free"
    world.send(whole[-1:] + get("/waiting/a") + get("/plain/b") * 1000)
    counted = 1000 * len(get("/plain/b")) - UNREAD_BYTES_FREE
    assert world.shared.unread_bytes == counted
    world.release()
    assert world.shared.unread_bytes == 0
    world.send(get("/waiting/a") + get("/plain/b") * 1000)
    assert world.shared.unread_bytes == counted
    world.transport.abort()
    world.settle()
    assert world.shared.unread_bytes == 0


def test_unread_bytes_of_all_connections_are_bounded(world: World) -> None:
    world.shared.unread_bytes = UNREAD_BYTES_MAX
    assert statuses(world.send(get("/plain/a") * 1000)) == [200] * 1000
    whole = get("/plain/a", *(f"X-{number}: {'a' * 1000}" for number in range(9)))
    assert statuses(world.send(whole)) == [200]
    assert statuses(world.send(whole[:UNREAD_BYTES_FREE])) == []
    (answer,) = answers(world.send(whole[UNREAD_BYTES_FREE:-1]))
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert b"too_many_connections" in answer.body
    assert world.connection.phase == LINGER
    assert world.shared.unread_bytes == UNREAD_BYTES_MAX
    assert world.shared.stats.connections_refused == 1


def test_unread_bytes_of_all_bound_pipelines_too(world: World) -> None:
    world.shared.unread_bytes = UNREAD_BYTES_MAX
    world.send(get("/waiting/a"))
    world.send(get("/plain/a") * 10)
    assert not world.transport.aborted
    world.send(get("/plain/a") * 1000)
    assert world.transport.aborted
    assert world.shared.unread_bytes == UNREAD_BYTES_MAX


def test_lingering_connection_holds_nothing(world: World) -> None:
    world.send(post("/echo", b'"' + b"a" * 998 + b'"')[:-1])
    world.wait(21)
    assert statuses(world.transport.sent) == [408]
    assert (world.connection.phase, world.connection.parser.unread_bytes) == (LINGER, 0)

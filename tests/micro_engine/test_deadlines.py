"""Deadlines, back-pressure and the end of a connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openred_central.micro_engine.connection import BODY, HEAD, LINGER, LOST
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Request, Response

from .harness import World, answers, get, post


@pytest.fixture
def world() -> Iterator[World]:
    made = World()

    async def large(request: Request) -> Response:
        made.served.append(request)
        return Response(b"x" * 60_000, content_type="text/plain")

    made.router.add("/large", ["GET"], large)
    yield made
    made.close()


def last(world: World) -> tuple[int, str]:
    answer = answers(world.transport.sent)[-1]
    return answer.status, answer.headers["connection"]


# Deadlines


def test_silent_client_gets_a_408_after_ten_seconds(world: World) -> None:
    world.wait(9)
    assert world.transport.sent == b""
    world.wait(1)
    assert last(world) == (408, "close")
    assert world.transport.ended


def test_first_head_has_ten_seconds_from_connecting(world: World) -> None:
    world.wait(5)
    world.send(b"GET /plain/a")
    world.wait(4)
    assert world.transport.sent == b""
    world.wait(1)
    assert last(world) == (408, "close")


def test_later_head_has_ten_seconds_from_its_first_byte(world: World) -> None:
    world.send(get("/plain/a"))
    world.wait(60)
    for byte in b"GET /plai":
        world.send(bytes([byte]))
        world.wait(1)
    assert len(answers(world.transport.sent)) == 1
    world.wait(1)
    assert last(world) == (408, "close")


def test_time_of_a_head_begins_anew_with_each_request(world: World) -> None:
    message = get("/plain/a")
    world.send(message + message[:5])
    world.wait(8)
    world.send(message[5:] + message[:5])
    world.wait(8)
    assert world.connection.phase == HEAD
    world.wait(2)
    assert last(world) == (408, "close")


def test_body_has_twenty_seconds_from_its_head(world: World) -> None:
    message = post("/echo", b'{"abc":"' + b"x" * 100 + b'"}')
    world.send(message[:-100])
    for _ in range(19):
        world.wait(1)
        assert world.send(b"x") == b""
    world.wait(1)
    assert last(world) == (408, "close")
    assert world.served == []


def test_idle_connection_is_closed_after_75_seconds(world: World) -> None:
    world.send(get("/plain/a"))
    sent = world.transport.sent
    world.wait(74)
    assert world.connection.phase == HEAD
    world.wait(1)
    assert world.connection.phase == LOST
    assert world.transport.sent == sent
    assert not world.transport.aborted


def test_each_request_renews_the_idle_time(world: World) -> None:
    for _ in range(3):
        world.send(get("/plain/a"))
        world.wait(70)
    assert world.connection.phase == HEAD


def test_handler_has_no_deadline(world: World) -> None:
    world.send(get("/waiting/a"))
    world.wait(500)
    world.release()
    assert last(world) == (200, "keep-alive")
    world.wait(74)
    assert world.connection.phase == HEAD
    world.wait(1)
    assert world.connection.phase == LOST


def test_client_that_reads_nothing_for_thirty_seconds_is_reset(world: World) -> None:
    world.transport.client_reads = False
    world.send(get("/large"))
    assert world.transport.unsent < world.transport.high
    world.wait(29)
    assert not world.transport.aborted
    world.wait(2)
    assert world.transport.aborted
    assert world.shared.stats.connections_reset == 1


def test_client_that_reads_slowly_is_not_reset(world: World) -> None:
    world.transport.client_reads = False
    world.send(get("/large"))
    for _ in range(4):
        world.wait(15)
        world.transport.take(100)
    assert not world.transport.aborted


def test_lingering_begins_when_the_client_has_its_answer(world: World) -> None:
    world.transport.client_reads = False
    world.send(get("/large", "Connection: close"))
    for _ in range(10):
        world.wait(1)
        world.transport.take(100)
    assert world.connection.phase == LINGER
    world.transport.take(100_000)
    world.wait(3)
    assert world.connection.phase == LOST
    assert not world.transport.aborted


def test_unfinished_tls_close_ends_in_a_reset() -> None:
    world = World(tls=True)
    world.transport.client_reads = False
    world.send(get("/plain/a", "Connection: close"))
    assert world.transport.closing
    world.transport.unsent = 0
    world.wait(1)
    assert not world.transport.aborted
    world.wait(1)
    assert world.transport.aborted
    world.close()


def test_head_behind_a_split_empty_line_has_its_own_time(world: World) -> None:
    world.send(get("/plain/a"))
    for piece in (b"\r", b"\n", b"GET /plain/b"):
        world.send(piece)
    world.wait(EngineLimits().head_timeout_s)
    assert last(world) == (408, "close")


@pytest.mark.parametrize(("allowed_s", "told"), [(1, b"within 1 second."), (2, b"within 2 seconds.")])
def test_408_names_the_time_allowed(allowed_s: int, told: bytes) -> None:
    world = World(EngineLimits(head_timeout_s=allowed_s))
    world.send(b"GET /plain/a")
    world.wait(allowed_s)
    sent = bytes(world.transport.sent)
    world.close()
    assert told in sent


# Back-pressure


def test_unread_pipeline_stops_being_parsed_and_read(world: World) -> None:
    world.transport.client_reads = False
    world.send(get("/large") * 50)
    assert len(world.served) == 2
    assert not world.transport.reading
    assert world.transport.unsent < 2 * 64 * 1024


def test_when_the_client_reads_again_the_pipeline_goes_on(world: World) -> None:
    world.transport.client_reads = False
    world.send(get("/large") * 5)
    turns = 0
    while world.transport.unsent:
        world.call(world.transport.take, 200_000)
        turns += 1
        assert turns < 10
    assert [answer.status for answer in answers(world.transport.sent)] == [200] * 5
    assert world.transport.reading


def test_no_deadline_runs_while_the_client_is_kept_from_sending(world: World) -> None:
    world.transport.client_reads = False
    world.send(get("/large") * 2 + post("/echo", b"{}")[:-1])
    for _ in range(10):
        world.wait(10)
        world.transport.take(1)
    assert world.connection.phase == HEAD
    world.call(world.transport.take, 200_000)
    assert world.connection.phase == BODY
    world.transport.client_reads = True
    world.wait(19)
    assert world.connection.phase == BODY
    world.wait(1)
    assert last(world) == (408, "close")


def test_reading_resumes_after_a_handler(world: World) -> None:
    world.send(get("/waiting/a") + get("/plain/b") * 2000)
    assert not world.transport.reading
    world.release()
    assert world.transport.reading
    assert len(answers(world.transport.sent)) == 2001


def test_paused_writing_renews_the_time_of_a_body(world: World) -> None:
    world.send(post("/echo", b"{}")[:-1])
    world.wait(15)
    world.call(world.connection.pause_writing)
    world.wait(15)
    world.call(world.connection.resume_writing)
    world.wait(15)
    assert world.connection.phase == BODY
    assert answers(world.send(b"}"))[0].status == 200


def test_thrown_away_body_pauses_like_any_other_input(world: World) -> None:
    world.send(post("/nowhere", b"12")[:-1])
    assert world.connection.phase == BODY
    world.call(world.connection.pause_writing)
    assert not world.transport.reading
    world.call(world.connection.resume_writing)
    assert world.transport.reading


# Being cut


def test_cutting_ends_the_handler_and_the_connection(world: World) -> None:
    world.send(get("/waiting/a"))
    world.call(world.connection.cut)
    assert world.transport.aborted
    assert world.shared.gate.open == 0
    assert world.waiting[0].cancelled()
    # Nothing failed: no line of the log speaks of an internal error.
    assert world.shared.stats.handler_failures == 0
    assert world.shared.stats.responses == [0] * 6


def test_limits_are_those_of_the_engine() -> None:
    world = World(EngineLimits(head_timeout_s=3, linger_s=1))
    world.wait(2)
    assert world.transport.sent == b""
    world.wait(1)
    assert last(world) == (408, "close")
    world.wait(1)
    assert world.connection.phase == LOST
    world.close()

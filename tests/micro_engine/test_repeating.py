"""A client that repeats itself is answered by a shortcut, and cannot tell."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.errors import CallerError
from openred_central.micro_engine.connection import HEAD, LINGER
from openred_central.micro_engine.limits import EMPTY_LINES_MAX
from openred_central.micro_engine.shortcut import PIPELINED_MAX, Answer, Answered
from openred_central.micro_engine.wire.messages import Request

from .harness import World, answers, get, post


class Beats:
    """The route ``POST /beat/{name}``: what its handler answered, and what its shortcuts did."""

    def __init__(self, world: World, *, shortcuts: bool = True) -> None:
        self.handled: list[str] = []
        self.prepared: list[Request] = []
        self.taken: list[str] = []
        self.unprepared: set[str] = set()
        self.error: Exception | None = None
        prepare = self.prepare if shortcuts else None
        world.router.add("/beat/{name}", ["POST"], self.handle, prepare=prepare)

    async def handle(self, request: Request, name: str) -> dict[str, str]:
        self.handled.append(name)
        if name == "failing":
            raise CallerError(409, "failing", "It fails.")
        return {"beat": name}

    def prepare(self, request: Request) -> Answer | None:
        self.prepared.append(request)
        return None if "x-plain" in request.headers else self.answer

    def answer(self, name: str) -> Answered | None:
        if self.error is not None:
            raise self.error
        if name in self.unprepared or name == "failing":
            return None
        self.taken.append(name)
        headers = (("X-Long", "yes"),) if name == "long" else ()
        return b'{"beat":"%b"}' % name.encode(), headers


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def beats(world: World) -> Beats:
    return Beats(world)


def beat(name: str, *fields: str, version: str = "1.1", method: str = "POST") -> bytes:
    return get(f"/beat/{name}", *fields, method=method, version=version)


def repeat(world: World, *fields: str) -> bytes:
    """Send what lets a shortcut answer what comes next."""
    return world.send(beat("a", *fields)) + world.send(beat("b", *fields))


def test_the_third_of_equal_requests_is_answered_without_the_handler(world: World, beats: Beats) -> None:
    first = repeat(world)
    (answer,) = answers(world.send(beat("c")))
    assert (answer.status, answer.body) == (200, b'{"beat":"c"}')
    assert [each.headers for each in answers(first)] == [answer.headers] * 2
    assert (beats.handled, beats.taken) == (["a", "b"], ["c"])
    assert world.connection.phase == HEAD
    assert len(world.transport.writes) == 3


def test_an_answer_may_have_header_fields_of_its_own(world: World, beats: Beats) -> None:
    repeat(world)
    (answer,) = answers(world.send(beat("long")))
    assert answer.headers["x-long"] == "yes"
    (answer,) = answers(world.send(beat("c")))
    assert "x-long" not in answer.headers


def test_it_is_counted_as_every_other_answer(world: World, beats: Beats) -> None:
    sent = repeat(world) + world.send(beat("c")) + world.send(beat("d") + beat("e"))
    stats = world.shared.stats
    assert (stats.requests, stats.responses[2], stats.latency.count) == (5, 5, 5)
    (route,) = [route for route in world.router.routes() if route.template == "/beat/{name}"]
    assert route.responses[2] == 5
    assert stats.bytes_out == len(sent)
    assert stats.bytes_in == 5 * len(beat("a"))


def test_pipelined_requests_are_answered_in_order_with_one_write(world: World, beats: Beats) -> None:
    repeat(world)
    before = len(world.transport.writes)
    sent = world.send(b"".join(beat(f"n{number}") for number in range(5)))
    assert [answer.body for answer in answers(sent)] == [b'{"beat":"n%d"}' % number for number in range(5)]
    assert len(world.transport.writes) == before + 1
    assert len(beats.taken) == 5


def test_more_than_may_hold_up_others_go_the_usual_way(world: World, beats: Beats) -> None:
    repeat(world)
    count = PIPELINED_MAX + 1
    assert len(answers(world.send(beat("a") * count))) == count
    assert beats.taken == []


def test_what_only_the_handler_can_answer_it_answers(world: World, beats: Beats) -> None:
    repeat(world)
    beats.unprepared.add("x")
    assert [answer.body for answer in answers(world.send(beat("x")))] == [b'{"beat":"x"}']
    sent = world.send(beat("c") + beat("x") + beat("d"))
    assert [answer.body for answer in answers(sent)] == [b'{"beat":"c"}', b'{"beat":"x"}', b'{"beat":"d"}']
    assert (beats.taken, beats.handled) == (["c"], ["a", "b", "x", "x", "d"])
    (answer,) = answers(world.send(beat("failing")))
    assert answer.status == 409


def test_other_header_fields_are_another_request(world: World, beats: Beats) -> None:
    repeat(world)
    world.send(beat("c", "X-Other: 1"))
    assert beats.handled == ["a", "b", "c"]
    world.send(beat("d"))
    assert beats.taken == ["d"]


def test_a_client_that_changes_its_fields_for_good_gets_another_shortcut(world: World, beats: Beats) -> None:
    repeat(world)
    repeat(world, "X-Other: 1")
    world.send(beat("c", "X-Other: 1"))
    world.send(beat("d"))
    assert (beats.taken, len(beats.prepared)) == (["c"], 2)


def test_who_leaves_out_the_first_of_his_fields_gets_another_shortcut(world: World, beats: Beats) -> None:
    for name in "abcd":
        lines = ["X-Other: 1"] if name in "ab" else []
        request = "\r\n".join([f"POST /beat/{name} HTTP/1.1", *lines, "Host: test", "", ""])
        world.send(request.encode())
    world.send(beat("e"))
    assert (beats.taken, len(beats.prepared)) == (["e"], 2)


def test_nothing_is_prepared_anew_while_nothing_changes(world: World, beats: Beats) -> None:
    repeat(world)
    beats.unprepared.add("x")
    for _ in range(5):
        world.send(beat("x"))
    assert len(beats.prepared) == 1


@pytest.mark.parametrize(
    ("fields", "version"),
    [(["X-Plain: 1"], "1.1"), (["Connection: keep-alive"], "1.0")],
)
def test_some_always_go_the_usual_way(world: World, beats: Beats, fields: list[str], version: str) -> None:
    for name in "abcd":
        assert len(answers(world.send(beat(name, *fields, version=version)))) == 1
    assert (beats.handled, beats.taken) == (list("abcd"), [])


def test_what_was_enough_for_an_older_version_is_not_enough_for_this_one(world: World, beats: Beats) -> None:
    for name in "ab":
        world.send(b"POST /beat/%b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % name.encode())
    (answer,) = answers(world.send(b"POST /beat/c HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"))
    assert answer.status == 400


def test_the_answer_of_a_handler_that_waits_comes_first(world: World, beats: Beats) -> None:
    repeat(world)
    assert world.send(get("/waiting/x")) == b""
    assert world.send(beat("c")) == b""
    before = len(world.transport.sent)
    world.release()
    first, second = answers(world.transport.sent[before:])
    assert (first.body, second.body) == (b'{"waited":"x","for":"it"}', b'{"beat":"c"}')


def test_a_request_with_a_body_is_none_that_repeats(world: World, beats: Beats) -> None:
    for name in "abcd":
        world.send(post(f"/beat/{name}", b"{}"))
    assert (beats.handled, beats.taken) == (list("abcd"), [])


def test_a_literal_path_goes_before_the_parameter(world: World, beats: Beats) -> None:
    async def special(request: Request) -> dict[str, str]:
        return {"special": "yes"}

    world.router.add("/beat/special", ["POST"], special)
    repeat(world)
    (answer,) = answers(world.send(beat("special")))
    assert answer.body == b'{"special":"yes"}'


def test_whoever_observes_sees_every_exchange(world: World, beats: Beats) -> None:
    seen: list[str] = []
    world.shared.observe = lambda request, status, sent, took_s: seen.append(request.path)
    repeat(world)
    world.send(beat("c"))
    assert seen == ["/beat/a", "/beat/b", "/beat/c"]


def test_while_draining_the_answer_is_the_last(world: World, beats: Beats) -> None:
    repeat(world)
    world.shared.draining = True
    (answer,) = answers(world.send(beat("c")))
    assert answer.headers["connection"] == "close"
    assert world.connection.phase == LINGER


def test_behind_the_beginning_of_a_request_nothing_is_taken(world: World, beats: Beats) -> None:
    repeat(world)
    assert world.send(b"POST /beat/c HTTP/1.1\r\nHost: test\r\nX-Other: ") == b""
    # What comes now is the rest of a header section, whatever it looks like.
    (answer,) = answers(world.send(beat("d")))
    assert answer.status == 400
    assert beats.taken == []


def test_empty_lines_between_requests_do_not_add_up(world: World, beats: Beats) -> None:
    repeat(world)
    for _ in range(2 * EMPTY_LINES_MAX):
        assert world.send(b"\r\n") == b""
        (answer,) = answers(world.send(beat("c")))
        assert answer.status == 200
    world.send(beat("d"))
    assert beats.taken == ["d"]


def test_a_client_that_does_not_read_is_not_answered_further(world: World, beats: Beats) -> None:
    repeat(world)
    world.transport.client_reads = False
    count = 0
    while not world.transport.paused:
        count += 1
        world.send(beat("c"))
    assert world.send(beat("c")) == b""
    world.transport.take(10_000_000)
    assert len(answers(world.transport.sent)) == count + 3


def test_a_shortcut_that_fails_is_told_and_the_handler_answers(
    world: World, beats: Beats, caplog: pytest.LogCaptureFixture
) -> None:
    repeat(world)
    beats.error = RuntimeError("a bug of what was prepared")
    with caplog.at_level(logging.ERROR):
        (answer,) = answers(world.send(beat("c")))
    assert (answer.status, answer.body) == (200, b'{"beat":"c"}')
    assert "a bug of what was prepared" in caplog.text
    assert world.shared.stats.handler_failures == 1


def test_an_idle_connection_has_its_whole_time_after_a_shortcut(world: World, beats: Beats) -> None:
    repeat(world)
    world.wait(70)
    world.send(beat("c"))
    world.wait(70)
    assert not world.transport.closing
    world.wait(10)
    assert world.transport.closing


REQUESTS = st.sampled_from(
    [
        *(beat("a"), beat("b"), beat("failing"), beat("a", "X-Other: 1"), beat("a", "X-Plain: 1")),
        *(beat("a%41"), beat("a/b"), beat("a?q"), beat("a", version="1.0"), beat("a", method="GET")),
        *(beat("a", "Connection: close"), beat("a", "Expect: 100-continue"), post("/beat/a", b"{}")),
        *(get("/plain/a"), get("/waiting/a"), b"\r\n", b"x\r\n\r\n", beat(""), beat("a" * 300)),
    ]
)


@given(st.lists(st.lists(REQUESTS, min_size=1, max_size=3).map(b"".join), min_size=1, max_size=12))
def test_with_shortcuts_or_without_clients_get_the_same_bytes(pieces: list[bytes]) -> None:
    received = []
    for shortcuts in (True, False):
        world = World()
        Beats(world, shortcuts=shortcuts)
        for piece in pieces:
            if not world.transport.closing and not world.transport.ended:
                world.send(piece)
        while world.waiting:
            world.release()
        received.append((world.transport.sent, world.connection.phase, world.transport.ended))
        world.close()
    assert received[0] == received[1]

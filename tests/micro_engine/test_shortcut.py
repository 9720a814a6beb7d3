"""The fast path: a client that repeats itself is answered by a shortcut, and sees no difference."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.errors import CallerError
from openred_central.micro_engine.connection import HEAD, LINGER
from openred_central.micro_engine.limits import EMPTY_LINES_MAX, HEADER_FIELDS_MAX, EngineLimits
from openred_central.micro_engine.router import Answer, Answered, Route
from openred_central.micro_engine.shortcut import (
    IGNORED,
    PIPELINED_MAX,
    SECTION_BYTES_MAX,
    SECTIONS_MAX,
    SEGMENT_BYTES_MAX,
    learn,
    take,
)
from openred_central.micro_engine.wire.messages import Request
from openred_central.micro_engine.wire.parser import RequestParser
from openred_central.micro_engine.wire.protocol import ProtocolError

from .harness import FakeTransport, Observed, World, answers, get, post

BEGINNING = b"POST /beat/"
SECTION = b"Host: a\r\nX: y\r\n\r\n"
ENDING = b" HTTP/1.1\r\n" + SECTION


async def handler(request: Request, name: str) -> None: ...


def taken_from(data: bytes, *, answered: bool = True) -> list[str]:
    """Return the parameters of the requests in `data` that are answered; `ENDING` ends known ones."""
    names: list[str] = []

    def answer(name: str, peer: str) -> Answered | None:
        names.append(name)
        return (b"{}", ()) if answered else None

    world = World()
    world.router.add("/beat/{name}", ["POST"], handler, prepare=lambda request: answer)
    for _ in range(2):
        learn(Request("POST", "/beat/x"), next(iter(world.router.prepared.values())), SECTION, world.shared)
    rests: list[bytes | None] = []
    world.call(lambda: rests.append(take(data, "peer", world.shared, world.connection.out)))
    rest = rests[0]
    assert rest is not None
    assert len(answers(world.transport.sent)) == (len(names) if answered else 0)
    assert data.endswith(rest)
    world.close()
    return names


def request(segment: bytes) -> bytes:
    return BEGINNING + segment + ENDING


# Pieces of data that a shortcut nearly accepts.
PIECES = st.sampled_from(
    [
        *(BEGINNING, ENDING, SECTION, b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\n", b"\r", b" ", b""),
        *(b"n-1", b"n:2", b"/", b"?", b"?a=b", b"#", b"%41", b"%", b"\x00", b"\xe9", b"~", b"Host: b\r\n"),
        *(
            request(b"n-1"),
            request(b"n-2"),
            b"POST ",
            b"GET /beat/",
            b"X: y\r\n",
            b"Content-Length: 3\r\n\r\nabc",
        ),
    ]
)


def never(name: str, peer: str) -> None: ...


def read_some(data: bytes) -> list[str]:
    """Return the last segments of the first requests in `data` by the parser, as long as all is plain."""
    parser = RequestParser(EngineLimits())
    parser.feed(data)
    segments = []
    with suppress(ProtocolError):
        while (read := parser.read_head()) is not None:
            kept = [field for field in read.headers.fields if field[0].encode() not in IGNORED]
            beginning, _, segment = read.path.rpartition("/")
            if (
                (read.method, read.version, read.query, beginning) != ("POST", 11, "", "/beat")
                or kept != [("host", "a"), ("x", "y")]
                or read.content_length != 0
                or read.refusal is not None
            ):
                break
            segments.append(segment)
    return segments


@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_fast_path_accepts_only_what_the_parser_reads(data: bytes) -> None:
    names = taken_from(data)
    if names:
        assert read_some(data)[: len(names)] == names


@given(st.lists(st.from_regex(r"[A-Za-z0-9._~:-]{1,40}", fullmatch=True), min_size=1, max_size=5))
def test_fast_path_accepts_requests_that_repeat(segments: list[str]) -> None:
    assert taken_from(b"".join(request(segment.encode()) for segment in segments)) == segments


NOT_TAKEN = [
    b"",
    BEGINNING,
    ENDING,
    request(b""),
    request(b"a/b"),
    request(b"a%20b"),
    request(b"a?b=c"),
    request(b"a b"),
    request(b"caf\xc3\xa9"),
    request(b"a")[:-1],
    request(b"a").replace(b"POST", b"post"),
    request(b"a").replace(b"1.1", b"1.0"),
    request(b"a").replace(b"X: y", b"X: z"),
    request(b"x" * (SEGMENT_BYTES_MAX + 1)),
    BEGINNING + b"a HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", NOT_TAKEN, ids=repr)
def test_fast_path_accepts_nothing_else(data: bytes) -> None:
    assert taken_from(data) == []
    assert taken_from(request(b"n") + data) == ["n"]


def test_fast_path_accepts_a_bounded_number_at_once() -> None:
    assert len(taken_from(request(b"a") * (PIPELINED_MAX + 1))) == PIPELINED_MAX


def proxied(*lines: bytes) -> bytes:
    """Return a request with further header fields before the others."""
    return BEGINNING + b"n HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + SECTION


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_ignored_fields_decide_nothing(name: bytes) -> None:
    assert taken_from(proxied(name + b": 1, two; \xe9=\t3")) == ["n"]
    assert taken_from(proxied(name.upper() + b":", name.title() + b":x")) == ["n"]
    assert taken_from(proxied(name + b": 1") + request(b"m") + proxied(name + b": 2")) == ["n", "m", "n"]


@pytest.mark.parametrize(
    "lines",
    [
        [b"Via : 1"],
        [b" Via: 1"],
        [b"Via: 1\r\n folded"],
        [b"Via: \x00"],
        [b"Via: 1\n"],
        [b"Via: \r1"],
        [b"Via"],
        [b"Vi: 1"],
        [b"Via:"] * (HEADER_FIELDS_MAX - 1),
        [b"Via: " + b"1" * SECTION_BYTES_MAX],
    ],
    ids=repr,
)
def test_invalid_and_excessive_fields_are_left_to_the_parser(lines: list[bytes]) -> None:
    assert taken_from(proxied(*lines)) == []


IGNORED_LINES = st.builds(
    lambda name, gap, value: b"%b:%b%b\r\n" % (name, gap, value),
    st.sampled_from([b"Via", b"x-request-ID", b"X-Forwarded-For", b"Vi", b"Via ", b"", b" Via"]),
    st.sampled_from([b"", b" ", b"\t"]),
    st.sampled_from([b"", b"1", b"\x00", b"\r", b"\n", b"\xff", b"a: b", b"\x7f", b"\r\n"]),
)


@given(st.lists(IGNORED_LINES, max_size=4).map(b"".join), st.lists(IGNORED_LINES, max_size=2).map(b"".join))
def test_fast_path_accepts_ignored_fields_only_where_the_parser_does(before: bytes, after: bytes) -> None:
    data = BEGINNING + b"n HTTP/1.1\r\n" + before + b"Host: a\r\n" + after + b"X: y\r\n\r\n"
    if taken_from(data):
        assert read_some(data)[:1] == ["n"]


@given(IGNORED_LINES.map(lambda line: SECTION[:9] + line + SECTION[9:]))
def test_nothing_is_known_by_less_than_its_whole_section(section: bytes) -> None:
    """Also where what came first was refused: the parser would not have called `learn`."""
    assert taken_from(BEGINNING + b"n HTTP/1.1\r\n" + section.replace(b"Host: a", b"Host: b")) == []


def test_known_sections_are_bounded() -> None:
    world = World()
    route = Route("POST", "/beat/{name}", handler, "json", 1000, cors=False, prepare=lambda request: never)
    for number in range(SECTIONS_MAX + 10):
        for _ in range(2):
            learn(Request("POST", "/beat/x"), route, b"Host: a%d\r\n\r\n" % number, world.shared)
    assert len(route.known) == len(route.seen) == 10
    world.close()


class Beats:
    """The route ``POST /beat/{name}``: the names that its handler answered, and those of its shortcuts."""

    def __init__(self, world: World) -> None:
        self.handled: list[str] = []
        self.prepared: list[Request] = []
        self.taken: list[str] = []
        self.unprepared: set[str] = set()
        self.error: Exception | None = None
        self.broken: set[str] = set()
        world.router.add("/beat/{name}", ["POST"], self.handle, prepare=self.prepare)

    async def handle(self, request: Request, name: str) -> dict[str, str]:
        self.handled.append(name)
        if name == "failing":
            raise CallerError(409, "failing", "It fails.")
        return {"beat": name}

    def prepare(self, request: Request) -> Answer | None:
        self.prepared.append(request)
        return None if "x-plain" in request.headers else self.answer

    def answer(self, name: str, peer: str) -> Answered | None:
        if self.error is not None:
            raise self.error
        if name in self.broken:
            raise RuntimeError("a bug of what was prepared")
        if name in self.unprepared or name == "failing":
            return None
        self.taken.append(name)
        headers = (("X-Long", "yes"),) if name == "long" else ()
        return b'{"beat":"%b"}' % name.encode(), headers


@pytest.fixture
def beats(world: World) -> Beats:
    return Beats(world)


def beat(name: str, *fields: str, version: str = "1.1", method: str = "POST") -> bytes:
    return get(f"/beat/{name}", *fields, method=method, version=version)


def repeat(world: World, *fields: str) -> bytes:
    """Send two equal requests, so that a shortcut can answer the next."""
    return world.send(beat("a", *fields)) + world.send(beat("b", *fields))


def test_third_equal_request_skips_the_handler(world: World, beats: Beats) -> None:
    first = repeat(world)
    (answer,) = answers(world.send(beat("c")))
    assert (answer.status, answer.body) == (200, b'{"beat":"c"}')
    assert [each.headers for each in answers(first)] == [answer.headers] * 2
    assert (beats.handled, beats.taken) == (["a", "b"], ["c"])
    assert world.connection.phase == HEAD
    assert len(world.transport.writes) == 3


def test_prepared_answer_may_have_header_fields(world: World, beats: Beats) -> None:
    repeat(world)
    (answer,) = answers(world.send(beat("long")))
    assert answer.headers["x-long"] == "yes"
    (answer,) = answers(world.send(beat("c")))
    assert "x-long" not in answer.headers


def test_fast_answer_is_counted_like_any_other(world: World, beats: Beats) -> None:
    sent = repeat(world) + world.send(beat("c")) + world.send(beat("d") + beat("e"))
    stats = world.shared.stats
    assert (stats.requests, stats.responses[2], stats.latency.count) == (5, 5, 5)
    (route,) = [route for route in world.router.routes() if route.template == "/beat/{name}"]
    assert route.responses[2] == 5
    assert stats.bytes_out == len(sent)
    assert stats.bytes_in == 5 * len(beat("a"))


def test_pipelined_requests_get_one_write_in_order(world: World, beats: Beats) -> None:
    repeat(world)
    before = len(world.transport.writes)
    sent = world.send(b"".join(beat(f"n{number}") for number in range(5)))
    assert [answer.body for answer in answers(sent)] == [b'{"beat":"n%d"}' % number for number in range(5)]
    assert len(world.transport.writes) == before + 1
    assert len(beats.taken) == 5


def test_long_pipeline_is_fast_at_its_front(world: World, beats: Beats) -> None:
    repeat(world)
    count = PIPELINED_MAX + 5
    assert len(answers(world.send(beat("a") * count))) == count
    assert len(beats.taken) == PIPELINED_MAX


def test_new_connection_is_answered_fast_from_its_first_request(world: World, beats: Beats) -> None:
    repeat(world)
    other = FakeTransport(world.loop)
    world.call(world.connect(other).data_received, beat("c"))
    assert [answer.body for answer in answers(other.sent)] == [b'{"beat":"c"}']
    assert beats.taken == ["c"]


def test_signed_requests_are_neither_learned_nor_kept_from_their_handler(world: World, beats: Beats) -> None:
    for name in "abc":
        world.send(beat(name, "Signature-Input: sig1=();nonce=1"))
    assert (beats.handled, beats.taken, beats.prepared) == (list("abc"), [], [])
    (route,) = world.router.prepared.values()
    assert (route.known, route.seen) == ({}, set())


def test_fields_of_a_proxy_keep_requests_fast(world: World, beats: Beats) -> None:
    for number, name in enumerate("abcd"):
        world.send(beat(name, f"X-Request-Id: {number}", f"X-Forwarded-For: 192.0.2.{number}"))
    assert (beats.handled, beats.taken) == (["a", "b"], ["c", "d"])


def test_handler_answers_what_the_shortcut_leaves(world: World, beats: Beats) -> None:
    repeat(world)
    beats.unprepared.add("x")
    assert [answer.body for answer in answers(world.send(beat("x")))] == [b'{"beat":"x"}']
    sent = world.send(beat("c") + beat("x") + beat("d"))
    assert [answer.body for answer in answers(sent)] == [b'{"beat":"c"}', b'{"beat":"x"}', b'{"beat":"d"}']
    assert (beats.taken, beats.handled) == (["c"], ["a", "b", "x", "x", "d"])
    (answer,) = answers(world.send(beat("failing")))
    assert answer.status == 409


def test_other_header_fields_take_the_ordinary_way(world: World, beats: Beats) -> None:
    repeat(world)
    world.send(beat("c", "X-Other: 1"))
    assert beats.handled == ["a", "b", "c"]
    world.send(beat("d"))
    assert beats.taken == ["d"]


def test_changed_header_fields_get_another_shortcut(world: World, beats: Beats) -> None:
    repeat(world)
    repeat(world, "X-Other: 1")
    world.send(beat("c", "X-Other: 1"))
    world.send(beat("d"))
    assert (beats.taken, len(beats.prepared)) == (["c", "d"], 2)


def test_left_out_first_field_gets_another_shortcut(world: World, beats: Beats) -> None:
    for name in "abcd":
        lines = ["X-Other: 1"] if name in "ab" else []
        request = "\r\n".join([f"POST /beat/{name} HTTP/1.1", *lines, "Host: test", "", ""])
        world.send(request.encode())
    world.send(beat("e"))
    assert (beats.taken, len(beats.prepared)) == (["e"], 2)


def test_nothing_is_prepared_anew_without_a_change(world: World, beats: Beats) -> None:
    repeat(world)
    beats.unprepared.add("x")
    for _ in range(5):
        world.send(beat("x"))
    assert len(beats.prepared) == 1


@pytest.mark.parametrize(
    ("fields", "version"),
    [(["X-Plain: 1"], "1.1"), (["Connection: keep-alive"], "1.0")],
)
def test_unprepared_requests_take_the_ordinary_way(
    world: World, beats: Beats, fields: list[str], version: str
) -> None:
    for name in "abcd":
        assert len(answers(world.send(beat(name, *fields, version=version)))) == 1
    assert (beats.handled, beats.taken) == (list("abcd"), [])


def test_section_without_host_is_refused_in_http_1_1(world: World, beats: Beats) -> None:
    for name in "ab":
        world.send(b"POST /beat/%b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % name.encode())
    (answer,) = answers(world.send(b"POST /beat/c HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"))
    assert answer.status == 400


def test_long_sections_make_no_other_known(world: World, beats: Beats) -> None:
    repeat(world, "X-Long: " + "x" * 3_000)
    assert world.send(b"POST /beat/c HTTP/1.1\r\n") == b""
    (answer,) = answers(world.send(b"Host: test\r\nVia: \x00\r\n\r\n"))
    assert answer.status == 400
    other = FakeTransport(world.loop)
    world.call(world.connect(other).data_received, beat("c", "Via: \x00"))
    (answer,) = answers(other.sent)
    assert answer.status == 400
    assert (beats.prepared, beats.taken) == ([], [])


def test_ignored_fields_count_as_fields(world: World, beats: Beats) -> None:
    fields = ["X:"] * (HEADER_FIELDS_MAX - 1)
    repeat(world, *fields)
    world.send(beat("c", *fields))
    assert beats.taken == ["c"]
    (answer,) = answers(world.send(beat("d", "Via: a", *fields)))
    assert answer.status == 431
    assert beats.taken == ["c"]


def test_last_request_of_a_connection_is_always_the_last(world: World, beats: Beats) -> None:
    for name in "abcd":
        transport = FakeTransport(world.loop)
        world.call(world.connect(transport).data_received, beat(name, "Connection: close"))
        (answer,) = answers(transport.sent)
        assert answer.headers["connection"] == "close"
        assert transport.ended
    assert (beats.handled, beats.taken) == (["a", "b"], ["c", "d"])


@pytest.mark.parametrize("fields", [[], ["X-Request-Id: 1"]])
def test_fast_path_answers_nothing_behind_the_last_request(
    world: World, beats: Beats, fields: list[str]
) -> None:
    for name in "ab":
        world.call(world.connect(FakeTransport(world.loop)).data_received, beat(name, "Connection: close"))
    sent = world.send(beat("c", "Connection: close", *fields) + beat("d", "Connection: close"))
    (answer,) = answers(sent)
    assert (answer.body, world.connection.phase) == (b'{"beat":"c"}', LINGER)
    assert beats.taken == ["c"]
    assert world.send(beat("e")) == b""


def test_last_request_that_the_fast_path_leaves_is_answered_by_its_handler(
    world: World, beats: Beats
) -> None:
    repeat(world)
    for name in "ab":
        world.call(world.connect(FakeTransport(world.loop)).data_received, beat(name, "Connection: close"))
    beats.unprepared.add("x")
    first, last = answers(world.send(beat("c") + beat("x", "Connection: close")))
    assert (first.body, last.body, last.headers["connection"]) == (b'{"beat":"c"}', b'{"beat":"x"}', "close")
    assert (beats.taken, beats.handled[-1]) == (["c"], "x")


def test_answer_of_a_waiting_handler_comes_first(world: World, beats: Beats) -> None:
    repeat(world)
    assert world.send(get("/waiting/x")) == b""
    assert world.send(beat("c")) == b""
    before = len(world.transport.sent)
    world.release()
    first, second = answers(world.transport.sent[before:])
    assert (first.body, second.body) == (b'{"waited":"x","for":"it"}', b'{"beat":"c"}')


def test_requests_with_a_body_take_the_ordinary_way(world: World, beats: Beats) -> None:
    for name in "abcd":
        world.send(post(f"/beat/{name}", b"{}"))
    assert (beats.handled, beats.taken) == (list("abcd"), [])


def test_literal_path_goes_before_the_parameter(world: World, beats: Beats) -> None:
    async def special(request: Request) -> dict[str, str]:
        return {"special": "yes"}

    world.router.add("/beat/special", ["POST"], special)
    repeat(world)
    (answer,) = answers(world.send(beat("special")))
    assert answer.body == b'{"special":"yes"}'


def test_observer_of_everything_sees_every_exchange(world: World, beats: Beats) -> None:
    world.shared.observer = observed = Observed()
    repeat(world)
    world.send(beat("c"))
    assert [each.path for each in observed.seen] == ["/beat/a", "/beat/b", "/beat/c"]
    assert beats.taken == []


def test_exchanges_that_the_observer_lets_pass_stay_fast(world: World, beats: Beats) -> None:
    world.shared.observer = observed = Observed(pauses=[3, 2, 9])
    repeat(world)
    world.send(beat("c"))
    world.send(beat("d"))
    world.send(beat("e") + beat("f") + beat("g") + beat("h"))
    assert [each.path for each in observed.seen] == ["/beat/d", "/beat/g"]
    assert (beats.handled, beats.taken) == (["a", "b", "d", "g", "h"], ["c", "e", "f"])


def test_switch_turns_the_fast_path_off() -> None:
    world = World(fast_path=False)
    beats = Beats(world)
    repeat(world)
    world.send(beat("c"))
    assert (beats.handled, beats.prepared, beats.taken) == (["a", "b", "c"], [], [])
    world.close()


def test_drain_makes_the_next_answer_the_last(world: World, beats: Beats) -> None:
    repeat(world)
    world.shared.draining = True
    (answer,) = answers(world.send(beat("c")))
    assert answer.headers["connection"] == "close"
    assert world.connection.phase == LINGER


def test_rest_of_a_begun_request_is_no_request(world: World, beats: Beats) -> None:
    repeat(world)
    assert world.send(b"POST /beat/c HTTP/1.1\r\nHost: test\r\nX-Other: ") == b""
    # This is the rest of a header section, although it looks like a request.
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


def test_client_that_does_not_read_is_not_answered(world: World, beats: Beats) -> None:
    repeat(world)
    world.transport.client_reads = False
    count = 0
    while not world.transport.paused:
        count += 1
        world.send(beat("c"))
    assert world.send(beat("c")) == b""
    world.call(world.transport.take, 10_000_000)
    assert len(answers(world.transport.sent)) == count + 3


def test_failing_shortcut_is_logged_and_the_handler_answers(
    world: World, beats: Beats, caplog: pytest.LogCaptureFixture
) -> None:
    repeat(world)
    beats.error = RuntimeError("a bug of what was prepared")
    with caplog.at_level(logging.ERROR):
        (answer,) = answers(world.send(beat("c")))
    assert (answer.status, answer.body) == (200, b'{"beat":"c"}')
    assert "a bug of what was prepared" in caplog.text
    assert "/beat/{name}" in caplog.text
    assert world.shared.stats.handler_failures == 1


def test_failure_within_a_pipeline_repeats_no_request(world: World, beats: Beats) -> None:
    repeat(world)
    beats.broken.add("d")
    sent = world.send(beat("c") + beat("d") + beat("e"))
    assert [answer.body for answer in answers(sent)] == [b'{"beat":"%c"}' % name for name in b"cde"]
    assert (beats.taken, beats.handled) == (["c"], ["a", "b", "d", "e"])
    assert world.shared.stats.requests == 5


def test_idle_time_begins_with_the_last_fast_answer(world: World, beats: Beats) -> None:
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


@given(
    st.lists(st.lists(REQUESTS, min_size=1, max_size=3).map(b"".join), min_size=1, max_size=12),
    st.none() | st.lists(st.integers(0, 6), max_size=4),
)
def test_with_shortcuts_or_without_clients_get_the_same_bytes(
    pieces: list[bytes], pauses: list[int] | None
) -> None:
    received = []
    for fast_path in (True, False):
        world = World(fast_path=fast_path)
        Beats(world)
        observed = Observed(pauses=pauses or [])
        world.shared.observer = None if pauses is None else observed
        for piece in pieces:
            if not world.transport.closing and not world.transport.ended:
                world.send(piece)
        while world.waiting:
            world.release()
        seen = [each[:4] for each in observed.seen]
        received.append((world.transport.sent, world.connection.phase, world.transport.ended, seen))
        world.close()
    assert received[0] == received[1]

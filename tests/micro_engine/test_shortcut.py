"""What a shortcut takes for a request is what the parser reads, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.shortcut import PIPELINED_MAX, SEGMENT_BYTES_MAX, Shortcut
from openred_central.micro_engine.wire.parser import RequestParser

BEGINNING = b"POST /beat/"
SECTION = b"Host: a\r\nX: y\r\n\r\n"
ENDING = b" HTTP/1.1\r\n" + SECTION
SHORTCUT = Shortcut(BEGINNING, ENDING, lambda parameter: None)


def request(segment: bytes) -> bytes:
    return BEGINNING + segment + ENDING


# Pieces of which data is made that is nearly what a shortcut takes.
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


def read_all(data: bytes) -> list[str]:
    """The last segments of the requests in `data`, by the parser, which read the same section before."""
    parser = RequestParser(EngineLimits())
    parser.feed(data)
    segments = []
    while (read := parser.read_head()) is not None:
        assert (read.method, read.version, read.query) == ("POST", 11, "")
        assert read.headers.fields == (("host", "a"), ("x", "y"))
        assert read.content_length == 0
        assert read.refusal is None
        beginning, _, segment = read.path.rpartition("/")
        assert beginning == "/beat"
        segments.append(segment)
    assert parser.idle
    return segments


@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_what_a_shortcut_takes_is_what_the_parser_reads(data: bytes) -> None:
    parameter, parameters = SHORTCUT.parameter(data), SHORTCUT.parameters(data)
    if parameter is not None:
        assert parameters == [parameter]
    if parameters:
        assert read_all(data) == parameters


@given(st.lists(st.from_regex(r"[A-Za-z0-9._~:-]{1,40}", fullmatch=True), min_size=1, max_size=5))
def test_requests_that_repeat_are_taken(segments: list[str]) -> None:
    data = b"".join(request(segment.encode()) for segment in segments)
    assert SHORTCUT.parameters(data) == segments
    assert SHORTCUT.parameter(data) == (segments[0] if len(segments) == 1 else None)


@pytest.mark.parametrize(
    "data",
    [
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
        request(b"a") + b"G",
        request(b"a").replace(b"POST", b"post"),
        request(b"a").replace(b"1.1", b"1.0"),
        request(b"a").replace(b"X: y", b"X: z"),
        request(b"x" * (SEGMENT_BYTES_MAX + 1)),
    ],
    ids=repr,
)
def test_anything_else_is_not(data: bytes) -> None:
    assert SHORTCUT.parameter(data) is None
    assert SHORTCUT.parameters(data) == []


def test_no_more_are_taken_at_once_than_may_hold_up_others() -> None:
    assert len(SHORTCUT.parameters(request(b"a") * PIPELINED_MAX)) == PIPELINED_MAX
    assert SHORTCUT.parameters(request(b"a") * (PIPELINED_MAX + 1)) == []


def test_a_shortcut_knows_its_header_section() -> None:
    assert SHORTCUT.ends(SECTION)
    assert not SHORTCUT.ends(b"Host: a\r\n\r\n" + SECTION)
    assert not SHORTCUT.ends(SECTION.removeprefix(b"Host: a\r\n"))
    assert SHORTCUT.framing_bytes == len(request(b""))

"""The parser keeps the decision table, whatever pieces the bytes come in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.parser import ProtocolError, RequestParser

from ..parsing import Outcome, Reader, Refused, Served, bytewise, outcomes, split_positions
from ..wire_examples import EXAMPLES, Example, chunked, get, line, post

CODES = {
    400: "bad_request",
    413: "content_too_large",
    414: "uri_too_long",
    421: "misdirected_request",
    431: "header_fields_too_large",
    501: "not_implemented",
    505: "http_version_not_supported",
}
NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
NEXT_SERVED = Served("GET", "/next", authority="next")


def run(example: Example, pieces: list[bytes]) -> list[Outcome]:
    return outcomes(pieces, eof=example.eof, bytes_max=example.bytes_max)


def check(example: Example, found: list[Outcome], *behind: Served) -> None:
    served = [replace(outcome, fields=()) for outcome in found if isinstance(outcome, Served)]
    refused = [outcome for outcome in found if isinstance(outcome, Refused)]
    assert served == [*example.served, *behind]
    if example.status is None:
        assert refused == []
    else:
        assert [(error.status, error.code) for error in refused] == [(example.status, CODES[example.status])]


def ids(examples: list[Example]) -> list[str]:
    return [example.name for example in examples]


def test_every_example_has_its_own_name() -> None:
    assert len(set(ids(EXAMPLES))) == len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=ids(EXAMPLES))
def test_decision_table_holds_however_the_bytes_are_cut(example: Example) -> None:
    whole = run(example, [example.data])
    check(example, whole)
    assert run(example, list(bytewise(example.data))) == whole
    for position in split_positions(example.data):
        assert run(example, [example.data[:position], example.data[position:]]) == whole, position


COMPLETE = [example for example in EXAMPLES if not example.eof]


@pytest.mark.parametrize("example", COMPLETE, ids=ids(COMPLETE))
def test_next_request_is_served_only_if_the_connection_stays(example: Example) -> None:
    stays = example.status is None and all(served.keep_alive for served in example.served)
    behind = (NEXT_SERVED,) if stays else ()
    check(example, run(example, [example.data + NEXT]), *behind)
    check(example, run(example, list(bytewise(example.data + NEXT))), *behind)
    check(example, run(example, [example.data, NEXT]), *behind)


def test_fields_keep_order_and_bytes_under_lower_case_names() -> None:
    data = get(b"Host: a\r\nX-B: 1\r\nx-a: \xe9\t\xff \r\nX-b:2\r\n")
    (found,) = outcomes([data])
    assert isinstance(found, Served)
    assert found.fields == (("host", "a"), ("x-b", "1"), ("x-a", "\xe9\t\xff"), ("x-b", "2"))


def test_only_spaces_and_tabs_around_a_value_are_trimmed() -> None:
    (found,) = outcomes([get(b"Host: a\r\nB: \t\x85\xa0b\xa0\x85\t \r\n")])
    assert isinstance(found, Served)
    assert found.fields[1] == ("b", "\x85\xa0b\xa0\x85")


def test_after_an_error_in_a_head_nothing_is_read_or_kept() -> None:
    parser = RequestParser(EngineLimits())
    parser.feed(b"garbage\r\n\r\n" + NEXT)
    with pytest.raises(ProtocolError):
        parser.read_head()
    parser.feed(NEXT)
    assert parser.buffered_bytes == 0
    assert parser.read_head() is None


def test_after_an_error_in_a_body_nothing_is_read_or_kept() -> None:
    parser = RequestParser(EngineLimits())
    parser.feed(chunked(b"x\r\n"))
    assert parser.read_head() is not None
    with pytest.raises(ProtocolError):
        parser.read_body(10)
    parser.feed(NEXT)
    assert parser.buffered_bytes == 0
    assert parser.read_body(10) is None
    assert parser.read_head() is None


def test_bytes_behind_the_last_request_are_dropped() -> None:
    parser = RequestParser(EngineLimits())
    parser.feed(get(b"Host: a\r\nConnection: close\r\n") + NEXT)
    request = parser.read_head()
    assert request is not None
    assert not request.keep_alive
    assert parser.buffered_bytes == 0
    parser.feed(NEXT)
    assert parser.buffered_bytes == 0
    assert parser.read_head() is None


def test_length_above_the_limit_is_refused_at_once() -> None:
    parser = RequestParser(EngineLimits())
    parser.feed(post(b"Expect: 100-continue\r\nContent-Length: 11\r\n"))
    request = parser.read_head()
    assert request is not None
    assert not parser.body_started
    with pytest.raises(ProtocolError) as caught:
        parser.read_body(10)
    assert caught.value.status == 413


def test_limit_of_the_connection_holds_for_every_route() -> None:
    parser = RequestParser(EngineLimits(body_bytes_max=10))
    parser.feed(post(b"Content-Length: 11\r\n"))
    assert parser.read_head() is not None
    with pytest.raises(ProtocolError) as caught:
        parser.read_body(1000)
    assert caught.value.status == 413
    assert "10 bytes" in caught.value.message


@pytest.mark.parametrize("piece_bytes", [1, 7, 64 * 1024, 1024 * 1024])
def test_large_body_arrives_in_any_pieces(piece_bytes: int) -> None:
    body = bytes(range(256)) * (4096 if piece_bytes > 7 else 64)
    for data in (
        post(b"Content-Length: %d\r\n" % len(body), body),
        chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)),
    ):
        pieces = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]
        (found,) = outcomes(pieces)
        assert isinstance(found, Served)
        assert found.body == body


def test_idle_is_between_messages_with_nothing_buffered() -> None:
    reader = Reader()
    parser = reader.parser
    assert parser.idle
    reader.feed(b"\r\n")
    assert parser.idle
    data = post(b"Content-Length: 1\r\n")
    reader.feed(data[:1])
    assert not parser.idle
    assert parser.buffered_bytes == 1
    reader.feed(data[1:])
    assert not parser.idle
    assert parser.buffered_bytes == 0
    reader.feed(b"a")
    assert parser.idle
    reader.feed(b"\r")
    assert not parser.idle


@pytest.mark.parametrize(
    ("fields", "body"),
    [(b"Content-Length: 2\r\n", b"ab"), (b"Transfer-Encoding: chunked\r\n", b"2\r\nab\r\n0\r\n\r\n")],
    ids=["length", "chunks"],
)
def test_body_has_started_with_its_first_byte(fields: bytes, body: bytes) -> None:
    parser = RequestParser(EngineLimits())
    assert not parser.body_started
    parser.feed(post(fields))
    assert not parser.body_started
    assert parser.read_head() is not None
    for index in range(len(body)):
        assert parser.read_body(10) is None
        assert parser.body_started == (index > 0)
        parser.feed(body[index : index + 1])
        assert parser.body_started
    assert parser.read_body(10) == b"ab"
    assert not parser.body_started


def test_request_without_a_body_reads_as_an_empty_one() -> None:
    parser = RequestParser(EngineLimits())
    parser.feed(line(b"GET / HTTP/1.1"))
    assert parser.read_head() is not None
    assert parser.read_body(10) == b""


def test_head_must_not_be_read_before_the_body() -> None:
    parser = RequestParser(EngineLimits())
    parser.feed(post(b"Content-Length: 1\r\n", b"a") + NEXT)
    assert parser.read_head() is not None
    with pytest.raises(AssertionError):
        parser.read_head()


def test_equal_header_section_is_shared_by_the_next_request() -> None:
    parser = RequestParser(EngineLimits())
    parser.feed(line(b"GET /1 HTTP/1.1") + line(b"GET /2 HTTP/1.1"))
    first, second = parser.read_head(), parser.read_head()
    assert first is not None
    assert second is not None
    assert first.headers is second.headers
    assert (first.path, second.path) == ("/1", "/2")


def test_large_header_section_is_not_remembered() -> None:
    parser = RequestParser(EngineLimits())
    data = get(b"Host: a\r\nA: " + b"b" * 3000 + b"\r\n")
    parser.feed(data * 2)
    first, second = parser.read_head(), parser.read_head()
    assert first is not None
    assert second is not None
    assert first.headers is not second.headers
    assert first.headers.fields == second.headers.fields


def test_error_names_fault_and_limit() -> None:
    (found,) = outcomes([get(b"Host: a b\x01".replace(b"\x01", b"") + b"\r\n")])
    assert isinstance(found, Refused)
    assert "'a b'" in found.message
    (found,) = outcomes([line(b"GET /\xff\xfe" + b"x" * 500 + b" HTTP/1.1")])
    assert isinstance(found, Refused)
    assert "\\xff" in found.message
    assert len(found.message) < 300

"""Requests, headers and responses as handlers see them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import orjson
import pytest

from openred_central.errors import CallerError
from openred_central.micro_engine.wire.messages import (
    JSON_TYPE,
    NO_HEADERS,
    PROBLEM_TYPE,
    Headers,
    Request,
    Response,
    StreamingResponse,
)


def test_field_on_several_lines_reads_as_one_list() -> None:
    headers = Headers((("a", "1"), ("b", "2"), ("a", "3"), ("a", "")))
    assert headers.get("a") == "1, 3, "
    assert headers.get("b") == "2"
    assert headers.get("c") is None
    assert headers.get_all("a") == ["1", "3", ""]
    assert headers.get_all("c") == []
    assert "b" in headers
    assert "c" not in headers
    assert headers.fields == (("a", "1"), ("b", "2"), ("a", "3"), ("a", ""))


def test_request_without_more_has_no_headers_body_or_refusal() -> None:
    request = Request("GET", "/")
    assert request.headers.fields == ()
    assert request.query == ""
    assert request.version == 11
    assert request.keep_alive
    assert request.content_length == 0
    assert not request.expects_continue
    assert request.refusal is None
    assert request.body == b""


def test_body_is_read_as_json() -> None:
    assert Request("POST", "/", body=b'{"a": [1, "\xc3\xa9"]}').json() == {"a": [1, "é"]}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"{'a': 1}", b"NaN"])
def test_body_that_is_not_json_is_the_callers_error(body: bytes) -> None:
    with pytest.raises(CallerError) as caught:
        Request("POST", "/", body=body).json()
    assert (caught.value.status, caught.value.code, caught.value.close) == (400, "bad_json", False)
    assert caught.value.suggestion


@pytest.mark.parametrize(
    "number", [2**63, 2**64 - 1, -(2**63), 0, 1e300, 1234567890123456789.5, 0.1234567890123456789012]
)
def test_numbers_of_64_bits_are_accepted(number: float) -> None:
    text = f'{{"n": [{number!r}], "123456789012345678901234": "-99999999999999999999 \\" 1"}}'
    assert Request("POST", "/", body=text.encode()).json()["n"] == [number]


@pytest.mark.parametrize("text", ["18446744073709551616", "-9223372036854775809", "1" * 300, "-" + "9" * 40])
def test_whole_number_beyond_64_bits_is_refused(text: str) -> None:
    for body in (text, f'{{"a": {text}}}', f'["\\\\", {text}]', f'{{"{text[1:]}": [{text} ]}}'):
        with pytest.raises(CallerError, match="whole numbers of at most 64 bits are allowed") as raised:
            Request("POST", "/", body=body.encode()).json()
        assert (raised.value.status, raised.value.code) == (400, "bad_json")


def test_long_number_in_the_deepest_body_never_crashes() -> None:
    for depth in (100, 900, 1_000, 1_020):
        body = b"[" * depth + b"1234567890123456789" + b"]" * depth
        with contextlib.suppress(CallerError):
            Request("POST", "/", body=body).json()


def test_document_is_sent_as_json() -> None:
    response = Response.json({"a": 1}, status=201, headers=(("Location", "/a"),))
    assert (response.status, response.body, response.content_type) == (201, b'{"a":1}', JSON_TYPE)
    assert response.headers == (("Location", "/a"),)


def test_error_is_sent_as_a_problem_document() -> None:
    error = CallerError(
        429, "too_many", "Too many.", suggestion="Wait.", fields={"a": "b"}, headers=(("Retry-After", "1"),)
    )
    response = Response.problem(error)
    assert (response.status, response.content_type) == (429, PROBLEM_TYPE)
    assert response.headers == (("Retry-After", "1"),)
    assert orjson.loads(response.body) == error.problem()


def test_stream_is_bytes_by_default() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"

    response = StreamingResponse(chunks())
    assert (response.status, response.content_type, response.headers) == (200, "application/octet-stream", ())


def test_any_of_several_fields_is_found() -> None:
    headers = Headers((("host", "a"), ("signature", "b")))
    assert headers.has_any(frozenset({"authorization", "signature"}))
    assert not headers.has_any(frozenset({"authorization"}))
    assert not NO_HEADERS.has_any(frozenset({"host"}))

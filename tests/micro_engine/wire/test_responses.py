"""Responses as bytes."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.errors import InternalBug
from openred_central.micro_engine.wire.messages import Response, StreamingResponse
from openred_central.micro_engine.wire.responses import (
    HEADS_KEPT_MAX,
    ResponseEncoder,
    as_response,
    chunk,
    http_date,
)

from ..harness import Answer, answers

# 2027-01-15 08:00:00 UTC.
WALL_S = 1_800_000_000.0


@pytest.fixture
def encoder() -> ResponseEncoder:
    return ResponseEncoder("test-server", 75.5, WALL_S)


def whole(
    encoder: ResponseEncoder,
    response: Response,
    *,
    keep_alive: bool = True,
    head_only: bool = False,
    cors: bool = False,
) -> Answer:
    sent = encoder.whole(response, keep_alive=keep_alive, head_only=head_only, cors=cors)
    (answer,) = answers(sent, "HEAD" if head_only else "GET")
    return answer


def test_every_response_has_the_common_fields(encoder: ResponseEncoder) -> None:
    answer = whole(encoder, Response.json({"a": 1}))
    assert answer.status == 200
    assert answer.headers == {
        "date": "Fri, 15 Jan 2027 08:00:00 GMT",
        "server": "test-server",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "content-type": "application/json",
        "content-length": "7",
        "connection": "keep-alive",
        "keep-alive": "timeout=75",
    }
    assert answer.body == b'{"a":1}'


def test_last_response_says_close(encoder: ResponseEncoder) -> None:
    headers = whole(encoder, Response(), keep_alive=False).headers
    assert headers["connection"] == "close"
    assert "keep-alive" not in headers


def test_date_follows_the_clock(encoder: ResponseEncoder) -> None:
    whole(encoder, Response())
    encoder.tick(WALL_S + 61)
    assert whole(encoder, Response()).headers["date"] == "Fri, 15 Jan 2027 08:01:01 GMT"


def test_response_replaces_a_default(encoder: ResponseEncoder) -> None:
    answer = whole(encoder, Response(headers=(("cache-control", "max-age=60"), ("ETag", '"x"'))))
    assert (answer.headers["cache-control"], answer.headers["etag"]) == ("max-age=60", '"x"')


def test_equal_heads_with_different_bodies_do_not_mix(encoder: ResponseEncoder) -> None:
    assert [whole(encoder, Response(body)).body for body in (b"1", b"22", b"")] == [b"1", b"22", b""]
    assert "access-control-allow-origin" not in whole(encoder, Response()).headers
    assert whole(encoder, Response(), cors=True).headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in whole(encoder, Response()).headers


@pytest.mark.parametrize("status", [204, 304])
def test_response_without_a_body_has_no_length(encoder: ResponseEncoder, status: int) -> None:
    answer = whole(encoder, Response(status=status, content_type=None))
    assert "content-length" not in answer.headers
    assert "transfer-encoding" not in answer.headers


def test_head_has_the_length_of_the_body_it_leaves_out(encoder: ResponseEncoder) -> None:
    assert whole(encoder, Response(b"12345"), head_only=True).headers["content-length"] == "5"


@pytest.mark.parametrize("bad", ["a\r\nb", "a\nb", "a\rb", "a\0b", "a\r\n\r\nHTTP/1.1 200 OK", "日本"])
@pytest.mark.parametrize("in_content_type", [False, True])
def test_value_cannot_break_out_of_its_field(
    encoder: ResponseEncoder, bad: str, in_content_type: bool
) -> None:
    response = Response(content_type=bad) if in_content_type else Response(headers=(("X-Name", bad),))
    for _ in range(2):
        with pytest.raises(InternalBug):
            encoder.whole(response, keep_alive=True, head_only=False, cors=False)


@pytest.mark.parametrize(
    "name", ["", "X Name", "X:", "X\r\nY", "Content-Length", "transfer-encoding", "Connection", "DATE"]
)
def test_malformed_or_reserved_field_cannot_be_sent(encoder: ResponseEncoder, name: str) -> None:
    with pytest.raises(InternalBug):
        whole(encoder, Response(headers=((name, "a"),)))


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 999])
def test_unknown_status_cannot_be_sent(encoder: ResponseEncoder, status: int) -> None:
    with pytest.raises(InternalBug):
        whole(encoder, Response(status=status))


@pytest.mark.parametrize("status", [204, 304])
def test_body_with_a_bodyless_status_cannot_be_sent(encoder: ResponseEncoder, status: int) -> None:
    with pytest.raises(InternalBug):
        whole(encoder, Response(b"x", status=status))
    with pytest.raises(InternalBug):
        encoder.streaming_head(
            StreamingResponse(AsyncNothing(), status=status), keep_alive=True, chunked=True, cors=False
        )


class AsyncNothing:
    def __aiter__(self) -> AsyncNothing:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


def test_stream_never_has_a_length(encoder: ResponseEncoder) -> None:
    response = StreamingResponse(AsyncNothing(), headers=(("Cache-Control", "no-cache"),))
    head = encoder.streaming_head(response, keep_alive=True, chunked=True, cors=True)
    answer = Answer(head.removesuffix(b"\r\n\r\n"), b"")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["cache-control"] == "no-cache"
    assert "content-length" not in answer.headers
    head = encoder.streaming_head(response, keep_alive=False, chunked=False, cors=True)
    answer = Answer(head.removesuffix(b"\r\n\r\n"), b"")
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"


def test_kept_heads_are_bounded(encoder: ResponseEncoder) -> None:
    for number in range(3 * HEADS_KEPT_MAX):
        assert whole(encoder, Response(headers=(("ETag", f'"{number}"'),))).headers["etag"] == f'"{number}"'
        assert len(encoder.heads) <= HEADS_KEPT_MAX


def test_server_name_cannot_break_out_of_its_field() -> None:
    with pytest.raises(ValueError, match="server name"):
        ResponseEncoder("a\r\nb", 75, WALL_S)


def test_chunk_begins_with_its_size_in_hexadecimal() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_results_of_handlers_become_responses() -> None:
    kept = Response(b"kept")
    assert as_response(kept) is kept
    for result, body, status in (({"a": 1}, b'{"a":1}', 200), ([1, 2], b"[1,2]", 200), (None, b"", 204)):
        response = as_response(result)
        assert isinstance(response, Response)
        assert (response.body, response.status) == (body, status)
    assert as_response([]).content_type == "application/json"
    assert as_response(None).content_type is None


@pytest.mark.parametrize("result", ["text", b"bytes", 5, {1, 2}, object()])
def test_any_other_result_is_a_bug(result: object) -> None:
    with pytest.raises(InternalBug):
        as_response(result)


@given(st.floats(0.0, 253_402_300_799.0))
def test_date_is_that_of_the_standard_library(wall_s: float) -> None:
    assert http_date(wall_s) == formatdate(wall_s // 1, usegmt=True)

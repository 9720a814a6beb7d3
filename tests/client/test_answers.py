"""Any bytes of a server are one answer, an error that says what is wrong, or too few."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.client.answers import Answer, AnswerReader, BadAnswer

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\nT: v\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN
ANSWERS = {"plain": PLAIN, "chunked": CHUNKED, "interim": INTERIM}


def read(content: bytes, bytes_max: int = 1_000) -> Answer | None:
    reader = AnswerReader(bytes_max)
    reader.feed(content)
    return reader.read()


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_the_same_whole_and_byte_by_byte(name: str) -> None:
    content = ANSWERS[name]
    reader = AnswerReader()
    for end in range(1, len(content)):
        reader.feed(content[end - 1 : end])
        assert reader.read() is None
    reader.feed(content[-1:])
    answer = reader.read()
    assert answer == read(content)
    assert answer is not None
    assert (answer.status, answer.body, answer.keep_alive) == (200, b"{}", True)


@pytest.mark.parametrize("name", ANSWERS)
def test_bytes_after_an_answer_end_the_connection(name: str) -> None:
    """They cannot be an answer to a request that was not sent yet."""
    answer = read(ANSWERS[name] + b"HTTP/1.1 200 OK\r\n")
    assert answer is not None
    assert (answer.body, answer.keep_alive) == (b"{}", False)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
        (b"HTTP/1.1 204 No Content", True),
        (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 900', True),
    ],
)
def test_a_connection_is_kept_where_the_server_keeps_it(head: bytes, keep_alive: bool) -> None:
    answer = read(head + b"\r\n\r\n")
    assert answer is not None
    assert (answer.body, answer.keep_alive) == (b"", keep_alive)


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\n{}")
    assert reader.read() is None
    assert reader.end() == Answer(200, {}, b"{}", keep_alive=False)


@pytest.mark.parametrize("content", [b"", b"HTTP/1.1 200 OK\r\nA: b", PLAIN[:-1], CHUNKED[:-1]])
def test_a_connection_that_ends_in_the_middle_is_an_error(content: bytes) -> None:
    reader = AnswerReader()
    reader.feed(content)
    assert reader.read() is None
    with pytest.raises(BadAnswer, match="ended in the middle"):
        reader.end()


def test_values_of_one_name_are_joined() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\nVary: a\r\nVARY: b\r\nContent-Length: 0\r\n\r\n")
    assert answer is not None
    assert answer.headers["vary"] == "a, b"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x50", "does not speak HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200" + b" " * 2_000, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\nA: b\n\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nA b\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40_000, "not valid HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "invalid Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "invalid Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "1,001 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "ambiguous length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "ambiguous length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_001, "more than 1,000 bytes"),
    ],
)
def test_invalid_answers_are_named(content: bytes, complaint: str) -> None:
    with pytest.raises(BadAnswer, match=complaint):
        read(content)


@given(
    body=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    chunked=st.booleans(),
)
def test_body_in_any_pieces_is_read(body: bytes, cuts: list[int], chunked: bool) -> None:
    bounds = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[start:end] for start, end in itertools.pairwise(bounds)]
    if chunked:
        coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        content = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded
    else:
        content = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    reader = AnswerReader()
    for start in range(0, len(content), 7):
        assert reader.read() is None
        reader.feed(content[start : start + 7])
    answer = reader.read()
    assert answer is not None
    assert (answer.body, answer.keep_alive) == (body, True)


@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from([b"", *ANSWERS.values()]))
def test_any_bytes_are_an_answer_an_error_or_too_few(pieces: list[bytes], before: bytes) -> None:
    reader, answer = AnswerReader(100), None
    with contextlib.suppress(BadAnswer):
        for piece in [before[: len(before) // 2], *pieces]:
            reader.feed(piece)
            answer = answer or reader.read()
        answer = answer or reader.end()
    assert answer is None or 200 <= answer.status < 600

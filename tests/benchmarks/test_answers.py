"""Answers are separated, however their bytes arrive."""

from __future__ import annotations

import pytest

from benchmarks.load.answers import AnswerReader, UnreadableError

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LOWER = b"HTTP/1.1 404 Not Found\r\ncontent-length:2\r\n\r\n{}"
EMPTY = b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
)
TRAILERS = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: a\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
ALL = PLAIN + INTERIM + LOWER + EMPTY + CHUNKED + TRAILERS + PLAIN


def test_answers_are_equal_in_one_piece_and_bytewise() -> None:
    bytewise, reader = [], AnswerReader()
    for at in range(len(ALL)):
        bytewise += reader.feed(ALL[at : at + 1])
    assert bytewise == AnswerReader().feed(ALL) == [200, 404, 204, 201, 202, 200]


@pytest.mark.parametrize("answer", [PLAIN, LOWER, EMPTY, CHUNKED, TRAILERS])
def test_answer_is_complete_with_its_last_byte(answer: bytes) -> None:
    reader = AnswerReader()
    assert reader.feed(answer[:-1]) == []
    assert len(reader.feed(answer[-1:])) == 1


def test_body_of_the_last_answer_is_kept() -> None:
    reader = AnswerReader()
    for answer, body in (
        (LOWER + PLAIN, b"hello"),
        (EMPTY, b""),
        (CHUNKED, b"abc0123456789"),
    ):
        for data in (answer[:-1], answer[-1:]):
            reader.feed(data)
        assert reader.body == body


def test_announced_close_is_noticed() -> None:
    reader = AnswerReader()
    reader.feed(PLAIN)
    assert not reader.closing
    reader.feed(PLAIN.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert reader.closing


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"],
)
def test_unreadable_answer_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="an answer cannot be read: "):
        AnswerReader().feed(data)

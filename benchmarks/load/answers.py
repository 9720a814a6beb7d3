"""Where one answer ends and the next begins. As little of HTTP/1.1 as a load generator needs.

An answer has a Content-Length, or is chunked, or has no body because of its status; one that ends with its
connection cannot be told from one that was cut off, and is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

NO_BODY = {204, 304}
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class UnreadableError(ValueError):
    """What came is no answer, or none that can be told from the next."""


class Head(NamedTuple):
    """What the head of an answer says. `length` of the body in bytes; None where it comes in chunks."""

    status: int
    length: int | None
    closing: bool


# The heads of one second are mostly the same bytes: to look one up takes a tenth of reading it.
@lru_cache(maxsize=1_024)
def read_head(head: bytes) -> Head:
    """Read a head, up to and with the empty line. Raises `UnreadableError`."""
    status_line = _STATUS.match(head)
    if status_line is None:
        raise UnreadableError(f"an answer begins with {head[:40]!r}")
    status, closing = int(status_line[1]), _CLOSE.search(head) is not None
    length = _LENGTH.search(head)
    if status in NO_BODY or status < 200:
        return Head(status, 0, closing)
    if length is not None:
        return Head(status, int(length[1]), closing)
    if _CHUNKED.search(head) is None:
        raise UnreadableError("an answer has neither a Content-Length nor chunks")
    return Head(status, None, closing)


class AnswerReader:
    """Cuts the bytes of one connection into answers.

    `body` is that of the last one, as it came; `closing`: the server will close after it.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self.body = b""
        self.closing = False

    def feed(self, data: bytes) -> list[int]:
        """The status of every answer that is whole now. Raises `UnreadableError`."""
        buffer = self._buffer + data if self._buffer else data
        statuses: list[int] = []
        while buffer:
            body = buffer.find(b"\r\n\r\n") + 4
            if body < 4:
                break
            head = read_head(buffer[:body])
            end = body + head.length if head.length is not None else _end_of_chunks(buffer, body)
            if end is None or end > len(buffer):
                break
            if head.status >= 200:
                statuses.append(head.status)
                self.closing |= head.closing
                self.body = buffer[body:end]
            buffer = buffer[end:]
        self._buffer = buffer
        return statuses


def _end_of_chunks(buffer: bytes, at: int) -> int | None:
    """Where the chunks that start at `at` end; None where that is not there yet."""
    while True:
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            return None
        try:
            size = int(buffer[at:line_end].partition(b";")[0], 16)
        except ValueError:
            raise UnreadableError(f"a chunk has the size {buffer[at:line_end][:20]!r}") from None
        if size == 0:
            # Trailers are lines like any; the first empty one ends the answer.
            end = buffer.find(b"\r\n\r\n", line_end)
            return None if end < 0 else end + 4
        at = line_end + 2 + size + 2

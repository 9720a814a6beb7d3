"""Read HTTP/1.1 responses (RFC 9112). Pure: bytes come in, an answer comes out, or None for "more".

A client trusts a server no further than a server trusts a client: every length is bounded, and ambiguous
input is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..micro_engine.limits import CONTENT_LENGTH_DIGITS_MAX
from ..micro_engine.wire.chunked import ChunkedDecoder
from ..micro_engine.wire.fields import find_line_end, find_section_end, parse_fields
from ..micro_engine.wire.protocol import ProtocolError

# More than a hundred nodes with the largest records, and than the figures of ten years.
ANSWER_BYTES_MAX = 16 * 1024 * 1024
_STATUS_LINE_BYTES_MAX = 1_024
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_LENGTH = re.compile(rf"[0-9]{{1,{CONTENT_LENGTH_DIGITS_MAX}}}", re.ASCII)
_HEAD = "header section"
_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = frozenset({204, 304})


class ClientError(Exception):
    """The base of all errors of the client."""


class BadAnswer(ClientError):
    """An answer that no directory gives; the message says what is wrong with it."""


class Answer(NamedTuple):
    """One final response.

    `headers` has lower-case names; several values of one name are joined by commas. `keep_alive`: the
    connection can be used again.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class _Head(NamedTuple):
    """The head of a response. `length` is in bytes, None for chunks, -1 for all up to the end."""

    status: int
    headers: dict[str, str]
    length: int | None
    keep_alive: bool


_UNTIL_END = -1
# Only the sizes of chunks are bounded in a body that does not end.
_STREAM_BYTES_MAX = 1 << 62


class AnswerReader:
    """The reader of the answer to one request: `feed` the bytes, then `read`; at the end of the input, `end`.

    Interim responses (1xx) are skipped. The body may have at most `bytes_max` bytes; the answer to a HEAD
    has none.
    """

    def __init__(self, bytes_max: int = ANSWER_BYTES_MAX, *, to_head: bool = False) -> None:
        self._bytes_max = bytes_max
        self._to_head = to_head
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._chunks = ChunkedDecoder()
        # True once `take` has returned the end of a body.
        self.ended = False

    def feed(self, content: bytes) -> None:
        self._buffer += content

    def read(self) -> Answer | None:
        """Return the answer once it is complete. Raises `BadAnswer`."""
        try:
            head = self._final_head()
            return None if head is None else self._read_body(head)
        except ProtocolError as error:
            raise _invalid(error) from None

    def status(self) -> int | None:
        """Return the status once the head is complete. Raises `BadAnswer`."""
        try:
            head = self._final_head()
        except ProtocolError as error:
            raise _invalid(error) from None
        return None if head is None else head.status

    def take(self) -> bytes:
        """Return what has come of a body in chunks since the last call, which may not end; see `ended`.

        Call it once there is a `status`. Raises `BadAnswer`.
        """
        if self._head is None or self._head.length is not None:
            raise BadAnswer("the answer is no stream")
        try:
            whole = self._chunks.decode(self._buffer, _STREAM_BYTES_MAX)
        except ProtocolError as error:
            raise _invalid(error) from None
        self.ended = whole is not None
        if whole is not None:
            return whole
        taken = bytes(self._chunks.body)
        self._chunks.body.clear()
        return taken

    def end(self) -> Answer:
        """Return the answer that the end of the connection completes. Raises `BadAnswer`."""
        if self._head is None or self._head.length != _UNTIL_END:
            raise BadAnswer("the connection ended in the middle of an answer")
        return Answer(self._head.status, self._head.headers, bytes(self._buffer), keep_alive=False)

    def _final_head(self) -> _Head | None:
        while self._head is None:
            head = self._read_head()
            if head is None:
                return None
            if head.status >= 200:
                self._head = head
        return self._head

    def _read_head(self) -> _Head | None:
        buffer = self._buffer
        line_end = find_line_end(buffer, 0, 0, _STATUS_LINE_BYTES_MAX, "status line")
        if line_end < 0:
            if len(buffer) > _STATUS_LINE_BYTES_MAX or not b"HTTP/1.".startswith(buffer[:7]):
                raise BadAnswer("the server does not speak HTTP/1.1")
            return None
        status_line = _STATUS_LINE.fullmatch(buffer, 0, line_end)
        if status_line is None:
            raise BadAnswer("the server does not speak HTTP/1.1")
        start = line_end + 2
        end = find_section_end(buffer, start, 0, _HEAD)
        if end < 0:
            return None
        fields = parse_fields(bytes(buffer[start:end]), _HEAD)
        minor, status = status_line[1], int(status_line[2])
        del buffer[:end]
        if status == _SWITCHING_PROTOCOLS:
            raise BadAnswer("the server switches to another protocol, which the request did not ask for")
        headers: dict[str, str] = {}
        for name, value in fields:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
        keep_alive = "close" not in options and (minor == b"1" or "keep-alive" in options)
        return _Head(status, headers, self._length(status, headers), keep_alive)

    def _length(self, status: int, headers: dict[str, str]) -> int | None:
        """Return the length of the body (RFC 9112 §6.3)."""
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if status < 200 or status in _WITHOUT_BODY or self._to_head:
            return 0
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise BadAnswer("the answer has an ambiguous length")
            return None
        if length is None:
            return _UNTIL_END
        if not _LENGTH.fullmatch(length):
            raise BadAnswer(f"the answer has an invalid Content-Length: {length[:40]!r}")
        if int(length) > self._bytes_max:
            raise BadAnswer(f"the answer has {int(length):,} bytes, the limit is {self._bytes_max:,}")
        return int(length)

    def _read_body(self, head: _Head) -> Answer | None:
        buffer = self._buffer
        if head.length == _UNTIL_END:
            if len(buffer) > self._bytes_max:
                raise BadAnswer(f"the answer has more than {self._bytes_max:,} bytes, which is the limit")
            return None
        if head.length is None:
            body = self._chunks.decode(buffer, self._bytes_max)
            if body is None:
                return None
        else:
            if len(buffer) < head.length:
                return None
            body = bytes(buffer[: head.length])
            del buffer[: head.length]
        # Surplus bytes must not pass for the answer to the next request.
        return Answer(head.status, head.headers, body, head.keep_alive and not buffer)


def _invalid(error: ProtocolError) -> BadAnswer:
    return BadAnswer(f"the answer is not valid HTTP: {error.message}")

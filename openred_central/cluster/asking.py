"""Requests that a follower hands on, and their answers, as messages: many at once over one stream. Pure.

A message is its length and a number, little-endian, then a head in JSON with its length, and a body. The
number of an answer is that of its request; answers come in any order. Messages without a head are signs:

- The leader sends number 0 once it has taken the connection in, and again when it takes no more requests.
- It sends the number of a request that it did not take, and so has not begun.
- A follower sends a number to hear it again, which shows that the leader lives.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson

from ..limits.origins import X_FORWARDED_FOR
from ..micro_engine.wire.messages import Headers, Request, Response

# The lengths of head and body together, the number, and the length of the head.
_SIZES: Final = struct.Struct("<IQI")
# More than the longest body that a setting allows.
MESSAGE_BYTES_MAX: Final = 2**31
# Fields of one connection (RFC 9110 §7.6.1), and those that only a proxy of ours may write. Fields that
# `Connection` names do not go on either.
_OWN: Final = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("proxy-connection", X_FORWARDED_FOR, "forwarded", "x-real-ip"),
    }
)


class BadMessage(ValueError):
    """The other end sent what is no message; the text is one line for the log."""


class Message(NamedTuple):
    """A message as it came; a sign has no head."""

    number: int
    head: bytes
    body: bytes


class Splitter:
    """The messages in a stream of bytes."""

    def __init__(self) -> None:
        self._buffer: bytes | bytearray = b""
        # Bytes at the front of the buffer that were read.
        self._read = 0

    def feed(self, data: bytes) -> None:
        """Accept `data`, the next bytes of the stream."""
        left = len(self._buffer) - self._read
        if not left:
            self._buffer = data
        elif isinstance(self._buffer, bytearray):
            del self._buffer[: self._read]
            self._buffer += data
        else:
            self._buffer = bytearray(self._buffer[self._read :] + data)
        self._read = 0

    def next(self) -> Message | None:
        """Return the next message, None if more bytes are needed. Raise `BadMessage`."""
        buffer, start = self._buffer, self._read + _SIZES.size
        if start > len(buffer):
            return None
        length, number, head_bytes = _SIZES.unpack_from(buffer, self._read)
        if not head_bytes <= length <= MESSAGE_BYTES_MAX:
            raise BadMessage(f"a message of {length} bytes with a head of {head_bytes}")
        middle, end = start + head_bytes, start + length
        if end > len(buffer):
            return None
        self._read = end
        return Message(number, bytes(buffer[start:middle]), bytes(buffer[middle:end]))


def pack_request(number: int, request: Request, request_id: str, client: str) -> bytes:
    """Return the message for `request` as it came from the address `client`, empty without one.

    Both ends know it as `request_id`.
    """
    fields = request.headers.fields
    if request.headers.has_any(_OWN):
        options = (request.headers.get("connection") or "").split(",")
        left = _OWN.union(option.strip(" \t").lower() for option in options)
        fields = tuple(field for field in fields if field[0] not in left)
    if client:
        fields = (*fields, (X_FORWARDED_FOR, client))
    head = (
        *(request.method, request.path, request.query, request.version, request.authority),
        *(request_id, fields),
    )
    return _packed(number, head, request.body)


def read_request(message: Message, peer: str) -> Request:
    """Return the request in `message`, which `peer` handed on. Raise `BadMessage`."""
    method, path, query, version, authority, request_id, fields = _head(message, 7)
    request = Request(
        *(method, path, query, version, authority, _headers(fields)),
        content_length=len(message.body),
        body=message.body,
        peer=peer,
    )
    request.id = request_id
    return request


def pack_sign(number: int) -> bytes:
    """Return the sign of that number."""
    return _SIZES.pack(0, number, 0)


def pack_answer(number: int, response: Response) -> bytes:
    """Return the message for `response`. Raise `TypeError` if its body is no bytes or a field no text."""
    return _packed(number, (response.status, response.content_type, response.headers), response.body)


def read_answer(message: Message) -> Response | None:
    """Return the answer in `message`, None if the request was not taken. Raise `BadMessage`."""
    if not message.head:
        return None
    status, content_type, headers = _head(message, 3)
    return Response(message.body, status=status, content_type=content_type, headers=_headers(headers).fields)


def _packed(number: int, head: tuple[Any, ...], body: bytes) -> bytes:
    packed = orjson.dumps(head)
    return b"".join((_SIZES.pack(len(packed) + len(body), number, len(packed)), packed, body))


def _head(message: Message, length: int) -> list[Any]:
    try:
        head = orjson.loads(message.head)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"the head of a message is not JSON: {error}") from error
    if not isinstance(head, list) or len(head) != length:
        raise BadMessage(f"the head of a message is not a list of {length} members")
    return head


def _headers(fields: Iterable[tuple[str, str]]) -> Headers:
    try:
        return Headers(tuple([(name, value) for name, value in fields]))
    except (TypeError, ValueError) as error:
        raise BadMessage("the fields of a message are no pairs") from error

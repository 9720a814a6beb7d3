"""The parts of an HTTP exchange: the request that a handler gets, and the responses that it may return.

Pure values: no loop, no socket, no clock. Names follow RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import orjson

from ...errors import CallerError

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
HTML_TYPE = "text/html; charset=utf-8"

# UUIDs, hexadecimal, base 64: what proxies and clients use as ids. Nothing in it needs escaping anywhere.
_REQUEST_ID = re.compile(r"[0-9A-Za-z._:+/=-]{1,64}")

# Only a body with so many digits in a row is read once more, by a slower parser that shows each whole number.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
# The sign and digits of the longest whole number of 64 bits.
_NUMBER_CHARACTERS_MAX = 21


class Headers:
    """The header fields of one request, names lower-case, values as received (Latin-1), in order."""

    __slots__ = ("_by_name", "fields")

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        self.fields = fields
        by_name = dict(fields)
        if len(by_name) != len(fields):
            # A field sent on several lines means the same as one line with commas (RFC 9110 §5.3).
            values: dict[str, list[str]] = {}
            for name, value in fields:
                values.setdefault(name, []).append(value)
            by_name = {name: ", ".join(lines) for name, lines in values.items()}
        self._by_name = by_name

    def get(self, name: str) -> str | None:
        """Return the value of field `name` (lower-case), several lines joined by commas; None if absent."""
        return self._by_name.get(name)

    def get_all(self, name: str) -> list[str]:
        """Return the values of field `name` (lower-case), one a line as received."""
        return [value for each, value in self.fields if each == name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def has_any(self, names: frozenset[str]) -> bool:
        """Return whether any of the fields `names` (lower-case) was sent."""
        return not names.isdisjoint(self._by_name)


NO_HEADERS = Headers(())


@dataclass(slots=True, eq=False)
class Request:
    """One request, complete with its body when a handler sees it.

    `path` is as received, before percent-decoding and without the query; `query` is as received, empty
    without one; `version` is 10 or 11 for HTTP/1.0 and HTTP/1.1; `authority` is the lower-case host and port
    the request is for; `content_length` is in bytes, 0 without a body and None for a chunked one;
    `expects_continue` says that the client waits for ``100 Continue`` before it sends the body; `refusal` is
    the error to answer with instead of calling a handler, for a message that can be read but not served, and
    it keeps the connection; `peer` is the client's address (empty on a Unix socket); `id` is empty until
    `identify` is called.

    A handler that waits may set `on_input_end`, which is called when the client ends its side or is lost, and
    may be called again. Set it before the first wait. A client that only ended its side still gets an answer.
    """

    method: str
    path: str
    query: str = ""
    version: int = 11
    authority: str = ""
    headers: Headers = NO_HEADERS
    keep_alive: bool = True
    content_length: int | None = 0
    expects_continue: bool = False
    refusal: CallerError | None = None
    body: bytes = b""
    peer: str = ""
    id: str = field(default="", init=False)
    on_input_end: Callable[[], None] | None = field(default=None, init=False)

    def identify(self, new_id: Callable[[], str]) -> str:
        """Return the id of this request: that of ``X-Request-Id``, else one made by `new_id`, which is kept.

        A sent id counts if it is at most 64 of ``A-Z a-z 0-9 . _ : + / = -``.
        """
        if not self.id:
            sent = self.headers.get("x-request-id")
            self.id = sent if sent is not None and _REQUEST_ID.fullmatch(sent) else new_id()
        return self.id

    def json(self) -> Any:
        """Return the body, parsed as JSON (RFC 8259).

        Raises `CallerError` 400 ``bad_json`` with the place where it stops being JSON, and for a whole number
        beyond 64 bits, which would be kept as another one.
        """
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise _bad_json(
                f"The body is not valid JSON: {error}.", "Send one JSON document, encoded in UTF-8."
            ) from None
        if _LONG_NUMBER.search(self.body):
            try:
                json.loads(self.body, parse_int=_expect_64_bits)
            except RecursionError:
                raise _bad_json(
                    "The body is nested too deep.", "Send fewer objects and lists within one another."
                ) from None
        return document


def _bad_json(message: str, suggestion: str) -> CallerError:
    return CallerError(400, "bad_json", message, suggestion=suggestion)


def _expect_64_bits(digits: str) -> None:
    """Raise `CallerError` 400 ``bad_json`` if the whole number `digits` is beyond 64 bits."""
    if len(digits) > _NUMBER_CHARACTERS_MAX or not -(1 << 63) <= int(digits) < 1 << 64:
        raise _bad_json(
            f"The body has the number {digits[:32]}{'...' * (len(digits) > 32)}; "
            "whole numbers of at most 64 bits are allowed.",
            "Send a longer number as a string.",
        )


@dataclass(slots=True, eq=False)
class Response:
    """A complete answer: `body` bytes, `status`, its `content_type` (None for no body) and further fields.

    A field given in `headers` replaces the engine's own default of that name (such as ``Cache-Control``).
    """

    body: bytes = b""
    _: KW_ONLY
    status: int = 200
    content_type: str | None = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, document: Any, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        return cls(orjson.dumps(document), status=status, headers=headers)

    @classmethod
    def problem(cls, error: CallerError) -> Response:
        """Return `error` as a problem document (RFC 9457), the one shape of every error."""
        body = orjson.dumps(error.problem())
        return cls(body, status=error.status, content_type=PROBLEM_TYPE, headers=error.headers)


@dataclass(slots=True, eq=False)
class StreamingResponse:
    """An answer whose body comes piece by piece from `chunks`, as fast as the client reads them.

    The engine closes `chunks` when the client goes away.
    """

    chunks: AsyncIterator[bytes]
    _: KW_ONLY
    status: int = 200
    content_type: str = "application/octet-stream"
    headers: tuple[tuple[str, str], ...] = ()

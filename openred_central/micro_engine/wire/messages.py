"""What an HTTP exchange is made of: the request a handler is given, and the responses it may return.

Pure values: no loop, no socket, no clock. Names follow RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson

from ...errors import CallerError

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
HTML_TYPE = "text/html; charset=utf-8"

# What proxies and clients make ids of: UUIDs, hexadecimal, base 64. Nothing that needs escaping anywhere.
_REQUEST_ID = re.compile(r"[0-9A-Za-z._:+/=-]{1,64}")

# Only a body with such digits is read once more, by a slower parser that shows each whole number.
_DIGITS_64_BITS = 20
_LONG_NUMBER = re.compile(rb"[0-9]{19}")


class Headers:
    """The header fields of one request, names lower-case, values as received (Latin-1), in order."""

    __slots__ = ("_by_name", "fields")

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        self.fields = fields
        by_name = dict(fields)
        if len(by_name) != len(fields):
            # A field sent on several lines means the same as one line with a comma (RFC 9110 §5.3).
            values: dict[str, list[str]] = {}
            for name, value in fields:
                values.setdefault(name, []).append(value)
            by_name = {name: ", ".join(lines) for name, lines in values.items()}
        self._by_name = by_name

    def get(self, name: str) -> str | None:
        """The value of field `name` (lower-case), several lines joined by a comma; None if absent."""
        return self._by_name.get(name)

    def get_all(self, name: str) -> list[str]:
        """The values of field `name` (lower-case), one a line as received."""
        return [value for field, value in self.fields if field == name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether any of the fields `names` (lower-case) was sent: 0.2 µs, however many are asked for."""
        return not names.isdisjoint(self._by_name)


class Request:
    """One request, complete with its body when a handler sees it.

    `path` is as received, before percent-decoding and without the query; `query` is as received, empty
    where there is none; `version` is 10 or 11 for HTTP/1.0 and HTTP/1.1; `authority` is the lower-case
    host and port the request is for; `content_length` is in bytes, 0 where no body was announced and None
    for a chunked one; `expects_continue` says that the client waits for ``100 Continue`` before it sends
    the body; `refusal` is the error to answer with instead of calling a handler, where the message can be
    read but not served (417, or 400 for a fragment in the target), and it keeps the connection; `peer` is
    the client's address (empty on a Unix socket); `id` is empty until `identify` is called.
    """

    __slots__ = (
        "authority",
        "body",
        "content_length",
        "expects_continue",
        "headers",
        "id",
        "keep_alive",
        "method",
        "path",
        "peer",
        "query",
        "refusal",
        "version",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        version: int = 11,
        authority: str = "",
        headers: Headers | None = None,
        keep_alive: bool = True,
        content_length: int | None = 0,
        expects_continue: bool = False,
        refusal: CallerError | None = None,
        body: bytes = b"",
        peer: str = "",
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.version = version
        self.authority = authority
        self.headers = headers if headers is not None else NO_HEADERS
        self.keep_alive = keep_alive
        self.content_length = content_length
        self.expects_continue = expects_continue
        self.refusal = refusal
        self.body = body
        self.peer = peer
        self.id = ""

    def identify(self, new_id: Callable[[], str]) -> str:
        """The id of this request, the same each time: that of ``X-Request-Id``, else what `new_id` makes.

        What was sent counts if it is at most 64 of ``A-Z a-z 0-9 . _ : + / = -``.
        """
        if not self.id:
            sent = self.headers.get("x-request-id")
            self.id = sent if sent is not None and _REQUEST_ID.fullmatch(sent) else new_id()
        return self.id

    def json(self) -> Any:
        """The body, parsed as JSON (RFC 8259).

        Raises `CallerError` 400 ``bad_json`` with the place where it stops being JSON, and for a whole number
        that 64 bits cannot hold: it would be kept as another one.
        """
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise CallerError(
                400,
                "bad_json",
                f"The body is not valid JSON: {error}.",
                suggestion="Send one JSON document, encoded in UTF-8.",
            ) from None
        if _LONG_NUMBER.search(self.body):
            try:
                json.loads(self.body, parse_int=_expect_64_bits)
            except RecursionError:
                raise CallerError(
                    400,
                    "bad_json",
                    "The body is nested too deep.",
                    suggestion="Send fewer objects and lists within one another.",
                ) from None
        return document


def _expect_64_bits(digits: str) -> None:
    """Raise `CallerError` 400 ``bad_json`` where the whole number `digits` is beyond 64 bits."""
    if len(digits) > _DIGITS_64_BITS + 1 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise CallerError(
            400,
            "bad_json",
            f"The body has the number {digits[:32]}{'...' * (len(digits) > 32)}, "
            "whole numbers of 64 bits are allowed.",
            suggestion="Send a longer number as a string.",
        )


NO_HEADERS = Headers(())


class Response:
    """A complete answer: `status`, `body` bytes, its `content_type` (None for no body) and further fields.

    A field given in `headers` replaces the engine's own default of that name (such as ``Cache-Control``).
    """

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        content_type: str | None = JSON_TYPE,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.headers = headers

    @classmethod
    def json(cls, document: Any, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """`document` as a JSON response."""
        return cls(orjson.dumps(document), status=status, headers=headers)

    @classmethod
    def problem(cls, error: CallerError) -> Response:
        """The one shape of every error: a problem document (RFC 9457)."""
        body = orjson.dumps(error.problem())
        return cls(body, status=error.status, content_type=PROBLEM_TYPE, headers=error.headers)


class StreamingResponse:
    """An answer whose body comes piece by piece from `chunks`, as fast as the client reads them.

    The engine closes `chunks` when the client goes away.
    """

    __slots__ = ("chunks", "content_type", "headers", "status")

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        *,
        status: int = 200,
        content_type: str = "application/octet-stream",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.chunks = chunks
        self.status = status
        self.content_type = content_type
        self.headers = headers

"""Responses as bytes (RFC 9110 §6, RFC 9112 §6). Pure: the time is an argument, once a second."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson

from ...errors import InternalBug
from .messages import JSON_TYPE, Response, StreamingResponse
from .protocol import TOKEN

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
# Enough for every status and content type of an application; heads that vary more are not kept.
HEADS_KEPT_MAX: Final = 256

# In English, whatever the language of the machine.
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOSE: Final = b"\r\nConnection: close\r\n\r\n"
_BODYLESS: Final = frozenset({204, 304})
_NAME: Final = re.compile(TOKEN)
_FORBIDDEN: Final = re.compile("[\r\n\0]")
# The engine alone frames messages and keeps connections.
_ENGINE_ONLY: Final = frozenset(
    {"connection", "content-length", "content-type", "date", "keep-alive", "transfer-encoding", "upgrade"}
)
# The keys of answers with status 200, JSON and no fields of their own, without CORS and with it.
_JSON_KEYS: Final = ((200, JSON_TYPE, (), False), (200, JSON_TYPE, (), True))
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}

# Status, content type, further fields, and whether pages of any origin may read the answer.
_HeadKey: TypeAlias = tuple[int, str | None, tuple[tuple[str, str], ...], bool]


def http_date(wall_s: float) -> str:
    """Return seconds since the Unix epoch as in ``Sun, 06 Nov 1994 08:49:37 GMT`` (RFC 9110 §5.6.7).

    `email.utils.formatdate` does this too, but its imports would delay every start.
    """
    at = datetime.fromtimestamp(wall_s // 1, UTC)
    return f"{_DAYS[at.weekday()]}, {at:%d} {_MONTHS[at.month - 1]} {at:%Y %H:%M:%S} GMT"


def chunk(piece: bytes) -> bytes:
    """Return `piece`, which is not empty, as one chunk (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class ResponseEncoder:
    """The maker of responses' bytes; it keeps ready what does not change within a second.

    `server_name` is the value of the header Server; `idle_timeout_s`, rounded down, is that of Keep-Alive.
    `tick` must be called once a second with the wall time.
    """

    def __init__(self, server_name: str, idle_timeout_s: float, wall_s: float) -> None:
        if _FORBIDDEN.search(server_name):
            raise ValueError(f"the server name {server_name!r} has a control character")
        self._server_name = server_name
        self._keep = b"\r\nConnection: keep-alive\r\nKeep-Alive: timeout=%d\r\n\r\n" % int(idle_timeout_s)
        # Each second, only the first response of its kind has its head made anew.
        self.heads: dict[_HeadKey, bytes] = {}
        self.tick(wall_s)

    def tick(self, wall_s: float) -> None:
        """Renew the Date field (RFC 9110 §6.6.1); `wall_s` is in seconds since the Unix epoch."""
        self._date = http_date(wall_s)
        self.heads.clear()

    def whole(
        self, response: Response, *, keep_alive: bool, head_only: bool, cors: bool, request_id: str = ""
    ) -> bytes:
        """Return `response` as bytes; `head_only` leaves out its body, for HEAD.

        `cors` permits pages of any origin to read it; `request_id`, unless empty, is the id by which the log
        knows the request.

        Raises `InternalBug` for a status or field that must not be sent.
        """
        status, body = response.status, response.body
        head = self._head((status, response.content_type, response.headers, cors))
        tail = self._keep if keep_alive else _CLOSE
        if request_id:
            # As one of the fields of `response` it would keep the head from being found again.
            head = b"%b\r\nX-Request-Id: %b" % (head, request_id.encode("ascii"))
        if status in _BODYLESS:
            if body:
                raise InternalBug(
                    f"a response with status {status} has no body, but this one has {len(body)} bytes"
                )
            return head + tail
        if head_only:
            return b"%b\r\nContent-Length: %d%b" % (head, len(body), tail)
        return b"%b\r\nContent-Length: %d%b%b" % (head, len(body), tail, body)

    def json(self, body: bytes, headers: tuple[tuple[str, str], ...], keep_alive: bool, cors: bool) -> bytes:
        """Return the response with status 200, the JSON `body` and these `headers`; `cors` as in `whole`."""
        key = (200, JSON_TYPE, headers, cors) if headers else _JSON_KEYS[cors]
        head = self.heads.get(key) or self._make_head(key)
        return b"%b\r\nContent-Length: %d%b%b" % (head, len(body), self._keep if keep_alive else _CLOSE, body)

    def streaming_head(
        self, response: StreamingResponse, *, keep_alive: bool, chunked: bool, cors: bool
    ) -> bytes:
        """Return the head of a response whose body follows: `chunked`, or up to the end of the connection."""
        if response.status in _BODYLESS:
            raise InternalBug(f"a response with status {response.status} cannot be streamed")
        head = self._head((response.status, response.content_type, response.headers, cors))
        framing = b"\r\nTransfer-Encoding: chunked" if chunked else b""
        return b"%b%b%b" % (head, framing, self._keep if keep_alive else _CLOSE)

    def _head(self, key: _HeadKey) -> bytes:
        """Return the status line and all fields that do not frame the message, without the last CRLF."""
        return self.heads.get(key) or self._make_head(key)

    def _make_head(self, key: _HeadKey) -> bytes:
        status, content_type, headers, cors = key
        if status not in _REASONS or status < 200:
            raise InternalBug(f"{status} is not the status of a response")
        defaults: dict[str, tuple[str, str]] = {
            "date": ("Date", self._date),
            "server": ("Server", self._server_name),
            "x-content-type-options": ("X-Content-Type-Options", "nosniff"),
            "cache-control": ("Cache-Control", "no-store"),
        }
        if cors:
            defaults["access-control-allow-origin"] = ("Access-Control-Allow-Origin", "*")
        if content_type is not None:
            defaults["content-type"] = ("Content-Type", content_type)
        for name, _ in headers:
            if name.lower() in _ENGINE_ONLY:
                raise InternalBug(f"the field {name} is the engine's own, a response cannot set it")
            defaults.pop(name.lower(), None)
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
        for name, value in (*defaults.values(), *headers):
            if not _NAME.fullmatch(name) or _FORBIDDEN.search(value):
                raise InternalBug(f"the field {name!r}: {value!r} cannot be sent")
            lines.append(f"{name}: {value}")
        try:
            head = "\r\n".join(lines).encode("latin-1")
        except UnicodeEncodeError as error:
            raise InternalBug(f"a field of the response is not Latin-1: {error}") from error
        if len(self.heads) >= HEADS_KEPT_MAX:
            self.heads.clear()
        self.heads[key] = head
        return head


def as_response(result: Any) -> Response | StreamingResponse:
    """Return the result of a handler as a response: a dict or list is JSON, None has no content.

    Raises `InternalBug` for anything else.
    """
    if isinstance(result, (Response, StreamingResponse)):
        return result
    if isinstance(result, (dict, list)):
        return Response(orjson.dumps(result))
    if result is None:
        return Response(status=204, content_type=None)
    raise InternalBug(
        f"a handler returned {type(result).__name__}; it may return a response, a dict, a list or None"
    )

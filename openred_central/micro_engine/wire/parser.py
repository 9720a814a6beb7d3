"""The HTTP/1.1 request parser: bytes in, requests and their bodies out (RFC 9112).

Pure: it waits for nothing and sends nothing. Each read returns a value, or None if more bytes are needed, or
raises. The result does not depend on how the bytes are cut into pieces.
"""

from __future__ import annotations

from ..limits import (
    EMPTY_LINES_MAX,
    REMEMBERED_HEADER_BYTES_MAX,
    REQUEST_LINE_BYTES_MAX,
    EngineLimits,
)
from .chunked import ChunkedDecoder
from .fields import HeaderSection, find_line_end, find_section_end, parse_header_section
from .messages import NO_HEADERS, Request
from .protocol import ProtocolError, bad_request, content_too_large, ended_early
from .target import RequestLine, parse_request_line

_CRLF = b"\r\n"
_REQUEST_LINE_WINDOW = REQUEST_LINE_BYTES_MAX + len(_CRLF)
# No section equals this one, because no request has version 0.
_NOTHING_REMEMBERED = HeaderSection(b"", 0, NO_HEADERS, "", False, 0, False, None)


class RequestParser:
    """The requests of one connection, in order.

    The caller takes turns: `read_head` until it returns a request; if that has a body (`content_length` is
    not 0), `read_body` until it returns the body; then `read_head` again. After a `ProtocolError`, and after
    the last request of a connection (``Connection: close``, or HTTP/1.0 without keep-alive), nothing more is
    parsed, and further bytes are dropped.
    """

    __slots__ = (
        "_body_bytes_max",
        "_buffer",
        "_chunks",
        "_content_length",
        "_empty_lines",
        "_ended",
        "_eof",
        "_keep_alive",
        "_line",
        "_line_bytes",
        "_remembered",
        "_scanned",
        "_scheme",
    )

    def __init__(self, limits: EngineLimits, scheme: str = "http") -> None:
        """Start a connection with the body limit of `limits`.

        `scheme`, ``http`` or ``https`` over TLS, is the only one that targets in absolute-form may have.
        """
        self._scheme = scheme
        self._body_bytes_max = limits.body_bytes_max
        # Begins with the message being read. A piece that has not been cut yet is kept as it is, since most
        # pieces are whole requests. Else it is a bytearray: removing bytes from its front copies nothing, so
        # pipelined requests in one piece cost no more than one by one.
        self._buffer: bytes | bytearray = b""
        # Bytes at the front of the buffer that were searched in vain, so that none is searched twice.
        self._scanned = 0
        self._empty_lines = 0
        # The request line and its length with CR LF, while the header section behind it is incomplete.
        self._line: RequestLine | None = None
        self._line_bytes = 0
        self._remembered = _NOTHING_REMEMBERED
        # The length of the body to be read next, 0 for none, None for one in chunks, with its decoder.
        self._content_length: int | None = 0
        self._chunks = ChunkedDecoder()
        self._keep_alive = True
        self._eof = False
        self._ended = False

    @property
    def buffered_bytes(self) -> int:
        return len(self._buffer)

    @property
    def unread_bytes(self) -> int:
        """Return the number of bytes kept: those not consumed, and those of a body that is not complete."""
        return len(self._buffer) + len(self._chunks.body)

    @property
    def idle(self) -> bool:
        """Return whether the connection is between messages, with nothing buffered."""
        return not self._buffer and self._content_length == 0

    @property
    def at_start(self) -> bool:
        """Return whether the connection is idle, and no empty line came before the next request.

        The parser counts empty lines, so it must read whatever comes behind them.
        """
        return not self._buffer and self._content_length == 0 and not self._empty_lines

    @property
    def section(self) -> bytes:
        """Return the header section of the last request as received; empty if it was long."""
        return self._remembered.raw

    @property
    def body_started(self) -> bool:
        """Return whether any byte of the next body has come."""
        if self._content_length is None:
            return bool(self._buffer) or self._chunks.started
        return self._content_length > 0 and bool(self._buffer)

    @property
    def rests(self) -> bool:
        """Return whether the last `read_body` returned None only to give other connections their turn."""
        return self._content_length is None and self._chunks.rests

    def feed(self, data: bytes) -> None:
        """Accept `data`, the next bytes of the connection."""
        if self._ended:
            return
        if self._buffer:
            self._own_buffer().extend(data)
        else:
            self._buffer = data

    def feed_eof(self) -> None:
        """Note that the client closed its side, so that no more bytes come."""
        self._eof = True

    def end(self) -> None:
        """Parse nothing from here on, and keep no bytes, neither past nor future ones."""
        self._ended = True
        self._buffer = b""
        self._chunks.body = bytearray()

    def read_head(self) -> Request | None:
        """Return the head of the next request, None if more bytes are needed or the client is done.

        Raises `ProtocolError` 400, 413, 414, 421, 431, 501 or 505 (RFC 9112 §3, §5, §6.3).
        """
        if not self._buffer:
            return None
        assert self._content_length == 0, "read_head() before the body was read"
        try:
            request = self._read_head()
            if request is None and self._eof and self._buffer:
                raise ended_early("request head")
        except ProtocolError:
            self.end()
            raise
        return request

    def read_body(self, bytes_max: int, *, keep: bool = True) -> bytes | None:
        """Return the whole body behind the head that was read, None if more bytes are needed or it `rests`.

        Unless `keep`, its bytes are thrown away, and the body is empty in the end. The limit is `bytes_max`
        bytes, or that of the connection if lower.

        Raises `ProtocolError` 413 for a larger body as soon as its size is announced; 400 or 431 for wrong
        framing; 400 if the client closed its side before the end (RFC 9112 §6, §7, §8).
        """
        if self._ended:
            return None
        try:
            body = self._read_body(min(bytes_max, self._body_bytes_max), keep)
            if body is None and self._eof and not self.rests:
                raise ended_early("body")
        except ProtocolError:
            self.end()
            raise
        if body is not None:
            self._content_length = 0
            if not self._keep_alive:
                self.end()
        return body

    def _read_head(self) -> Request | None:
        buffer = self._buffer
        line = self._line
        if line is None:
            # Nearly always the whole line has come, and searching here spares some calls.
            line_end = buffer.find(_CRLF, self._scanned, _REQUEST_LINE_WINDOW)
            if line_end < 1:
                line_end = self._find_request_line()
                if line_end < 0:
                    return None
                buffer = self._buffer
            line = parse_request_line(buffer[:line_end].decode("latin-1"), self._scheme)
            section_start = line_end + len(_CRLF)
            self._scanned = 0
        else:
            section_start = self._line_bytes
        method, path, query, version, authority, refusal = line
        section = self._remembered
        # Most requests of a connection have equal header sections, which need not be parsed again. A section
        # ends with its first empty line, so bytes that begin with the remembered one are that one.
        if section.version == version and buffer.startswith(section.raw, section_start):
            section_end = section_start + len(section.raw)
        else:
            section_end = find_section_end(buffer, section_start, self._scanned, "header section")
            if section_end < 0:
                self._line = line
                self._line_bytes = section_start
                self._scanned = len(buffer)
                return None
            section = parse_header_section(bytes(buffer[section_start:section_end]), version)
            self._remembered = (
                section if len(section.raw) <= REMEMBERED_HEADER_BYTES_MAX else _NOTHING_REMEMBERED
            )
        self._drop(section_end)
        self._scanned = self._empty_lines = 0
        self._line = None
        self._keep_alive = section.keep_alive
        self._content_length = section.content_length
        if section.content_length is None:
            self._chunks = ChunkedDecoder()
        elif section.content_length == 0 and not section.keep_alive:
            self.end()
        # By position, which is faster than by name.
        return Request(
            method,
            path,
            query,
            version,
            authority or section.authority,
            section.headers,
            section.keep_alive,
            section.content_length,
            section.expects_continue,
            refusal or section.refusal,
        )

    def _find_request_line(self) -> int:
        """Skip empty lines; return the index of the CR LF behind the request line, -1 for more (§2.2)."""
        while True:
            buffer = self._buffer
            end = find_line_end(buffer, 0, self._scanned, REQUEST_LINE_BYTES_MAX, "request line")
            if end > 0:
                return end
            if end < 0:
                if len(buffer) >= _REQUEST_LINE_WINDOW:
                    raise ProtocolError(
                        414,
                        "uri_too_long",
                        f"The request line is longer than the {REQUEST_LINE_BYTES_MAX} bytes allowed.",
                        "Send a shorter target.",
                    )
                # The last byte may be the CR of the line's end.
                self._scanned = max(0, len(buffer) - 1)
                return -1
            self._drop(len(_CRLF))
            self._scanned = 0
            self._empty_lines += 1
            if self._empty_lines > EMPTY_LINES_MAX:
                raise bad_request(
                    f"More than {EMPTY_LINES_MAX} empty lines came before the request line.",
                    "Send the request line first.",
                )

    def _read_body(self, bytes_max: int, keep: bool) -> bytes | None:
        length = self._content_length
        if length is None:
            return self._chunks.decode(self._own_buffer(), bytes_max, keep=keep)
        if length > bytes_max:
            raise content_too_large(bytes_max)
        buffer = self._buffer
        if not keep:
            taken = min(len(buffer), length)
            self._drop(taken)
            self._content_length = length - taken
            return None if self._content_length else b""
        if len(buffer) < length:
            return None
        with memoryview(buffer) as view:
            body = bytes(view[:length])
        self._drop(length)
        return body

    def _own_buffer(self) -> bytearray:
        buffer = self._buffer
        if not isinstance(buffer, bytearray):
            self._buffer = buffer = bytearray(buffer)
        return buffer

    def _drop(self, count: int) -> None:
        """Remove the first `count` bytes, which were read. An empty buffer holds no memory."""
        buffer = self._buffer
        if count == len(buffer):
            self._buffer = b""
        elif isinstance(buffer, bytearray):
            del buffer[:count]
        else:
            self._buffer = bytearray(buffer[count:])

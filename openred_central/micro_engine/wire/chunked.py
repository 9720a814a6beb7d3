"""The decoder of bodies that come in chunks (RFC 9112 §7.1). Pure: bytes in a buffer, no waiting."""

from __future__ import annotations

import re

from ..limits import (
    CHUNK_EXTENSION_BYTES_MAX,
    CHUNK_SIZE_DIGITS_MAX,
    CHUNKS_PER_READ_MAX,
    SMALL_CHUNK_BYTES,
    SMALL_CHUNKS_MAX,
)
from .fields import find_line_end, find_section_end, parse_fields
from .protocol import TOKEN, bad_request, bare_line_break, content_too_large, quoted

_CRLF = b"\r\n"
_SIZE_LINE = "chunk size line"
_TRAILERS = "trailer section"
_SIZE_LINE_BYTES_MAX = CHUNK_SIZE_DIGITS_MAX + CHUNK_EXTENSION_BYTES_MAX

# chunk-size [ chunk-ext ] (RFC 9112 §7.1.1). White space may stand around ";" and "=", nowhere else.
# Possessive repetition: no input makes the match take longer than its length.
_TOKEN = TOKEN.encode()
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_EXTENSION = rb"[ \t]*+;[ \t]*+" + _TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?+"
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]++)(?:" + _EXTENSION + rb")*+")
_PLAIN_HEAD = re.compile(rb"([0-9A-Fa-f]{1,%d})\r\n" % CHUNK_SIZE_DIGITS_MAX)

# States of the decoder beside a number of data bytes to come.
_WAITING_FOR_SIZE = -1
_WAITING_FOR_TRAILERS = 0
_WAITING_FOR_END_OF_CHUNK = -2


class ChunkedDecoder:
    """One body in chunks, collected until it is complete.

    `body` holds the data so far, as far as it is kept; `rests` says that the last `decode` stopped at its
    share of chunks, and not for want of bytes.
    """

    __slots__ = (
        "_announced_bytes",
        "_extension_bytes",
        "_scanned",
        "_size",
        "_small_chunks",
        "body",
        "rests",
    )

    def __init__(self) -> None:
        self.body = bytearray()
        # The sizes of all chunks so far.
        self._announced_bytes = 0
        # Data bytes of the current chunk to come, or one of the states above.
        self._size = _WAITING_FOR_SIZE
        self._extension_bytes = 0
        self._small_chunks = 0
        self.rests = False
        # Bytes at the front of the buffer without the end of a line, so that none is searched twice.
        self._scanned = 0

    @property
    def started(self) -> bool:
        """Return whether any of the body was taken from the buffer."""
        return self._size != _WAITING_FOR_SIZE or self._announced_bytes > 0

    def decode(self, buffer: bytearray, bytes_max: int, *, keep: bool = True) -> bytes | None:
        """Return the whole body once its last byte is in `buffer`, else None; without `keep`, it is empty.

        The bytes read are removed from `buffer`, at most `CHUNKS_PER_READ_MAX` chunks in one call. Trailers
        are checked like headers and dropped.

        Raises `ProtocolError` 413 when the announced chunks sum up to more than `bytes_max` bytes, before
        they are read; 400 for anything that is not the chunked coding, for more than 4 KiB of extensions, or
        for too many small chunks; 431 for too many trailers.
        """
        position = 0
        complete = False
        # Each chunk takes three steps: its size, its data, its end.
        steps_left = 3 * CHUNKS_PER_READ_MAX
        while not complete and steps_left:
            steps_left -= 1
            if self._size == _WAITING_FOR_SIZE:
                end = self._read_size(buffer, position, bytes_max)
            elif self._size == _WAITING_FOR_TRAILERS:
                start = position + len(_CRLF)
                end = find_section_end(buffer, start, self._scanned, _TRAILERS)
                if end >= 0:
                    parse_fields(bytes(buffer[start:end]), _TRAILERS)
                    complete = True
            elif self._size == _WAITING_FOR_END_OF_CHUNK:
                end = self._read_end_of_chunk(buffer, position)
            else:
                end = self._read_data(buffer, position, keep)
            if end < 0:
                break
            position = end
        del buffer[:position]
        if complete:
            body, self.body = bytes(self.body), bytearray()
            return body
        self.rests = not steps_left
        self._scanned = (
            0 if self.rests or self._size not in (_WAITING_FOR_SIZE, _WAITING_FOR_TRAILERS) else len(buffer)
        )
        return None

    def _read_size(self, buffer: bytearray, start: int, bytes_max: int) -> int:
        """Read the line with the size of the next chunk. Return the index behind it, -1 if more must come."""
        # Nearly every size line is a bare number, which is read faster than the whole grammar.
        plain = _PLAIN_HEAD.match(buffer, start)
        if plain is not None:
            return self._expect_data(int(plain[1], 16), plain.end(), bytes_max)
        end = find_line_end(buffer, start, self._scanned, _SIZE_LINE_BYTES_MAX, _SIZE_LINE)
        if end < 0:
            if len(buffer) - start >= _SIZE_LINE_BYTES_MAX + len(_CRLF):
                self._count_extension(_SIZE_LINE_BYTES_MAX + 1)
            return -1
        line = bytes(buffer[start:end])
        head = _CHUNK_HEAD.fullmatch(line)
        if b"\r" in line or b"\n" in line:
            raise bare_line_break(_SIZE_LINE)
        digits = head[1].lstrip(b"0") if head is not None else b""
        if head is None or len(digits) > CHUNK_SIZE_DIGITS_MAX:
            raise bad_request(
                f"The {_SIZE_LINE} {quoted(line.decode('latin-1'))} is not a hexadecimal number of at most "
                f"{CHUNK_SIZE_DIGITS_MAX} digits, with well-formed extensions if any.",
                "Send each chunk as its size in hexadecimal, CR LF, its data, CR LF.",
            )
        # Zeros beyond the width of a size are padding, and count like an extension.
        self._count_extension(len(line) - min(len(head[1]), CHUNK_SIZE_DIGITS_MAX))
        return self._expect_data(int(digits or b"0", 16), end + len(_CRLF), bytes_max)

    def _expect_data(self, size: int, end: int, bytes_max: int) -> int:
        """Expect a chunk of `size` bytes, whose size line goes to `end`. Return the index to read on from."""
        self._announced_bytes += size
        if self._announced_bytes > bytes_max:
            raise content_too_large(bytes_max)
        if size:
            self._small_chunks = max(0, self._small_chunks + 1 - size // SMALL_CHUNK_BYTES)
        if self._small_chunks > SMALL_CHUNKS_MAX:
            raise bad_request(
                f"The body has more than the {SMALL_CHUNKS_MAX} chunks allowed of less than "
                f"{SMALL_CHUNK_BYTES} bytes.",
                "Send larger chunks, or the body with Content-Length.",
            )
        self._size = size
        # The CR LF of the last size line stays: the search of the empty line behind it begins there.
        return end - len(_CRLF) if size == _WAITING_FOR_TRAILERS else end

    def _count_extension(self, extension_bytes: int) -> None:
        self._extension_bytes += extension_bytes
        if self._extension_bytes > CHUNK_EXTENSION_BYTES_MAX:
            raise bad_request(
                f"The chunk extensions take more than the {CHUNK_EXTENSION_BYTES_MAX} bytes allowed.",
                "Send no chunk extensions; they are not used here.",
            )

    def _read_data(self, buffer: bytearray, start: int, keep: bool) -> int:
        """Read the data of a chunk that has come. Return the index behind it, -1 if none has come."""
        end = min(start + self._size, len(buffer))
        if end == start:
            return -1
        if keep:
            with memoryview(buffer) as view:
                self.body += view[start:end]
        self._size -= end - start
        if not self._size:
            self._size = _WAITING_FOR_END_OF_CHUNK
        return end

    def _read_end_of_chunk(self, buffer: bytearray, start: int) -> int:
        """Read the CR LF behind the data of a chunk. Return the index behind it, -1 if more must come."""
        end = start + len(_CRLF)
        if len(buffer) < end:
            return -1
        if not buffer.startswith(_CRLF, start):
            raise bad_request(
                "A chunk is not followed by CR LF.",
                "Send exactly as many bytes as the chunk's size says, then CR LF.",
            )
        self._size = _WAITING_FOR_SIZE
        return end

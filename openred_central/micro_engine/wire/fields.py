"""Header fields: from the bytes of a header section to validated fields, and their meaning for the message.

The end of the body, the host and the future of the connection follow from the bytes of the section and the
HTTP version alone, so an equal section need not be read again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ...errors import CallerError
from ..limits import (
    CONTENT_LENGTH_DIGITS_MAX,
    HEADER_BYTES_MAX,
    HEADER_FIELD_BYTES_MAX,
    HEADER_FIELDS_MAX,
    LIST_MEMBERS_MAX,
)
from .messages import Headers
from .protocol import TOKEN, ProtocolError, bad_request, bare_line_break, header_fields_too_large, quoted
from .target import parse_authority

_CRLF = b"\r\n"
_SECTION_END = b"\r\n\r\n"
_BARE_LINE_BREAK = re.compile(rb"\r[^\n]|(?<!\r)\n")
_NAME = re.compile(TOKEN)
_CODING = re.compile(rf"{TOKEN}(?:[ \t]*;.*)?")
# Bytes that no field value may have (RFC 9110 §5.5), CR and LF included: those of the line ends are counted.
CONTROLS = bytes(byte for byte in range(0x20) if byte != 0x09) + b"\x7f"


class HeaderSection(NamedTuple):
    """A header section that is valid for its HTTP `version` (10 or 11).

    `raw` is the section with the empty line that ends it. `authority` is the lower-case value of Host, empty
    without one; `content_length` is in bytes, 0 without a body, None for a chunked one; `expects_continue`
    says that the client waits for 100 before it sends the body; `refusal` is set if the message can be read
    but an expectation cannot be met.
    """

    raw: bytes
    version: int
    headers: Headers
    authority: str
    keep_alive: bool
    content_length: int | None
    expects_continue: bool
    refusal: CallerError | None


def find_line_end(
    buffer: bytes | bytearray, start: int, scanned: int, line_bytes_max: int, place: str
) -> int:
    """Return the index of the CR LF that ends the line at `start`, -1 if none has come yet.

    `scanned` bytes of `buffer` were searched before. A longer line than `line_bytes_max` is not found.
    Raises `ProtocolError` 400, naming `place`, for a bare CR or LF as soon as it has come.
    """
    start_search = max(start, scanned - 1)
    window_end = start + line_bytes_max + len(_CRLF)
    end = buffer.find(_CRLF, start_search, window_end)
    if end < 0 and _BARE_LINE_BREAK.search(buffer, start_search, window_end):
        raise bare_line_break(place)
    return end


def find_section_end(buffer: bytes | bytearray, start: int, scanned: int, place: str) -> int:
    """Return the index behind the empty line that ends the field section at `start`, -1 if none has come.

    The line before the section must have ended with CR LF right before `start`; `scanned` bytes of `buffer`
    were searched before. Raises `ProtocolError` 400 for a bare CR or LF and 431 for too many bytes, each as
    soon as it has come.
    """
    window_end = start + HEADER_BYTES_MAX + len(_CRLF)
    end = buffer.find(_SECTION_END, max(start - 2, scanned - 3), window_end)
    if end >= 0:
        return end + len(_SECTION_END)
    if _BARE_LINE_BREAK.search(buffer, max(start, scanned - 1), window_end):
        raise bare_line_break(place)
    if len(buffer) >= window_end:
        raise header_fields_too_large(f"The {place} is larger than the {HEADER_BYTES_MAX} bytes allowed.")
    return -1


def parse_fields(raw: bytes, place: str) -> tuple[tuple[str, str], ...]:
    """Return the lower-case names and Latin-1 values of a section, `raw` with the empty line that ends it.

    Raises `ProtocolError` 400 for a line that is not ``name: value`` and 431 for too many fields or a too
    long one; `place` names the section (RFC 9112 §5).
    """
    if raw == _CRLF:
        return ()
    lines = raw[: -len(_SECTION_END)].decode("latin-1").split("\r\n")
    # One pass over all bytes finds any control character, because each line end accounts for exactly two.
    control_bytes = len(raw) - len(raw.translate(None, CONTROLS))
    if control_bytes != 2 * len(lines) + 2:
        raise _control_error(raw, place)
    if len(lines) > HEADER_FIELDS_MAX:
        raise header_fields_too_large(f"The {place} has more than the {HEADER_FIELDS_MAX} fields allowed.")
    if len(raw) > HEADER_FIELD_BYTES_MAX and len(max(lines, key=len)) > HEADER_FIELD_BYTES_MAX:
        raise header_fields_too_large(
            f"The {place} has a field longer than the {HEADER_FIELD_BYTES_MAX} bytes allowed."
        )
    fields: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise _line_error(line, place)
        # SP and HTAB only (RFC 9110 §5.6.3): a plain strip() would also remove VT, 0x85 and 0xA0.
        fields.append((name.lower(), value.strip(" \t")))
    return tuple(fields)


def _control_error(raw: bytes, place: str) -> ProtocolError:
    if _BARE_LINE_BREAK.search(raw):
        return bare_line_break(place)
    return bad_request(
        f"The {place} has a control character, which a field cannot have.",
        "Send visible characters and spaces.",
    )


def _line_error(line: str, place: str) -> ProtocolError:
    if line.startswith((" ", "\t")):
        return bad_request(
            f"The {place} has a folded line, {quoted(line)}.", "Send each field on one line (RFC 9112 §5.2)."
        )
    return bad_request(
        f"The {place} has the line {quoted(line)}, which does not begin with a field name and a colon.",
        "Send 'name: value', without white space before the colon.",
    )


def parse_header_section(raw: bytes, version: int) -> HeaderSection:
    """Return the meaning of the header section `raw`, with its final empty line, in HTTP `version` 10 or 11.

    Raises `ProtocolError` 400, 413, 431 or 501 if the end of the message is unknown or cannot be served, and
    400 without one valid Host (RFC 9112 §3.2, §6, §9.3; RFC 9110 §10.1.1).
    """
    headers = Headers(parse_fields(raw, "header section"))
    authority = _authority(headers, version)
    content_length = _body_length(headers, version)
    # An HTTP/1.0 client does not know of expectations (RFC 9110 §10.1.1).
    expectations = _members(headers, "expect") if version > 10 else []
    options = _members(headers, "connection")
    refusal = None
    if any(expectation != "100-continue" for expectation in expectations):
        refusal = CallerError(
            417,
            "expectation_failed",
            f"The expectation {quoted(headers.get('expect') or '')} cannot be met here.",
            suggestion="Send no Expect, or Expect: 100-continue.",
        )
    return HeaderSection(
        raw=raw,
        version=version,
        headers=headers,
        authority=authority,
        keep_alive="close" not in options and (version > 10 or "keep-alive" in options),
        content_length=content_length,
        expects_continue=bool(expectations) and refusal is None and content_length != 0,
        refusal=refusal,
    )


def _members(headers: Headers, name: str) -> list[str]:
    """Return the members of the list in field `name`, in lower case, without empty ones (RFC 9110 §5.6.1).

    Raises `ProtocolError` 431 for too many of them.
    """
    value = headers.get(name)
    if value is None:
        return []
    members = value.split(",", LIST_MEMBERS_MAX)
    if len(members) > LIST_MEMBERS_MAX:
        raise header_fields_too_large(
            f"The field {name} has more than the {LIST_MEMBERS_MAX} members allowed."
        )
    return [stripped.lower() for member in members if (stripped := member.strip(" \t"))]


def _authority(headers: Headers, version: int) -> str:
    """Return the host and port of the one Host field in lower case, empty for HTTP/1.0 without it (§3.2)."""
    host = headers.get("host")
    if host is None:
        if version == 10:
            return ""
        raise bad_request("The Host field is missing.", "Send one Host field: host or host:port.")
    # Two fields have been joined by a comma and a space, which is never a host.
    authority = parse_authority(host)
    if authority is None:
        raise bad_request(
            f"The Host field {quoted(host)} is not one host with an optional port.",
            "Send one Host field: host or host:port.",
        )
    return authority


def _body_length(headers: Headers, version: int) -> int | None:
    """Return the length of the body in bytes, None if it comes in chunks (RFC 9112 §6.3)."""
    length = headers.get("content-length")
    if "transfer-encoding" in headers:
        if length is not None:
            raise bad_request(
                "Transfer-Encoding and Content-Length were sent together, so the end of the body is unknown.",
                "Send only one of them.",
            )
        _check_transfer_coding(headers, version)
        return None
    if length is None:
        return 0
    # Two fields have been joined by a comma, and are refused like any list (RFC 9110 §8.6 allows it).
    # isdigit() alone would accept superscript digits.
    if not (length.isascii() and length.isdigit()):
        raise bad_request(
            f"The Content-Length {quoted(length)} is not one decimal number.",
            "Send one Content-Length of digits only.",
        )
    if len(length) > CONTENT_LENGTH_DIGITS_MAX and len(length.lstrip("0")) > CONTENT_LENGTH_DIGITS_MAX:
        raise ProtocolError(
            413,
            "content_too_large",
            f"The Content-Length has more than the {CONTENT_LENGTH_DIGITS_MAX} digits allowed.",
            "Send a smaller body.",
        )
    return int(length[-CONTENT_LENGTH_DIGITS_MAX:])


def _check_transfer_coding(headers: Headers, version: int) -> None:
    """Raise `ProtocolError` unless the transfer coding is exactly ``chunked`` (RFC 9112 §6.1, §7)."""
    if version == 10:
        raise bad_request(
            "Transfer-Encoding was sent with HTTP/1.0, which does not have it.", "Send Content-Length."
        )
    lines = headers.get_all("transfer-encoding")
    # Everything behind too many members becomes one more member, which is no coding.
    codings = [coding.strip(" \t").lower() for coding in lines[0].split(",", LIST_MEMBERS_MAX)]
    *others, last = codings
    names = [coding.partition(";")[0].strip(" \t") for coding in others]
    if (
        len(lines) == 1
        and last == "chunked"
        and "chunked" not in names
        and all(map(_CODING.fullmatch, others))
    ):
        if not others:
            return
        raise ProtocolError(
            501,
            "not_implemented",
            f"The transfer coding {quoted(lines[0])} is not supported.",
            "Send the body with Transfer-Encoding: chunked alone.",
        )
    raise bad_request(
        f"The Transfer-Encoding {quoted(', '.join(lines))} does not end with one chunked, so the end of the "
        "body is unknown.",
        "Send one field, Transfer-Encoding: chunked.",
    )

"""The parts that all parsers share: the token of HTTP, and the errors that end a connection."""

from __future__ import annotations

from typing import Final

from ...errors import CallerError

# The source of an expression for a token (RFC 9110 §5.6.2), for text; `TOKEN.encode()` is the one for bytes.
TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
QUOTED_CHARACTERS_MAX: Final = 60


class ProtocolError(CallerError):
    """Bytes that are no HTTP/1.1 message served here. The connection closes after the answer.

    Arguments as for `CallerError`: HTTP status, code, message, suggestion; `close` is always True.
    """

    def __init__(self, status: int, code: str, message: str, suggestion: str) -> None:
        super().__init__(status, code, message, suggestion=suggestion, close=True)


def bad_request(message: str, suggestion: str) -> ProtocolError:
    """Return a 400 ``bad_request`` (RFC 9110 §15.5.1)."""
    return ProtocolError(400, "bad_request", message, suggestion)


def bare_line_break(place: str) -> ProtocolError:
    """Return a 400 for a lone CR or LF in `place`, such as ``header section`` (RFC 9112 §2.2)."""
    return bad_request(f"The {place} has a CR without LF, or an LF without CR.", "End every line with CR LF.")


def ended_early(place: str) -> ProtocolError:
    """Return a 400 for a client that closed its side within `place` (RFC 9112 §8)."""
    return bad_request(f"The connection ended within the {place}.", "Send the complete request.")


def header_fields_too_large(message: str) -> ProtocolError:
    """Return a 431 ``header_fields_too_large`` (RFC 6585 §5)."""
    return ProtocolError(431, "header_fields_too_large", message, "Send fewer or shorter header fields.")


def content_too_large(bytes_max: int) -> ProtocolError:
    """Return a 413 ``content_too_large`` for a body of more than `bytes_max` bytes (RFC 9110 §15.5.14)."""
    message = f"The body is larger than the {bytes_max} bytes allowed here."
    return ProtocolError(413, "content_too_large", message, "Send a smaller body.")


def quoted(text: str) -> str:
    """Return `text` for an error message: escaped to printable ASCII, in quotes, cut to 60 characters."""
    if len(text) <= QUOTED_CHARACTERS_MAX:
        return ascii(text)
    return f"{text[:QUOTED_CHARACTERS_MAX]!a}…"

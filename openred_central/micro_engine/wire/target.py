"""The request line and its target: target forms, authority, path segments and query (RFC 9112 §3).

Pure functions of text. The text of a request line is its bytes as Latin-1, so each character is one byte.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import unquote

from ...errors import CallerError
from ..limits import QUERY_FIELDS_MAX
from .protocol import TOKEN, ProtocolError, bad_request, bare_line_break, quoted

# Method, path, query, version (10 or 11), authority (empty unless in absolute-form), and the refusal of a
# target that cannot be served although its message can be read. A bare tuple: a NamedTuple is slower to make.
RequestLine: TypeAlias = tuple[str, str, str, int, str, CallerError | None]

# pchar and "/" of RFC 3986 §3.3; escapes are checked where they are decoded.
_PATH_CHARACTERS = r"A-Za-z0-9\-._~!$&'()*+,;=:@/%"

# The request line of nearly every request: origin-form, HTTP/1.x.
_ORIGIN_FORM = re.compile(
    rf"({TOKEN}) (/[{_PATH_CHARACTERS}]*)(?:\?([{_PATH_CHARACTERS}?]*))? HTTP/1\.([0-9])"
)
_LINE = re.compile(rf"({TOKEN}) ([!-~]+) ([^ ]*)")
_VERSION = re.compile(r"HTTP/([0-9])\.([0-9])")
_ABSOLUTE_FORM = re.compile(r"(https?)://([^/?#]*)((?:/[^?#]*)?)((?:[?#].*)?)", re.IGNORECASE)
_NOT_IN_TARGET = re.compile(rf"[^{_PATH_CHARACTERS}?]")
# uri-host [ ":" port ] (RFC 9110 §7.2, RFC 3986 §3.2.2), without the apostrophe, which no host name has and
# which breaks out of quotes, and without the empty host, which http forbids (RFC 9110 §4.2.1).
# Possessive repetition: no input makes the match take longer than its length.
_AUTHORITY = re.compile(
    r"(?:(?:[A-Za-z0-9\-._~!$&()*+,;=]++|%[0-9A-Fa-f]{2})++"
    r"|\[(?:([0-9A-Fa-f:.]++)|[Vv][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&()*+,;=:]++)\])"
    r"(?::[0-9]*+)?"
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_request_line(line: str, scheme: str) -> RequestLine:
    """Return the parts of a request `line`, given without its CR LF, on a connection that serves `scheme`.

    Raises `ProtocolError` 400 for a line that is not ``method SP target SP HTTP/x.y``, 421 for an http
    target over TLS or an https one without, 501 for CONNECT, 505 for a version that is not 1.x (RFC 9112 §3).
    """
    match = _ORIGIN_FORM.fullmatch(line)
    if match is None:
        return _parse_unusual(line, scheme)
    method, path, query, minor = match.groups("")
    if method == "CONNECT":
        return _parse_unusual(line, scheme)
    return method, path, query, 10 if minor == "0" else 11, "", None


def _parse_unusual(line: str, scheme: str) -> RequestLine:
    if "\r" in line or "\n" in line:
        raise bare_line_break("request line")
    match = _LINE.fullmatch(line)
    if match is None:
        raise bad_request(
            f"The request line {quoted(line)} is not a method, a target and a version, one space apart.",
            "Send it like: GET /path HTTP/1.1",
        )
    method, target, protocol = match.groups()
    numbers = _VERSION.fullmatch(protocol)
    if numbers is None:
        raise bad_request(f"The version {quoted(protocol)} is not like HTTP/1.1.", "Send HTTP/1.1.")
    if numbers[1] != "1":
        raise ProtocolError(
            505, "http_version_not_supported", f"{protocol} is not served here.", "Send HTTP/1.1 or HTTP/1.0."
        )
    if method == "CONNECT":
        raise ProtocolError(501, "not_implemented", "This server opens no tunnels.", "Do not send CONNECT.")
    version = 10 if numbers[2] == "0" else 11
    if target == "*":
        if method != "OPTIONS":
            raise bad_request(
                f"The target '*' was sent with {method}; only OPTIONS can have it.", "Send a path."
            )
        return method, target, "", version, "", None
    authority = ""
    if target.startswith("/"):
        path, mark, query = target.partition("?")
    else:
        authority, path, rest = _parse_absolute_form(target, scheme)
        mark, query = rest[:1], rest[1:]
    refusal = _refusal(path + mark + query)
    if not path:
        # OPTIONS without a path is what a proxy before us would have sent on as "*" (RFC 9112 §3.2.4).
        path = "*" if method == "OPTIONS" and not mark else "/"
    return method, path, query, version, authority, refusal


def _parse_absolute_form(target: str, served: str) -> tuple[str, str, str]:
    """Return authority, path, and query with its ``?`` of a target in absolute-form (RFC 9112 §3.2.2).

    Its scheme must be the one that is `served`: TLS and clear text must not be mixed (RFC 9110 §7.4).
    """
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise bad_request(
            f"The target {quoted(target)} is neither a path nor an {served} address.",
            f"Send a path that begins with a slash, or an {served} address.",
        )
    scheme, authority, path, query = match.groups()
    if scheme.lower() != served:
        uses = "uses" if served == "https" else "does not use"
        raise ProtocolError(
            421,
            "misdirected_request",
            f"An {scheme.lower()} address was requested on a connection that {uses} TLS.",
            f"Request the path alone, or the address with {served}.",
        )
    host = parse_authority(authority)
    if host is None:
        raise bad_request(
            f"The target's authority {quoted(authority)} is not a host with an optional port.",
            "Send host or host:port, without a user name.",
        )
    return host, path, query


def _refusal(target: str) -> CallerError | None:
    """Return the error of a target with a character that RFC 3986 does not allow, None without one."""
    found = _NOT_IN_TARGET.search(target)
    if found is None:
        return None
    return _bad_target(
        f"The target has the character {quoted(found[0])}, which an address cannot have.",
        f"Send it as %{ord(found[0]):02X}.",
    )


def _bad_target(message: str, suggestion: str, fields: Mapping[str, str] | None = None) -> CallerError:
    """Return a 400 that keeps the connection, unlike `bad_request`: the message can be read."""
    return CallerError(400, "bad_request", message, suggestion=suggestion, fields=fields)


def parse_authority(text: str) -> str | None:
    """Return `text` in lower case if it is ``uri-host [ ":" port ]``, else None (RFC 9110 §7.2)."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    if match[1] is not None:
        try:
            ipaddress.IPv6Address(match[1])
        except ValueError:
            return None
    return text.lower()


def split_path(path: str) -> tuple[str, ...]:
    """Return the segments of a raw `path`, split at each slash and then percent-decoded once (RFC 3986 §2.4).

    ``/nodes/a%2Fb`` is ``("nodes", "a/b")``, ``/nodes/`` is ``("nodes", "")``, ``/`` is ``("",)``. Dots have
    no meaning. The ``*`` of OPTIONS has no segments. Raises `CallerError` 400, which keeps the connection,
    for a percent sign without two hexadecimal digits and for bytes that are not UTF-8.
    """
    if path == "*":
        return ()
    segments = tuple(path[1:].split("/"))
    if "%" not in path:
        return segments
    return tuple([_decoded(segment, "path") for segment in segments])


def parse_query(query: str) -> dict[str, str]:
    """Return the decoded names and values of a raw `query`, in order (WHATWG URL §5.1); ``+`` is a space.

    A name without ``=`` has an empty value; empty fields are skipped. Raises `CallerError` 400, which keeps
    the connection, for what cannot be decoded, for a name given twice with different values, and for more
    than 100 fields.
    """
    values: dict[str, str] = {}
    fields = query.split("&", QUERY_FIELDS_MAX)
    if len(fields) > QUERY_FIELDS_MAX:
        raise _bad_target(
            f"The query has more than the {QUERY_FIELDS_MAX} fields allowed.", "Send fewer fields."
        )
    for field in fields:
        if not field:
            continue
        name, _, value = field.replace("+", " ").partition("=")
        if "%" in field:
            name, value = _decoded(name, "query"), _decoded(value, "query")
        if values.setdefault(name, value) != value:
            raise _bad_target(
                f"The query has {quoted(name)} twice, with different values.",
                "Send each name once.",
                {name: "given twice, with different values"},
            )
    return values


def _decoded(text: str, place: str) -> str:
    """Return `text`, found in `place` of a target, with its percent escapes decoded once as UTF-8."""
    if _BAD_ESCAPE.search(text):
        raise _bad_target(
            f"In the {place}, {quoted(text)} has a percent sign without two hexadecimal digits after it.",
            "Send a percent sign as %25.",
        )
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _bad_target(
            f"In the {place}, the bytes of {quoted(text)} are not UTF-8.",
            "Percent-encode the UTF-8 bytes of the text.",
        ) from None

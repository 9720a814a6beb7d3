"""Readers of values: functions from a JSON value to the checked one, which raise `Wrong`.

Each has a JSON Schema of exactly what it takes beside it; a test holds the two against each other.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

import orjson

from ...directory.lifecycle import STATE_BY_WIRE_NAME, State
from ...directory.soundness import is_deeper
from ...directory.state.node import NodeEndpoint
from ...encoding import KEY_ID, TOKEN_ID
from ...limits.origins import PORT_MAX, parse_address
from ...security.refusals import TOKEN_CHARS_MAX
from ...wording import RFC_3339, parse_rfc3339
from .fields import Schema, Wrong, only, or_null, schema_of, takes, text_like

PUBLIC_KEY_BYTES_MAX = 4_096
SERVICES_MAX = 32
ADDRESSES_MAX = 8
METADATA_BYTES_MAX = 4_096
METADATA_DEPTH_MAX = 4
WATCHED_IDS_MAX = 100
LOOKUP_IDS_MAX = 100
RESULTS_MAX = 100

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_PART_OF_ID = re.compile(r"[A-Za-z0-9_.:-]{0,128}")
_TOKEN = re.compile(rf"{TOKEN_ID.pattern}|[A-Za-z0-9_.-]{{23,{TOKEN_CHARS_MAX}}}")
# A number of JSON (RFC 8259 §6) that is not negative.
_SHARE = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,400})?(?:[eE][-+]?[0-9]{1,4})?")
_NAME = re.compile(r"[a-z0-9_.-]{1,64}")
_DNS_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# IPv4 in its usual form, as nearly all addresses come: much cheaper than `ipaddress`.
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
# Beginnings of IPv4 and IPv6 addresses that peers cannot connect to; `_reachable` gives the reasons.
_NO_HOST = re.compile(r"0\.|169\.254\.|2(?:2[4-9]|[3-5][0-9])\.")
_NO_HOST_6 = r"^(?:[0:.]+$|[Ff]{2}[0-9A-Fa-f]{2}:|[Ff][Ee][89ABab][0-9A-Fa-f]:|[0:]*:[Ff]{4}:)"
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_DNS_NAME_MAX = 253
# Line breaks occur in PEM; nothing else below the space occurs in any key.
_NO_CONTROL = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+")
LEAVE = "leave"
FORGET = "forget"
_STATES = tuple(name for name in STATE_BY_WIRE_NAME if name != "absent")

# A host name whose last label is no number.
_DNS_NAME = rf"(?:{_DNS_LABEL.pattern}\.)*(?!(?:{_NUMBER.pattern})\.?$){_DNS_LABEL.pattern}\.?"
_SERVICE: Schema = text_like(_NAME.pattern, title="Name")
_NODE_ID_SCHEMA: Schema = text_like(_NODE_ID.pattern, title="NodeId", examples=["node-1"])
_ADDRESS_SCHEMA: Schema = {
    "title": "Address",
    "description": "An IPv4 address, an IPv6 address without brackets and zone, or a DNS name; "
    "no unspecified, multicast, broadcast, reserved or link-local address.",
    "anyOf": [
        text_like(rf"(?!{_NO_HOST.pattern}){_IPV4.pattern}", format="ipv4"),
        # The server takes more IPv4-mapped addresses than this says.
        {"type": "string", "format": "ipv6", "not": {"pattern": _NO_HOST_6}},
        text_like(_DNS_NAME, maxLength=_DNS_NAME_MAX),
    ],
    "examples": ["192.0.2.1", "2001:db8::1", "node.example"],
}
_PORT_SCHEMA: Schema = {"type": "integer", "minimum": 1, "maximum": PORT_MAX}
_TIME_SCHEMA: Schema = text_like(
    RFC_3339.pattern, title="GivenTime", format="date-time", examples=["2027-01-31T12:00:00Z"]
)


def _nested(depth: int) -> Schema:
    """Return the schema of a JSON value with at most `depth` objects and lists nested in each other."""
    if not depth:
        return {"type": ["string", "number", "boolean", "null"]}
    inner = _nested(depth - 1)
    kinds = ["string", "number", "boolean", "null", "array", "object"]
    return {"type": kinds, "items": inner, "additionalProperties": inner}


def _object(title: str, description: str) -> Schema:
    inner = _nested(METADATA_DEPTH_MAX - 1)
    return {"title": title, "description": description, "type": "object", "additionalProperties": inner}


def _listed(name: str, names_max: int | None = None) -> str:
    """Return the form of names joined by commas, surplus commas allowed."""
    more = "*" if names_max is None else f"{{0,{names_max - 1}}}"
    return f"(?:,*{name}(?:,+{name}){more})?,*"


def _in_any_case(name: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in name)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong("has to be a string")
    return value


@takes(_NODE_ID_SCHEMA)
def node_id(value: Any) -> str:
    """Read a node's id: 1 to 128 characters."""
    if not _NODE_ID.fullmatch(_text(value)):
        raise Wrong("has to be 1 to 128 of A-Z a-z 0-9 _ . : - and begin with a letter or digit")
    return str(value)


@takes(text_like(_PART_OF_ID.pattern))
def part_of_id(value: Any) -> str:
    """Read a part of a node's id, which may be empty."""
    if not _PART_OF_ID.fullmatch(_text(value)):
        raise Wrong("has to be at most 128 of A-Z a-z 0-9 _ . : -")
    return str(value)


@takes(_ADDRESS_SCHEMA)
def address(value: Any) -> str:
    """Return an IPv4 or IPv6 address or a DNS name in its usual form; an IPv4-mapped one as IPv4.

    Raises `Wrong` for an address that no peer can connect to, such as an unspecified or a multicast one.
    """
    text = _text(value)
    if _IPV4.fullmatch(text):
        return _reachable(ipaddress.IPv4Address(text)) if _NO_HOST.match(text) else text
    # A zone is local to the node's own machine, and may be any text (RFC 4007 §11.2).
    if "%" not in text:
        found = parse_address(text)
        if found is not None:
            return _reachable(found)
    labels = text.removesuffix(".").split(".")
    # A name whose last label is a number is a mistyped IPv4 address (WHATWG URL §3.5).
    if (
        len(text) > _DNS_NAME_MAX
        or _NUMBER.fullmatch(labels[-1])
        or not all(map(_DNS_LABEL.fullmatch, labels))
    ):
        raise Wrong("has to be an IPv4 address, an IPv6 address without brackets, or a DNS name")
    return text.lower()


def _reachable(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the text of an address at which a peer may find a node.

    Raises `Wrong` for special addresses that no host has as its own (RFC 6890), and for those that mean
    another host on each link (RFC 3927, RFC 4291 §2.5.6).
    """
    kinds = (
        ("an unspecified", found.is_unspecified or (found.version == 4 and int(found) >> 24 == 0)),
        ("a multicast", found.is_multicast),
        ("a link-local", found.is_link_local),
        ("a broadcast or reserved", found.version == 4 and int(found) >> 28 == 0b1111),
    )
    for kind, is_one in kinds:
        if is_one:
            raise Wrong(f"is {kind} address, at which no peer finds the node; send one that peers can reach")
    return str(found)


@takes(_PORT_SCHEMA)
def port(value: Any) -> int:
    # JSON has one kind of number: 8001.0 equals 8001.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= PORT_MAX:
        raise Wrong(f"has to be a whole number from 1 to {PORT_MAX}")
    return value


@takes(
    text_like(
        _NO_CONTROL.pattern,
        maxLength=PUBLIC_KEY_BYTES_MAX,
        description=f"PEM, base64 of DER, base64 of a raw Ed25519 key, or any text; at most "
        f"{PUBLIC_KEY_BYTES_MAX} bytes of UTF-8.",
    )
)
def public_key(value: Any) -> str:
    """Read a public key as text, without parsing it."""
    text = _text(value)
    if not _NO_CONTROL.fullmatch(text) or len(text.encode()) > PUBLIC_KEY_BYTES_MAX:
        raise Wrong(f"has to be text of 1 to {PUBLIC_KEY_BYTES_MAX} bytes without control characters")
    return text


@takes(text_like(KEY_ID.pattern))
def key_id(value: Any) -> str:
    """Read the id of a key: the base64url SHA-256 of its DER SubjectPublicKeyInfo."""
    if not KEY_ID.fullmatch(_text(value)):
        raise Wrong("has to be the base64url SHA-256 of a key's DER SubjectPublicKeyInfo, 43 characters")
    return str(value)


@takes({"type": "array", "items": _SERVICE, "maxItems": SERVICES_MAX})
def services(value: Any) -> str:
    """Read a list of service names. Returns the sorted names joined by commas."""
    if not isinstance(value, list) or len(value) > SERVICES_MAX:
        raise Wrong(f"has to be a list of at most {SERVICES_MAX} names")
    return ",".join(sorted({_name(name) for name in value}))


@takes(text_like(_listed(_NAME.pattern, SERVICES_MAX), examples=["storage,relay"]))
def service_query(value: Any) -> frozenset[str]:
    """Read service names joined by commas, as in a query."""
    names = [name for name in _text(value).split(",") if name]
    if len(names) > SERVICES_MAX:
        raise Wrong(f"has to be at most {SERVICES_MAX} names")
    return frozenset(_name(name) for name in names)


@takes({"anyOf": [_SERVICE, only(""), {"type": "null"}]})
def region(value: Any) -> str:
    """Read the name of a region; null and the empty string mean none."""
    return "" if value in (None, "") else _name(value)


@takes({"anyOf": [_SERVICE, only("")]})
def region_query(value: Any) -> str:
    """Read the name of a region as `region` does, in a query, which has no null."""
    return _name(value) if value != "" else ""


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        shown = value if isinstance(value, str) and len(value) <= 64 else "one of them"
        raise Wrong(f"has to consist of names of 1 to 64 of a-z 0-9 _ . -; {shown!r} is not one")
    return value


@takes(
    _object(
        "Metadata",
        f"At most {METADATA_BYTES_MAX} bytes of JSON, nested at most {METADATA_DEPTH_MAX} deep.",
    )
)
def metadata(value: Any) -> dict[str, Any]:
    """Read a JSON object of bounded size and depth."""
    document = merge_patch(value)
    if len(orjson.dumps(document)) > METADATA_BYTES_MAX:
        raise Wrong(f"may be at most {METADATA_BYTES_MAX} bytes of JSON")
    return document


@takes(
    _object(
        "MetadataPatch",
        "A merge patch (RFC 7396): null removes a member. The limits of Metadata hold for the result.",
    )
)
def merge_patch(value: Any) -> dict[str, Any]:
    """Read a merge patch for metadata (RFC 7396), an object; its size is checked after merging."""
    if not isinstance(value, dict):
        raise Wrong("has to be an object")
    # The result of a patch is at least as deep as the patch.
    if is_deeper(value, METADATA_DEPTH_MAX):
        raise Wrong(f"may be nested at most {METADATA_DEPTH_MAX} deep")
    return value


@takes(
    {
        "type": "array",
        "maxItems": ADDRESSES_MAX,
        "items": {
            "title": "GivenEndpoint",
            "type": "object",
            "properties": {"address": _ADDRESS_SCHEMA, "port": _PORT_SCHEMA},
            "required": ["address", "port"],
        },
    }
)
def addresses(value: Any) -> tuple[NodeEndpoint, ...]:
    """Read further endpoints of a node, each an object of an address and a port."""
    if not isinstance(value, list) or len(value) > ADDRESSES_MAX:
        raise Wrong(f"has to be a list of at most {ADDRESSES_MAX} endpoints")
    return tuple(_endpoint(number, item) for number, item in enumerate(value))


def _endpoint(number: int, value: Any) -> NodeEndpoint:
    if not isinstance(value, dict) or not {"address", "port"} <= value.keys():
        raise Wrong(
            f'has to consist of objects such as {{"address": "192.0.2.1", "port": 8001}}; [{number}] is not'
        )
    try:
        return NodeEndpoint(address(value["address"]), port(value["port"]))
    except Wrong as wrong:
        raise Wrong(f"[{number}] {wrong}") from None


@takes({"type": "boolean"})
def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong("has to be true or false")
    return value


@takes(_SERVICE)
def purpose(value: Any) -> str:
    return _name(value)


@takes({"type": "number", "exclusiveMinimum": 0})
def lifetime(value: Any) -> float:
    """Read the requested lifetime of a token in seconds; it is clamped later."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise Wrong("has to be a number of seconds above 0")
    return float(value)


@takes(text_like(_TOKEN.pattern))
def token(value: Any) -> str:
    """Read a token, or the id of one."""
    if not _TOKEN.fullmatch(_text(value)):
        raise Wrong(f"has to be a token of at most {TOKEN_CHARS_MAX} characters, or the 22 of its id")
    return str(value)


@takes(_TIME_SCHEMA)
def time(value: Any) -> float:
    """Read an RFC 3339 time. Returns seconds since the epoch."""
    try:
        return parse_rfc3339(_text(value))
    except ValueError:
        raise Wrong("has to be a time such as 2027-01-31T12:00:00Z") from None


@takes(or_null(schema_of(key_id)))
def next_key(value: Any) -> str:
    return "" if value is None else key_id(value)


@takes(or_null(_TIME_SCHEMA))
def time_or_none(value: Any) -> float | None:
    return None if value is None else time(value)


@takes({"enum": [LEAVE, FORGET]})
def departure(value: Any) -> str:
    if value not in (LEAVE, FORGET):
        raise Wrong(f"has to be {LEAVE} or {FORGET}")
    return str(value)


def whole_number(minimum: int, maximum: int) -> Callable[[Any], int]:
    """Make a reader of a whole number in a query."""

    @takes({"type": "integer", "minimum": minimum, "maximum": maximum})
    def read(value: Any) -> int:
        text = _text(value)
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and minimum <= int(text) <= maximum):
            raise Wrong(f"has to be a whole number from {minimum} to {maximum}")
        return int(text)

    return read


max_results = whole_number(1, RESULTS_MAX)


@takes({"type": "number", "minimum": 0, "maximum": 1})
def share(value: Any) -> float:
    """Read a share from 0 to 1 in a query."""
    text = _text(value)
    if not _SHARE.fullmatch(text) or float(text) > 1:
        raise Wrong("has to be a number from 0 to 1, such as 0.75")
    return float(text)


@takes(text_like(_listed(f"(?:{'|'.join(map(_in_any_case, _STATES))})"), examples=["active,pending_1st"]))
def states(value: Any) -> frozenset[State]:
    """Read state names joined by commas, in any case."""
    names = [name for name in _text(value).lower().split(",") if name]
    for name in names:
        if name not in _STATES:
            raise Wrong(f"has to consist of {', '.join(_STATES)}")
    return frozenset(STATE_BY_WIRE_NAME[name] for name in names)


@takes({"type": "array", "items": _NODE_ID_SCHEMA, "minItems": 1, "maxItems": LOOKUP_IDS_MAX})
def node_ids(value: Any) -> list[str]:
    """Read a list of node ids. Returns each once, in order."""
    if not isinstance(value, list) or not 1 <= len(value) <= LOOKUP_IDS_MAX:
        raise Wrong(f"has to be a list of 1 to {LOOKUP_IDS_MAX} ids")
    return list(dict.fromkeys(node_id(item) for item in value))


@takes(
    text_like(
        rf"{_NODE_ID.pattern}(?:,{_NODE_ID.pattern}){{0,{WATCHED_IDS_MAX - 1}}}",
        description=f"Up to {WATCHED_IDS_MAX} ids, joined by commas.",
    )
)
def watched_ids(value: Any) -> list[str]:
    """Read node ids that are joined by commas. Returns each once, in order."""
    ids = _text(value).split(",", WATCHED_IDS_MAX)
    if len(ids) > WATCHED_IDS_MAX:
        raise Wrong(f"has to be 1 to {WATCHED_IDS_MAX} ids, joined by commas")
    return list(dict.fromkeys(map(node_id, ids)))

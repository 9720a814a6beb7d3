"""The directory as JSON Lines: one object a line, with named fields, whatever store it came from.

The first line is the header, with the version of this format; the last one the footer, with counts and
digests; in between stand vitals, secrets, tombstones and nodes, the vitals first. The digest of a line is
that of its content as this module writes it: spaces and the order of fields and lines do not matter, anything
else does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from ..directory.analytics.days import DAYS, MONTHS
from ..directory.lifecycle import LIVE_STATES, STATE_BY_WIRE_NAME, State
from ..directory.octaves import CODE_MAX
from ..directory.state.blocks import is_block
from ..directory.state.changes import Vitals
from ..directory.state.columns import DIGEST_MASK, record_digest
from ..directory.state.node import (
    BLOCKED,
    DISCOVERABLE,
    HELD,
    KEYED,
    LEFT,
    OBSERVED,
    PROVEN,
    UNREMEMBERED,
    NodeEndpoint,
    Profile,
    Record,
    Tombstone,
    decode_history,
    profile_parts,
)
from ..encoding import spki_of
from ..limits.origins import PORT_MAX

FORMAT = "openred-central-export"
VERSION = 2
# Version 1 knew no keys and holds: later fields are written only where they differ from their value then.
VERSIONS_READ = (1, 2)
# All revocations that a directory remembers are 2.6 MB; no profile with its history comes near this.
LINE_BYTES_MAX = 1 << 22

WHOLE_MAX = 2**63 - 1
# 30,000 years in seconds: far more than any time of a directory, and no more than its arithmetic bears.
NUMBER_MAX = 1e12

_FLAGS = DISCOVERABLE | LEFT | PROVEN | KEYED | HELD | OBSERVED | UNREMEMBERED | BLOCKED
_STATES = {state.wire: state for state in LIVE_STATES}


class LineError(ValueError):
    """A line, or an item to become one, does not fit this format. The message says what is wrong."""


def object_of(line: bytes) -> dict[str, Any]:
    """Return the fields of `line`. Raises `LineError` where it is no JSON object."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LineError(f"it is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise LineError("it is not a JSON object")
    return fields


class LineFields:
    """The fields of an object, to be taken one by one; `done` refuses those that are left."""

    def __init__(self, fields: dict[str, Any], where: str) -> None:
        self._fields = fields
        self._where = where

    def _take(self, name: str, allowed: str, is_allowed: Callable[[Any], bool]) -> Any:
        if name not in self._fields:
            raise LineError(f"{self._where}{name} is missing")
        value = self._fields.pop(name)
        if not is_allowed(value):
            shown = repr(value)
            raise LineError(f"{self._where}{name} is {shown[:80]}, allowed is {allowed}")
        return value

    def text(self, name: str) -> str:
        """Take text without a zero character, which no store takes."""
        value: str = self._take(name, "text", lambda value: isinstance(value, str) and "\0" not in value)
        return value

    def name(self, name: str) -> str:
        """Take text that can stand in a list separated by commas or semicolons."""
        value = self.text(name)
        if not value or "," in value or ";" in value:
            raise LineError(f"{self._where}{name} is {value!r}, allowed is text without comma and semicolon")
        return value

    def number(self, name: str) -> float:
        """Take a number that can be a time in seconds, or a rate."""

        def is_allowed(value: Any) -> bool:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and -NUMBER_MAX <= value <= NUMBER_MAX

        return float(self._take(name, f"a number up to {NUMBER_MAX:g}", is_allowed))

    def whole(self, name: str, maximum: int = WHOLE_MAX) -> int:
        """Take a whole number from 0 to `maximum`."""
        allowed = f"a whole number from 0 to {maximum}"
        value: int = self._take(name, allowed, lambda value: type(value) is int and 0 <= value <= maximum)
        return value

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """Take true or false; return `default`, where it is given, if the field is missing."""
        if default is not None and name not in self._fields:
            return default
        return self._take(name, "true or false", lambda value: isinstance(value, bool)) is True

    def has(self, name: str) -> bool:
        return name in self._fields

    def choice(self, name: str, choices: Mapping[str, State]) -> State:
        """Take text that is a key of `choices`, and return its value."""
        allowed = f"one of {', '.join(choices)}"
        return choices[self._take(name, allowed, lambda value: isinstance(value, str) and value in choices)]

    def texts(self, name: str) -> list[str]:
        """Take a sorted list of different names, without commas."""

        def is_allowed(value: Any) -> bool:
            texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
            return (
                texts and value == sorted(set(value)) and not any(set(text) & {",", "\0"} for text in value)
            )

        value: list[str] = self._take(name, "a sorted list of different names", is_allowed)
        return value

    def objects(self, name: str) -> list[LineFields]:
        """Take a list of objects, each with its own place in messages."""

        def is_allowed(value: Any) -> bool:
            return isinstance(value, list) and all(isinstance(one, dict) for one in value)

        taken = self._take(name, "a list of objects", is_allowed)
        return [LineFields(one, f"{self._where}{name}[{index}].") for index, one in enumerate(taken)]

    def object(self, name: str) -> dict[str, Any]:
        """Take an object as it is."""
        value: dict[str, Any] = self._take(name, "an object", lambda value: isinstance(value, dict))
        return value

    def done(self) -> None:
        """Raise `LineError` where a field was not taken."""
        if self._fields:
            raise LineError(f"{self._where}{next(iter(self._fields))} is not known")


class Secret(NamedTuple):
    """A value that a directory must not publish, such as the key of its claims."""

    name: str
    value: bytes


class Totals(NamedTuple):
    """The content of the footer: how many items of each kind there are, and two digests.

    `digest` is the sum of the digests of all lines, `directory_digest` that of the records as
    ``GET /stats`` shows it; both modulo 2^64.
    """

    nodes: int = 0
    tombstones: int = 0
    secrets: int = 0
    digest: int = 0
    directory_digest: int = 0

    def with_line(self, item: Item, line: bytes) -> Totals:
        """Return these totals with one more line."""
        digest = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little")
        of_record = record_digest(item) if isinstance(item, Record) else 0
        return Totals(
            self.nodes + isinstance(item, Record),
            self.tombstones + isinstance(item, Tombstone),
            self.secrets + (isinstance(item, Secret) and not is_row(item.name)),
            (self.digest + digest) & DIGEST_MASK,
            (self.directory_digest + of_record) & DIGEST_MASK,
        )


Item = Record | Tombstone | Secret | Vitals


def is_carried(name: str) -> bool:
    """Return whether an export has the kept value under `name`: a block, or the row of a day or month.

    Such a row is no secret, and is not counted as one; it stands in a line of that type.
    """
    return is_block(name) or is_row(name)


def is_row(name: str) -> bool:
    """Return whether the kept value under `name` is the row of a day or month."""
    return name.partition("/")[0] in (DAYS, MONTHS)


def encode_header(created_at: float) -> bytes:
    """Return the first line. `created_at` is wall time."""
    return orjson.dumps({"type": "header", "format": FORMAT, "version": VERSION, "created_at": created_at})


def encode_footer(totals: Totals) -> bytes:
    """Return the last line."""
    fields = totals._asdict()
    for name in ("digest", "directory_digest"):
        fields[name] = f"{fields[name]:016x}"
    return orjson.dumps({"type": "footer", **fields})


def encode(item: Item) -> bytes:
    """Return one line without its end. Raises `LineError` for an item that this format cannot express."""
    try:
        if isinstance(item, Record):
            return orjson.dumps({"type": "node", **_node(item)})
        if isinstance(item, Secret):
            value = base64.b64encode(item.value).decode("ascii")
            return orjson.dumps({"type": "secret", "name": item.name, "value": value})
        if isinstance(item, Tombstone):
            return orjson.dumps({"type": "tombstone", **_tombstone(item)})
        return orjson.dumps({"type": "vitals", **item._asdict()})
    except (ValueError, TypeError, LookupError) as error:
        raise LineError(str(error) or repr(error)) from error


def decode_header(line: bytes) -> None:
    """Raise `LineError` unless `line` is the header of a file in this version of the format."""
    try:
        fields = object_of(line)
    except LineError:
        fields = {}
    if fields.get("type") != "header" or fields.get("format") != FORMAT:
        raise LineError(f"this is no export of OpenRed Central: the first line is not its header ({FORMAT})")
    if fields.get("version") not in VERSIONS_READ:
        raise LineError(
            f"the export has version {fields.get('version')!r} of the format, "
            f"this program knows versions {' and '.join(map(str, VERSIONS_READ))}"
        )


def decode(line: bytes, slot: int) -> Item | Totals:
    """Return the item of a line after the header; a node gets `slot`. Raises `LineError`."""
    fields = object_of(line)
    kind = fields.pop("type", None)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise LineError(f"its type is {kind!r}, allowed is one of {', '.join(_READERS)}")
    named = LineFields(fields, f"{kind} ")
    item = reader(named, slot)
    named.done()
    return item


def _node(record: Record) -> dict[str, Any]:
    unknown = record.flags & ~_FLAGS
    if unknown:
        raise LineError(f"flags {unknown:#x} are not known to version {VERSION} of the format")
    if record.state not in LIVE_STATES:
        raise LineError(f"no node is in state {record.state}")
    profile = Profile.decode(record.profile)
    written_where_set = {
        "proven": bool(record.flags & PROVEN),
        "keyed": bool(record.flags & KEYED),
        "held": bool(record.flags & HELD),
        "observed": bool(record.flags & OBSERVED),
        "unremembered": bool(record.flags & UNREMEMBERED),
        "blocked": bool(record.flags & BLOCKED),
        "generation": record.generation,
        "next_key": record.next_key,
        "longest": record.longest,
    }
    return {
        **{name: value for name, value in written_where_set.items() if value},
        "node_id": record.node_id,
        "state": State(record.state).wire,
        "discoverable": bool(record.flags & DISCOVERABLE),
        "left": bool(record.flags & LEFT),
        "registered_at": record.registered_at,
        "last_seen_at": record.last_seen_at,
        "last_seen_s": record.last_seen_s,
        "since_s": record.since_s,
        "usual_gap_s": record.usual_gap_s,
        "revision": record.revision,
        "services": record.services.split(",") if record.services else [],
        "region": record.region,
        "profile": {
            "address": profile.address,
            "port": profile.port,
            "public_key": profile.public_key,
            "addresses": [{"address": more.address, "port": more.port} for more in profile.addresses],
            "metadata": profile.metadata,
        },
        "away_from_s": record.away_from_s,
        "away_until_s": record.away_until_s,
        "history": [
            {
                "at": entry.at,
                "from": entry.from_state.wire,
                "to": entry.to_state.wire,
                "reason": entry.reason,
            }
            for entry in decode_history(record.history)
        ],
    }


def _tombstone(tombstone: Tombstone) -> dict[str, Any]:
    fields = tombstone._asdict()
    if fields.pop("flags") & PROVEN:
        fields["proven"] = True
    if not fields["next_key"]:
        del fields["next_key"]
    return fields


def _read_node(fields: LineFields, slot: int) -> Record:
    record = Record(
        slot=slot,
        node_id=fields.text("node_id"),
        state=fields.choice("state", _STATES).value,
        flags=(
            fields.flag("discoverable") * DISCOVERABLE
            | fields.flag("left") * LEFT
            | fields.flag("proven", default=False) * PROVEN
            | fields.flag("keyed", default=False) * KEYED
            | fields.flag("held", default=False) * HELD
            | fields.flag("observed", default=False) * OBSERVED
            | fields.flag("unremembered", default=False) * UNREMEMBERED
            | fields.flag("blocked", default=False) * BLOCKED
        ),
        registered_at=fields.number("registered_at"),
        last_seen_at=fields.number("last_seen_at"),
        last_seen_s=fields.number("last_seen_s"),
        since_s=fields.number("since_s"),
        usual_gap_s=fields.number("usual_gap_s"),
        revision=fields.whole("revision"),
        services=",".join(fields.texts("services")),
        region=fields.text("region"),
        profile=_read_profile(LineFields(fields.object("profile"), "node profile.")),
        away_from_s=fields.number("away_from_s"),
        away_until_s=fields.number("away_until_s"),
        history=";".join(map(_read_transition, fields.objects("history"))),
        generation=fields.whole("generation") if fields.has("generation") else 0,
        next_key=fields.text("next_key") if fields.has("next_key") else "",
        longest=fields.whole("longest", CODE_MAX) if fields.has("longest") else 0,
    )
    if record.flags & KEYED:
        try:
            spki_of(profile_parts(record.profile)[2])
        except ValueError as error:
            raise LineError(f"node profile.public_key is not the text of a key: {error}") from error
    return record


def _read_profile(fields: LineFields) -> bytes:
    profile = Profile(
        address=fields.text("address"),
        port=fields.whole("port", PORT_MAX),
        public_key=fields.text("public_key"),
        addresses=tuple(map(_read_endpoint, fields.objects("addresses"))),
        metadata=fields.object("metadata"),
    )
    fields.done()
    return profile.encode()


def _read_endpoint(fields: LineFields) -> NodeEndpoint:
    endpoint = NodeEndpoint(fields.text("address"), fields.whole("port", PORT_MAX))
    fields.done()
    return endpoint


def _read_transition(fields: LineFields) -> str:
    at = fields.number("at")
    from_state = fields.choice("from", STATE_BY_WIRE_NAME)
    to_state = fields.choice("to", STATE_BY_WIRE_NAME)
    reason = fields.name("reason")
    fields.done()
    return f"{at:.3f},{from_state.wire},{to_state.wire},{reason}"


def _read_tombstone(fields: LineFields, slot: int) -> Tombstone:
    return Tombstone(
        id_hash=fields.text("id_hash"),
        key_fingerprint=fields.text("key_fingerprint"),
        died_at=fields.number("died_at"),
        died_s=fields.number("died_s"),
        reason=fields.text("reason"),
        revision=fields.whole("revision"),
        flags=fields.flag("proven", default=False) * PROVEN,
        next_key=fields.text("next_key") if fields.has("next_key") else "",
    )


def _read_vitals(fields: LineFields, slot: int) -> Vitals:
    return Vitals(fields.number("attended_s"), fields.whole("revision"), fields.number("transitions_per_h"))


def _read_secret(fields: LineFields, slot: int) -> Secret:
    name, value = fields.text("name"), fields.text("value")
    try:
        return Secret(name, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as error:
        raise LineError(f"secret value is not base64: {error}") from error


def _read_footer(fields: LineFields, slot: int) -> Totals:
    try:
        return Totals(
            fields.whole("nodes"),
            fields.whole("tombstones"),
            fields.whole("secrets"),
            int(fields.text("digest"), 16),
            int(fields.text("directory_digest"), 16),
        )
    except LineError:
        raise
    except ValueError as error:
        raise LineError(f"footer digest is no hexadecimal number: {error}") from error


_READERS: dict[str, Callable[[LineFields, int], Item | Totals]] = {
    "node": _read_node,
    "tombstone": _read_tombstone,
    "vitals": _read_vitals,
    "secret": _read_secret,
    "footer": _read_footer,
}

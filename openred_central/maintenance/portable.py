"""The directory as JSON Lines: one object a line, with named fields, whatever store it came from.

The first line is the header, with the version of this format; the last one the footer, with counts and
digests; in between stand vitals, secrets, tombstones and nodes, the vitals first. The digest of a line is
that of its content, written anew by this module: spaces, the order of fields and of lines do not matter,
anything else does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from ..directory.lifecycle import LIVE_STATES, STATE_BY_WIRE_NAME, State
from ..directory.state.changes import Vitals
from ..directory.state.columns import DIGEST_MASK, record_digest
from ..directory.state.node import (
    DISCOVERABLE,
    HELD,
    KEYED,
    LEFT,
    OBSERVED,
    PROVEN,
    Endpoint,
    Profile,
    Record,
    Tombstone,
    decode_history,
    profile_parts,
)
from ..encoding import spki_of
from .line_fields import Fields, LineError, object_of

FORMAT = "openred-central-export"
VERSION = 2
# Version 1 knew nothing of keys and holds: what came since is told only where it is not what it was then.
VERSIONS_READ = (1, 2)
# All revocations that a directory remembers are 2.6 MB; no profile with its history comes near this.
LINE_BYTES_MAX = 1 << 22

_STATES = {state.wire: state for state in LIVE_STATES}


class Secret(NamedTuple):
    """What a directory must keep to itself, such as the key of its claims."""

    name: str
    value: bytes


class Totals(NamedTuple):
    """What the footer says: how much of each kind there is, and digests of everything and of the nodes.

    `digest` is the sum of the digests of all lines, `directory_digest` that of the records as
    ``GET /stats`` shows it; both modulo 2^64.
    """

    nodes: int = 0
    tombstones: int = 0
    secrets: int = 0
    digest: int = 0
    directory_digest: int = 0

    def with_line(self, item: Item, line: bytes) -> Totals:
        """These totals and one more line."""
        digest = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little")
        of_record = record_digest(item) if isinstance(item, Record) else 0
        return Totals(
            self.nodes + isinstance(item, Record),
            self.tombstones + isinstance(item, Tombstone),
            self.secrets + isinstance(item, Secret),
            (self.digest + digest) & DIGEST_MASK,
            (self.directory_digest + of_record) & DIGEST_MASK,
        )


Item = Record | Tombstone | Secret | Vitals


def encode_header(created_at: float) -> bytes:
    """The first line. `created_at` is wall time."""
    return orjson.dumps({"type": "header", "format": FORMAT, "version": VERSION, "created_at": created_at})


def encode_footer(totals: Totals) -> bytes:
    """The last line."""
    fields = totals._asdict()
    for name in ("digest", "directory_digest"):
        fields[name] = f"{fields[name]:016x}"
    return orjson.dumps({"type": "footer", **fields})


def encode(item: Item) -> bytes:
    """One line, without its end. Raises `LineError` for what this format cannot say."""
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
    """What a line behind the header says; a node gets `slot`. Raises `LineError`."""
    fields = object_of(line)
    kind = fields.pop("type", None)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise LineError(f"its type is {kind!r}, allowed is one of {', '.join(_READERS)}")
    return reader(Fields(fields, f"{kind} "), slot)


def _node(record: Record) -> dict[str, Any]:
    unknown = record.flags & ~(DISCOVERABLE | LEFT | PROVEN | KEYED | HELD | OBSERVED)
    if unknown:
        raise LineError(f"flags {unknown:#x} are not known to version {VERSION} of the format")
    if record.state not in LIVE_STATES:
        raise LineError(f"no node is in state {record.state}")
    profile = Profile.decode(record.profile)
    told_where_set = {
        "proven": bool(record.flags & PROVEN),
        "keyed": bool(record.flags & KEYED),
        "held": bool(record.flags & HELD),
        "observed": bool(record.flags & OBSERVED),
        "generation": record.generation,
        "next_key": record.next_key,
    }
    return {
        **{name: value for name, value in told_where_set.items() if value},
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


def _read_node(fields: Fields, slot: int) -> Record:
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
        ),
        registered_at=fields.number("registered_at"),
        last_seen_at=fields.number("last_seen_at"),
        last_seen_s=fields.number("last_seen_s"),
        since_s=fields.number("since_s"),
        usual_gap_s=fields.number("usual_gap_s"),
        revision=fields.whole("revision"),
        services=",".join(fields.texts("services")),
        region=fields.text("region"),
        profile=_read_profile(fields.inside("profile")),
        away_from_s=fields.number("away_from_s"),
        away_until_s=fields.number("away_until_s"),
        history=";".join(map(_read_transition, fields.objects("history"))),
        generation=fields.whole("generation") if fields.has("generation") else 0,
        next_key=fields.text("next_key") if fields.has("next_key") else "",
    )
    fields.done()
    if record.flags & KEYED:
        try:
            spki_of(profile_parts(record.profile)[2])
        except ValueError as error:
            raise LineError(f"node profile.public_key is not the text of a key: {error}") from error
    return record


def _read_profile(fields: Fields) -> bytes:
    profile = Profile(
        address=fields.text("address"),
        port=fields.whole("port", 65_535),
        public_key=fields.text("public_key"),
        addresses=tuple(map(_read_endpoint, fields.objects("addresses"))),
        metadata=fields.object("metadata"),
    )
    fields.done()
    return profile.encode()


def _read_endpoint(fields: Fields) -> Endpoint:
    endpoint = Endpoint(fields.text("address"), fields.whole("port", 65_535))
    fields.done()
    return endpoint


def _read_transition(fields: Fields) -> str:
    at = fields.number("at")
    from_state = fields.choice("from", STATE_BY_WIRE_NAME)
    to_state = fields.choice("to", STATE_BY_WIRE_NAME)
    reason = fields.name("reason")
    fields.done()
    return f"{at:.3f},{from_state.wire},{to_state.wire},{reason}"


def _read_tombstone(fields: Fields, slot: int) -> Tombstone:
    tombstone = Tombstone(
        id_hash=fields.text("id_hash"),
        key_fingerprint=fields.text("key_fingerprint"),
        died_at=fields.number("died_at"),
        died_s=fields.number("died_s"),
        reason=fields.text("reason"),
        revision=fields.whole("revision"),
        flags=fields.flag("proven", default=False) * PROVEN,
        next_key=fields.text("next_key") if fields.has("next_key") else "",
    )
    fields.done()
    return tombstone


def _read_vitals(fields: Fields, slot: int) -> Vitals:
    vitals = Vitals(fields.number("attended_s"), fields.whole("revision"), fields.number("transitions_per_h"))
    fields.done()
    return vitals


def _read_secret(fields: Fields, slot: int) -> Secret:
    name, value = fields.text("name"), fields.text("value")
    fields.done()
    try:
        return Secret(name, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as error:
        raise LineError(f"secret value is not base64: {error}") from error


def _read_footer(fields: Fields, slot: int) -> Totals:
    try:
        totals = Totals(
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
    fields.done()
    return totals


_READERS: dict[str, Callable[[Fields, int], Item | Totals]] = {
    "node": _read_node,
    "tombstone": _read_tombstone,
    "vitals": _read_vitals,
    "secret": _read_secret,
    "footer": _read_footer,
}

"""The record of one node, as the registry holds it and a store writes it, and what it is made of."""

from __future__ import annotations

import hashlib
from binascii import a2b_base64
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

import orjson

from ...encoding import (
    ED25519_KEY_BYTES,
    ED25519_SPKI_PREFIX,
    base64url,
    base64url_of_digests,
    key_id,
    spki_of,
)
from ..lifecycle import STATE_BY_WIRE_NAME, WIRE_NAMES, State

# Bits of `Record.flags`. PROVEN: the node has signed with its key and is bound to it. KEYED: the public key
# of the `Profile` is a key in its canonical text, not just some text.
DISCOVERABLE = 1
LEFT = 2
PROVEN = 4
KEYED = 8
# An operator holds the node: silence causes no transition.
HELD = 16
# The node was seen at each of its addresses when it last said what they are.
OBSERVED = 32
# The node wishes that nothing is remembered of its habits.
UNREMEMBERED = 64
# A block of an operator covers the node (see `blocking`).
BLOCKED = 128

HISTORY_ENTRIES_MAX = 16
# Highest start of the generations of a run. With a revision added they stay below 2^53, the limit of integers
# in tokens and JSON.
GENERATION_BASE_MAX = 1 << 52
# Shared by all profiles without metadata, so nothing may write to it.
NO_METADATA: Final[dict[str, Any]] = {}


def is_discoverable(flags: int) -> bool:
    """Return whether a node with these `Record.flags` may be discovered in some state."""
    return flags & (DISCOVERABLE | LEFT | BLOCKED) == DISCOVERABLE


def is_visible(flags: int) -> bool:
    """Return whether everybody may see a node with these `Record.flags` who knows its id."""
    return flags & (DISCOVERABLE | BLOCKED) == DISCOVERABLE


class Record(NamedTuple):
    """One node as the registry holds it and a store writes it, in types that every store has.

    `slot` is the small integer that addresses the record. Times ending in `_at` are wall times in seconds
    since the epoch, for display only; those ending in `_s` are attended seconds and drive the life cycle.
    `usual_gap_s` is the usual time between two signs of life. `revision` is the directory's counter at the
    last acknowledged change. `services` are sorted names joined by commas. `profile` is a `Profile` as UTF-8
    JSON. `away_from_s` and `away_until_s` enclose an announced absence; both are 0 without one. `history` is
    the last transitions as text (`append_entry`).

    `generation` counts changes of the key and revocations of everything granted. If an earlier bearer of the
    name may hold tokens that are still valid, it begins with a number that no other life has. `next_key` is
    the id of the only key to which the node may change, even if the present key is lost; empty without such
    a commitment.

    `longest` is the longest absence from which the node came back, as a code of `octaves`; 0 without any. It
    never becomes less while the node lives.
    """

    slot: int
    node_id: str
    state: int
    flags: int
    registered_at: float
    last_seen_at: float
    last_seen_s: float
    since_s: float
    usual_gap_s: float
    revision: int
    services: str
    region: str
    profile: bytes
    away_from_s: float
    away_until_s: float
    history: str
    generation: int = 0
    next_key: str = ""
    longest: int = 0


def text_bytes(node_id: str, profile: bytes, history: str, next_key: str) -> int:
    """Return the approximate memory of the fields of a `Record` that no two nodes share, in bytes.

    Callers choose their length, so the directory bounds their sum.
    """
    return len(node_id) + len(profile) + len(history) + len(next_key)


class Tombstone(NamedTuple):
    """The remains of a dead node: enough to answer for its name, too little to reveal its data.

    `id_hash` is made by `hash_id`. `key_fingerprint` names the key that may register the name again at once.
    `died_at` is wall time, `died_s` attended seconds; `reason` is the wire name of the event. `revision`
    shows which is newer, a record or a tombstone of the same name. Only PROVEN remains of `flags`. `next_key`
    is as in `Record` and binds the next bearer of the name.
    """

    id_hash: str
    key_fingerprint: str
    died_at: float
    died_s: float
    reason: str
    revision: int
    flags: int = 0
    next_key: str = ""


class Transition(NamedTuple):
    """One change of state. `at` is wall time, `at_s` attended seconds, `reason` the event's wire name."""

    at: float
    at_s: float
    node_id: str
    from_state: State
    to_state: State
    reason: str


# Return (from_state, to_state, reason) of a transition: the kind by which many are counted.
transition_kind = itemgetter(3, 4, 5)


class NodeEndpoint(NamedTuple):
    """One endpoint of a node: `address` is IPv4, IPv6 or a DNS name, `port` is 1 to 65535."""

    address: str
    port: int


class Profile(NamedTuple):
    """The part of a record that only the node changes and no transition touches."""

    address: str
    port: int
    public_key: str
    addresses: tuple[NodeEndpoint, ...] = ()
    metadata: dict[str, Any] = NO_METADATA

    def encode(self) -> bytes:
        """Return the profile as compact UTF-8 JSON. Equal profiles encode to equal bytes."""
        # A list without names, because memory holds one for every node.
        more = [[endpoint.address, endpoint.port] for endpoint in self.addresses]
        fields = [self.address, self.port, self.public_key, more, self.metadata]
        # A copy of the exact size: the bytes that orjson returns keep a much larger block in use.
        return b"%b" % orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, encoded: bytes) -> Profile:
        """Return the profile that `encode` wrote."""
        address, port, public_key, more, metadata = profile_parts(encoded)
        return cls(address, port, public_key, tuple(NodeEndpoint(*endpoint) for endpoint in more), metadata)


def profile_parts(encoded: bytes) -> list[Any]:
    """Return an encoded profile as [address, port, public_key, [[address, port], ...], metadata].

    It is cheaper than `Profile.decode`, for descriptions of many nodes at once.
    """
    parts: list[Any] = orjson.loads(encoded)
    return parts


def pack(node_id: bytes, profile: bytes) -> bytes:
    """Return the id and the encoded profile of a node as five texts, joined by NUL, which none contains.

    The texts are id, address, port, key, and the members of the metadata, as an answer in JSON has them.
    A profile with further endpoints, or with escapes in address or key, is the last text as a whole. The
    three texts before it are then empty.
    """
    # ["<address>",<port>,"<key>",[],{<metadata>}]; without escapes, address and key end with the next quote.
    parts = profile.split(b'"', 4)
    if len(parts) == 5 and b"\\" not in parts[1] and b"\\" not in parts[3]:
        begin, address, port, public_key, rest = parts
        is_usual = (
            begin == b"[" and port[:1] == port[-1:] == b"," and rest[:5] == b",[],{" and rest[-2:] == b"}]"
        )
        if is_usual and len(port) > 2:
            return b"\0".join((node_id, address, port[1:-1], public_key, rest[5:-2]))
    return b"%b\0\0\0\0%b" % (node_id, profile)


def pack_all(node_ids: Sequence[bytes], profiles: Sequence[bytes]) -> list[bytes]:
    """Return the `pack` of each of some nodes, at least one: cheaper than one by one."""
    # Profiles with fewer parts leave fewer columns.
    columns = list(zip(*map(bytes.split, profiles, repeat(b'"'), repeat(4)), strict=False))
    if len(columns) == 5:
        begins, addresses, ports, public_keys, rests = columns
        # Many nodes share port and metadata.
        inner_ports = {port: port[1:-1] for port in set(ports)}
        inner_rests = {rest: rest[5:-2] for rest in set(rests)}
        if (
            set(begins) == {b"["}
            and all(port[:1] == port[-1:] == b"," and len(port) > 2 for port in inner_ports)
            and all(rest[:5] == b",[],{" and rest[-2:] == b"}]" for rest in inner_rests)
            and b"\\" not in b"".join(addresses + public_keys)
        ):
            inner = map(inner_ports.__getitem__, ports), public_keys, map(inner_rests.__getitem__, rests)
            return list(map(b"\0".join, zip(node_ids, addresses, *inner, strict=True)))
    return list(map(pack, node_ids, profiles))


def packed_profile(text: bytes) -> bytes:
    """Return the profile in `text` that `pack` made."""
    _, address, port, public_key, last = text.split(b"\0", 4)
    return b'["%b",%b,"%b",[],{%b}]' % (address, port, public_key, last) if port else last


def packed_address(text: bytes) -> str:
    """Return the address in `text` that `pack` made."""
    address = text.split(b"\0", 2)[1]
    # Cheaper than the whole profile, which most texts do not need.
    return address.decode() if address else str(profile_parts(packed_profile(text))[0])


def key_fingerprint(public_key: str, flags: int) -> str:
    """Return 43 characters that name the public key of a record with these `flags`.

    For a key they are its `key_id`, for other text the base64url SHA-256 of the text.
    """
    if flags & KEYED:
        return key_id(spki_of(public_key))
    return base64url(hashlib.sha256(public_key.encode("utf-8")).digest())


def key_fingerprints(keys: Iterable[tuple[str, int]]) -> list[str]:
    """Return the `key_fingerprint` of each (public_key, flags): cheaper than one by one."""
    sha256, kept_bytes = hashlib.sha256, a2b_base64
    # `kept_spki` written out, because each discovery needs it for many nodes.
    return base64url_of_digests(
        [
            sha256(
                public_key.encode("utf-8")
                if not flags & KEYED
                else ED25519_SPKI_PREFIX + content
                if len(content := kept_bytes(public_key)) == ED25519_KEY_BYTES
                else content
            ).digest()
            for public_key, flags in keys
        ]
    )


# Hash a node's id in UTF-8; `hash_id` writes the digest as text.
id_digest = partial(hashlib.blake2b, digest_size=16)


def hash_id(node_id: str) -> str:
    """Return 22 characters in place of an id that must not be kept: 128 bits of BLAKE2b."""
    return base64url(id_digest(node_id.encode("utf-8")).digest())


class HistoryEntry(NamedTuple):
    """One past transition in a history; `at` is wall time in seconds."""

    at: float
    from_state: State
    to_state: State
    reason: str


def history_entry(at: float, from_state: State, to_state: State, reason: str) -> str:
    """Return the text of one transition in a history; `at` is wall time in seconds."""
    return f"{at:.3f},{WIRE_NAMES[from_state]},{WIRE_NAMES[to_state]},{reason}"


def append_entry(history: str, entry: str) -> str:
    """Return the last `HISTORY_ENTRIES_MAX` entries of `history` with `entry` at the end."""
    if not history:
        return entry
    if history.count(";") >= HISTORY_ENTRIES_MAX - 1:
        history = history[history.index(";") + 1 :]
    return f"{history};{entry}"


def decode_history(history: str) -> list[HistoryEntry]:
    """Return the entries of a record's `history`, oldest first."""
    entries = []
    for text in history.split(";") if history else ():
        at, from_state, to_state, reason = text.split(",")
        entries.append(
            HistoryEntry(float(at), STATE_BY_WIRE_NAME[from_state], STATE_BY_WIRE_NAME[to_state], reason)
        )
    return entries

"""What the directory knows about one node: as it is kept and stored, and as it is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial
from operator import itemgetter
from typing import Any, Final, NamedTuple

import orjson

from ...encoding import base64url, base64url_of_digests, kept_spki, key_id, spki_of
from ..lifecycle import STATE_BY_WIRE_NAME, WIRE_NAMES, State

# Bits of `Record.flags`. A node is bound to its key once it has signed with it (PROVEN); KEYED says that
# `Profile.public_key` is a key in its canonical text, and not just some text.
DISCOVERABLE = 1
LEFT = 2
PROVEN = 4
KEYED = 8
# An operator holds it: silence does not move it on.
HELD = 16
# The node was seen at each of its addresses when it last said what they are.
OBSERVED = 32

HISTORY_ENTRIES_MAX = 16
# Where generations begin in a run, at most: with a revision added they stay below 2^53, as tokens and JSON
# hold them.
GENERATION_BASE_MAX = 1 << 52
# Never written to.
NO_METADATA: Final[dict[str, Any]] = {}


def is_discoverable(flags: int) -> bool:
    """Whether a node with these `Record.flags` may be discovered, its state aside."""
    return flags & (DISCOVERABLE | LEFT) == DISCOVERABLE


class Record(NamedTuple):
    """One node as the registry keeps it and a store writes it, in types that every store has.

    `slot` is the small integer that addresses the record. Times ending in `_at` are wall times in seconds
    since the epoch and only shown; those ending in `_s` are attended seconds and drive the life cycle.
    `usual_gap_s` is the usual time between two signs of life. `revision` is the directory's counter at the
    last change that was acknowledged as durable. `services` are names joined by commas, sorted. `profile`
    is `Profile` as UTF-8 JSON. `away_from_s` and `away_until_s` enclose an announced absence, both 0 where
    there is none. `history` is the text form of the last transitions (`append_history`). `generation` counts
    how often the key was changed or all that it had granted was revoked; where an earlier bearer of the name
    may hold tokens that still count, it begins with a number that no other life has. `next_key` is the id
    of the one key to which the node may change, and without the present one; empty where it has committed to
    none.
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


class SignOfLife(NamedTuple):
    """What a heartbeat changes in a stored record; the names are those of `Record`."""

    slot: int
    last_seen_at: float
    last_seen_s: float
    usual_gap_s: float


class Tombstone(NamedTuple):
    """What stays of a dead node: enough to answer for its name, not to tell who it was.

    `id_hash` as made by `hash_id`; `key_fingerprint` of the key that may register the name again at once;
    `died_at` wall time, `died_s` attended seconds; `reason` is the event's name on the wire; `revision`
    tells which is newer, a record or a tombstone of the same name; of `flags` only PROVEN is kept; `next_key`
    as in `Record`: whoever bears the name again is bound by it.
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


# (from_state, to_state, reason) of a transition, to count many by: 0.1 µs for each.
transition_kind = itemgetter(3, 4, 5)


class Endpoint(NamedTuple):
    """Where a node can be reached: `address` is IPv4, IPv6 or a DNS name, `port` is 1 to 65535."""

    address: str
    port: int


class Profile(NamedTuple):
    """The part of a record that only its owner changes and that no transition touches."""

    address: str
    port: int
    public_key: str
    addresses: tuple[Endpoint, ...] = ()
    metadata: dict[str, Any] = NO_METADATA

    def encode(self) -> bytes:
        """The profile as compact UTF-8 JSON. Equal profiles encode to equal bytes."""
        # A list without names: this stands in memory once for every node.
        more = [[endpoint.address, endpoint.port] for endpoint in self.addresses]
        fields = [self.address, self.port, self.public_key, more, self.metadata]
        # A copy of its own size: what orjson returns sits in a block of 4 KiB, ten times a node's memory.
        return b"%b" % orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, encoded: bytes) -> Profile:
        """The profile that `encode` wrote."""
        address, port, public_key, more, metadata = profile_parts(encoded)
        return cls(address, port, public_key, tuple(Endpoint(*endpoint) for endpoint in more), metadata)


def profile_parts(encoded: bytes) -> list[Any]:
    """What `Profile.encode` wrote, as [address, port, public_key, [[address, port], ...], metadata].

    For descriptions of many nodes at once: 0.4 µs, where making a `Profile` of it takes 1.6 µs.
    """
    parts: list[Any] = orjson.loads(encoded)
    return parts


def key_fingerprint(public_key: str, flags: int) -> str:
    """43 characters that name the public key of a record with these `flags`.

    Of a key they are its `key_id`, of other text the base64url SHA-256 of the text.
    """
    if flags & KEYED:
        return key_id(spki_of(public_key))
    return base64url(hashlib.sha256(public_key.encode("utf-8")).digest())


def key_fingerprints(keys: Iterable[tuple[str, int]]) -> list[str]:
    """The `key_fingerprint` of each (public_key, flags): half of what they cost one by one."""
    sha256 = hashlib.sha256
    return base64url_of_digests(
        [
            sha256(kept_spki(public_key) if flags & KEYED else public_key.encode("utf-8")).digest()
            for public_key, flags in keys
        ]
    )


# The hash of a node's id in UTF-8 that `hash_id` writes as text.
id_digest = partial(hashlib.blake2b, digest_size=16)


def hash_id(node_id: str) -> str:
    """22 characters that stand for a node's id where the id itself must not be kept: 128 bits of BLAKE2b."""
    return base64url(id_digest(node_id.encode("utf-8")).digest())


class HistoryEntry(NamedTuple):
    """One past transition as the history keeps it; `at` is wall time in seconds."""

    at: float
    from_state: State
    to_state: State
    reason: str


def append_history(history: str, transition: Transition) -> str:
    """`history` with `transition` at its end, of which the last `HISTORY_ENTRIES_MAX` entries are kept."""
    at, _, _, from_state, to_state, reason = transition
    return append_entry(history, history_entry(at, from_state, to_state, reason))


def history_entry(at: float, from_state: State, to_state: State, reason: str) -> str:
    """One transition as a history keeps it; `at` is wall time in seconds."""
    return f"{at:.3f},{WIRE_NAMES[from_state]},{WIRE_NAMES[to_state]},{reason}"


def append_entry(history: str, entry: str) -> str:
    """The same as `append_history`, of what `history_entry` made."""
    if not history:
        return entry
    if history.count(";") >= HISTORY_ENTRIES_MAX - 1:
        history = history[history.index(";") + 1 :]
    return f"{history};{entry}"


def decode_history(history: str) -> list[HistoryEntry]:
    """The entries of a record's `history`, oldest first."""
    entries = []
    for text in history.split(";") if history else ():
        at, from_state, to_state, reason = text.split(",")
        entries.append(
            HistoryEntry(float(at), STATE_BY_WIRE_NAME[from_state], STATE_BY_WIRE_NAME[to_state], reason)
        )
    return entries

"""The check of each line of an import by the rules of the API for registrations. Pure.

A directory serves records that it has stored itself, also if a rule is younger than the record. An export may
come from anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..api.wire import values
from ..api.wire.fields import Wrong
from ..directory.analytics.days import check
from ..directory.lifecycle import DWELL_S_MAX, Event
from ..directory.soundness import COUNTER_MAX, ROUNDING_S, find_fault
from ..directory.state.blocks import Blocks, is_block
from ..directory.state.changes import Vitals
from ..directory.state.columns import row_of
from ..directory.state.kept import UNUSABLE
from ..directory.state.node import HISTORY_ENTRIES_MAX, KEYED, Profile, Record, Tombstone, decode_history
from ..security.node_keys import InvalidKey, load_node_key
from ..security.sessions import CLAIM_KEY, CLAIM_KEY_BYTES
from ..security.tokens.revocations import decode_revocations
from ..storage.loading import REVOCATIONS
from ..wording import WALL_S_MAX
from .portable import Item, LineError, Secret, is_carried

_DEATHS = (Event.DEADLINE.value, Event.FORGOTTEN.value)


def admit(item: Item, vitals: Vitals | None) -> None:
    """Raise `LineError` where `item` breaks a rule of the API, or does not belong to these vitals."""
    if isinstance(item, Vitals):
        _within("vitals attended_s", item.attended_s, 0.0, DWELL_S_MAX)
        _within("vitals revision", item.revision, 0, COUNTER_MAX)
        _within("vitals transitions_per_h", item.transitions_per_h, 0.0, math.inf)
        return
    if isinstance(item, Secret):
        _admit_secret(item)
        return
    if vitals is None:
        raise LineError("the vitals are missing; they come before nodes and tombstones")
    if item.revision > vitals.revision:
        raise LineError(f"revision is {item.revision}, the directory is at {vitals.revision}")
    if isinstance(item, Tombstone):
        _admit_tombstone(item, vitals)
        return
    _admit_times(item, vitals)
    _admit_node(item)
    fault = find_fault(row_of(item))
    if fault is not None:
        raise LineError(f"the node cannot be served: {fault}")


def _admit_secret(secret: Secret) -> None:
    if secret.name == CLAIM_KEY:
        if len(secret.value) != CLAIM_KEY_BYTES:
            raise LineError(
                f"secret {CLAIM_KEY} has {len(secret.value)} bytes, allowed are exactly {CLAIM_KEY_BYTES}"
            )
    elif secret.name == REVOCATIONS:
        try:
            decode_revocations(secret.value)
        except ValueError as error:
            raise LineError(f"secret {REVOCATIONS} cannot be read: {error}") from error
    elif is_block(secret.name):
        try:
            Blocks().take(secret.name, secret.value)
        except UNUSABLE as error:
            raise LineError(f"secret {secret.name} cannot be read: {error}") from error
    elif is_carried(secret.name):
        kind, _, name = secret.name.partition("/")
        try:
            check(kind, name, secret.value)
        except UNUSABLE as error:
            raise LineError(f"secret {secret.name} cannot be read: {error}") from error
    else:
        allowed = f"{CLAIM_KEY}, {REVOCATIONS} or the name of a block, a day or a month"
        raise LineError(f"secret name is {secret.name!r}, allowed is {allowed}")


def _admit_tombstone(tombstone: Tombstone, vitals: Vitals) -> None:
    _within("tombstone died_at", tombstone.died_at, 0.0, WALL_S_MAX)
    _within("tombstone died_s", tombstone.died_s, 0.0, vitals.attended_s + ROUNDING_S)
    _valid("tombstone next_key", values.next_key, tombstone.next_key or None)
    if tombstone.reason not in _DEATHS:
        allowed = " or ".join(_DEATHS)
        raise LineError(f"tombstone reason is {tombstone.reason!r}, allowed is {allowed}")


def _admit_times(node: Record, vitals: Vitals) -> None:
    latest_s = vitals.attended_s + ROUNDING_S
    for name in ("registered_at", "last_seen_at"):
        _within(f"node {name}", getattr(node, name), 0.0, WALL_S_MAX)
    for name in ("last_seen_s", "since_s", "away_from_s"):
        value = getattr(node, name)
        if value > latest_s:
            raise LineError(f"node {name} is {value}, the directory is at {vitals.attended_s}")
        _within(f"node {name}", value, 0.0, latest_s)
    _within("node away_until_s", node.away_until_s, 0.0, latest_s + DWELL_S_MAX)
    _within("node usual_gap_s", node.usual_gap_s, 0.0, DWELL_S_MAX)
    _within("node generation", node.generation, 0, COUNTER_MAX)


def _admit_node(node: Record) -> None:
    _valid("node node_id", values.node_id, node.node_id)
    _valid("node services", values.services, node.services.split(",") if node.services else [])
    _valid("node region", values.region, node.region)
    _valid("node next_key", values.next_key, node.next_key or None)
    profile = Profile.decode(node.profile)
    endpoints = [{"address": one.address, "port": one.port} for one in profile.addresses]
    _valid("node profile.address", values.address, profile.address)
    _valid("node profile.port", values.port, profile.port)
    _valid("node profile.public_key", values.public_key, profile.public_key)
    _valid("node profile.addresses", values.addresses, endpoints)
    _valid("node profile.metadata", values.metadata, profile.metadata)
    if node.flags & KEYED:
        try:
            load_node_key(profile.public_key)
        except InvalidKey as error:
            raise LineError(f"node profile.public_key is marked as a key: {error}") from error
    history = decode_history(node.history)
    if len(history) > HISTORY_ENTRIES_MAX:
        raise LineError(f"node history has {len(history)} entries, allowed are {HISTORY_ENTRIES_MAX}")
    for number, entry in enumerate(history):
        _within(f"node history[{number}].at", entry.at, 0.0, WALL_S_MAX)
        if entry.reason not in list(Event):
            allowed = ", ".join(Event)
            raise LineError(f"node history[{number}].reason is {entry.reason!r}, allowed is one of {allowed}")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise LineError(f"{name} is {value}, allowed is {least:g} to {most:g}")


def _valid(name: str, read: Callable[[Any], object], value: Any) -> None:
    """Raise `LineError` unless the API takes `value`, which `read` checks."""
    try:
        read(value)
    except Wrong as wrong:
        raise LineError(f"{name} {wrong}") from wrong

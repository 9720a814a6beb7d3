"""A node as others are shown it, and as it is explained: why it is in its state, and what lies ahead."""

from __future__ import annotations

from typing import Any

from ..clock import Now
from ..directory.directory import Directory
from ..directory.discovery import availability_of
from ..directory.lifecycle import LIVE_STATES, WIRE_NAMES, Event, State, deadline_s, next_state
from ..directory.node import (
    DISCOVERABLE,
    HELD,
    KEYED,
    LEFT,
    OBSERVED,
    PROVEN,
    Profile,
    decode_history,
    key_fingerprint,
    profile_parts,
)
from .times import rfc3339

# Availability is an estimate; more digits would only pretend.
AVAILABILITY_DIGITS = 3

_MEANING = {
    State.ACTIVE: "It was heard from within the tolerance.",
    State.PENDING_FIRST_CHECK: "It missed its heartbeat and is in its grace period.",
    State.FAILED_FIRST_CHECK: "The first check failed; it will be looked at once more.",
    State.RETRY_48H: "It is silent; the 48-hour retry comes next.",
    State.RETRY_2W: "It is silent; the 2-week retry comes next.",
    State.RETRY_2M: "It is silent; the 2-month retry comes next.",
    State.COMA: "It is dormant; its identity is kept.",
}


def describe(directory: Directory, slot: int, now: Now, availability: float | None = None) -> dict[str, Any]:
    """What anybody may know of the node in `slot`, for a discovery or a look-up."""
    registry = directory.nodes.registry
    address, port, public_key, more, metadata = profile_parts(registry.profile(slot))
    flags = registry.flags(slot)
    held = registry.service_set(slot)
    if availability is None:
        availability = availability_of(registry, slot, now.attended_s)
    return {
        "node_id": registry.node_id(slot),
        "address": address,
        "port": port,
        "addresses": [{"address": address, "port": port} for address, port in more],
        "services": held.listed,
        "state": WIRE_NAMES[registry.states[slot]],
        "last_seen": rfc3339(registry.last_seen_at[slot]),
        "metadata": metadata,
        "public_key_fingerprint": key_fingerprint(public_key, flags),
        "identity": identity_of(flags),
        "address_source": "observed" if flags & OBSERVED else "declared",
        "region": held.region or None,
        "availability": round(availability, AVAILABILITY_DIGITS),
    }


def identity_of(flags: int) -> str:
    """Whether a node with these `Record.flags` ever signed with its key: ``proven`` or ``unproven``."""
    return "proven" if flags & PROVEN else "unproven"


def key_status_of(flags: int) -> str:
    """What the public key is: ``valid``, or ``opaque`` where it is text that no signature is checked with."""
    return "valid" if flags & KEYED else "opaque"


def explain(directory: Directory, slot: int, now: Now) -> dict[str, Any]:
    """All of one node: the description, its key, and the story of its life so far and ahead."""
    record = directory.nodes.registry.record(slot)
    state = State(record.state)
    silent_s = max(0.0, now.attended_s - record.last_seen_s)
    history = _history(record.history, record.registered_at)
    away_until = _away_until(record.away_until_s, now)
    return {
        **describe(directory, slot, now),
        "public_key": Profile.decode(record.profile).public_key,
        "key_status": key_status_of(record.flags),
        "key_generation": record.generation,
        "next_key": record.next_key or None,
        "registered_at": rfc3339(record.registered_at),
        "revision": record.revision,
        "discoverable": bool(record.flags & DISCOVERABLE),
        "away_until": away_until,
        "explain": {
            "why": _why(state, record.flags, away_until, silent_s),
            "silent_s": round(silent_s, 3),
            "usual_gap_s": round(record.usual_gap_s, 3),
            "in_state_since": history[-1]["at"],
            "what_to_do": _what_to_do(state, record.flags),
            "deadlines": _deadlines_ahead(directory, slot, now),
            "history": history,
        },
    }


def _why(state: State, flags: int, away_until: str | None, silent_s: float) -> str:
    if flags & LEFT:
        return "It left by its own word; its identity is kept."
    meaning = _MEANING[state]
    if flags & HELD:
        meaning = f"{meaning} An operator holds it in this state."
    if state is State.ACTIVE and away_until is not None:
        meaning = f"It announced to be away until {away_until}, and is not checked before."
    return f"{meaning} Its last sign of life was {_span(silent_s)} ago."


def _what_to_do(state: State, flags: int) -> str:
    if flags & LEFT:
        return "A heartbeat brings it back as itself."
    if flags & HELD and state is State.ACTIVE:
        return "Nothing; silence changes nothing until an operator releases it."
    if state is State.ACTIVE:
        return "Nothing; the next heartbeat renews the tolerance."
    return "A heartbeat brings it back at once, with its identity, services and history."


def _away_until(away_until_s: float, now: Now) -> str | None:
    ahead_s = away_until_s - now.attended_s
    return rfc3339(now.wall_s + ahead_s) if ahead_s > 0 else None


def _deadlines_ahead(directory: Directory, slot: int, now: Now) -> list[dict[str, Any]]:
    """Every state that silence would still lead to, and when, up to DEAD; none for a node that is held."""
    registry = directory.nodes.registry
    if registry.flags(slot) & HELD:
        return []
    state, at_s = registry.state(slot), directory.nodes.deadline_s(slot)
    ahead = []
    while state in LIVE_STATES:
        state = next_state(state, Event.DEADLINE)
        in_s = max(0.0, at_s - now.attended_s)
        ahead.append({"state": state.wire, "at": rfc3339(now.wall_s + in_s), "in_s": round(in_s, 3)})
        at_s = deadline_s(state, at_s, 0.0, 0.0, directory.lifecycle)
    return ahead


def _history(history: str, registered_at: float) -> list[dict[str, Any]]:
    """The kept transitions, oldest first; the registration, which the record itself tells, leads."""
    entries = [
        {
            "at": rfc3339(entry.at),
            "from": entry.from_state.wire,
            "to": entry.to_state.wire,
            "reason": entry.reason,
        }
        for entry in decode_history(history)
    ]
    if not entries or entries[0]["from"] not in (State.ABSENT.wire, State.DEAD.wire):
        first = {
            "at": rfc3339(registered_at),
            "from": State.ABSENT.wire,
            "to": State.ACTIVE.wire,
            "reason": Event.REGISTERED.value,
        }
        entries.insert(0, first)
    return entries


def _span(seconds: float) -> str:
    """A duration for people: its two largest units."""
    parts = []
    for unit, length_s in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, length_s)
        if count:
            parts.append(f"{count:.0f} {unit}{'s' if count != 1 else ''}")
    return " ".join(parts[:2]) or "less than a second"

"""Nodes as JSON: the short form for peers, and the explained form with state, reason and deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from ...clock import Now
from ...directory.directory import Directory
from ...directory.lifecycle import LIVE_STATES, WIRE_NAMES, Event, State, deadline_s, next_state
from ...directory.octaves import seconds_of
from ...directory.state.columns import picker
from ...directory.state.node import (
    DISCOVERABLE,
    HELD,
    KEYED,
    LEFT,
    OBSERVED,
    PROVEN,
    Profile,
    decode_history,
    key_fingerprints,
)
from ...directory.state.service_index import GROUPS_MAX
from ...encoding import entity_tag
from ...wording import rfc3339, rfc3339_of_many, span
from .forecasting import forecast_of

_MEANING = {
    State.ACTIVE: "It gave a sign of life within the tolerance.",
    State.PENDING_FIRST_CHECK: "Its tolerance is over, and it is in its grace period.",
    State.FAILED_FIRST_CHECK: "It is still silent after its grace period.",
    State.RETRY_48H: "It is still silent, in the first of three further waits.",
    State.RETRY_2W: "It is still silent, in the second of three further waits.",
    State.RETRY_2M: "It is still silent, in the third of three further waits.",
    State.COMA: "It is dormant; its identity is kept.",
}


def descriptions(
    directory: Directory, slots: Sequence[int], now: Now, scores: Sequence[float] | None = None
) -> list[str]:
    """Return the public description of each node in `slots` as a JSON object, for discoveries and look-ups.

    The text is joined from parts that are JSON already, which is cheaper than encoding a dictionary.
    """
    registry = directory.nodes.registry
    if scores is None:
        scores = directory.ranking.scores(slots, now.attended_s)
    # Column by column, so that the processor fetches the memory of many nodes at once.
    pick = picker(slots)
    flags, set_ids = pick(registry.flags), pick(registry.set_ids)
    node_ids, addresses, ports, keys, metadata = registry.packed_columns(slots)
    more = [""] * len(slots)
    for place in [place for place, port in enumerate(ports) if not port]:
        addresses[place], ports[place], more[place], keys[place], metadata[place] = _unpacked(metadata[place])
    held = {set_id: registry.sets[set_id] for set_id in set(set_ids)}
    sets = {set_id: _set_as_json(one.services, one.region) for set_id, one in held.items()}
    rows = zip(
        *(node_ids, addresses, ports, more, metadata),
        map(sets.__getitem__, set_ids),
        pick(registry.states),
        rfc3339_of_many(pick(registry.last_seen_at)),
        key_fingerprints(zip(keys, flags, strict=True)),
        map(_FLAG_MEMBERS.__getitem__, flags),
        map(directory.ranking.told, scores),
        strict=True,
    )
    return [
        f'{{"node_id":"{node_id}","address":"{address}","port":{port},"addresses":[{others}],{services},'
        f'"state":"{WIRE_NAMES[state]}","last_seen":"{seen}","metadata":{{{members}}},'
        f'"public_key_fingerprint":"{key}",{by_flags},{region},{expected}}}'
        for node_id, address, port, others, members, (
            services,
            region,
        ), state, seen, key, by_flags, expected in rows
    ]


def describe(directory: Directory, slot: int, now: Now) -> dict[str, Any]:
    """Return the description of one node as a dictionary, to add members to."""
    document: dict[str, Any] = orjson.loads(descriptions(directory, [slot], now)[0])
    return document


def _unpacked(encoded: str) -> tuple[str, str, str, str, str]:
    """Return address, port, further endpoints, key and metadata of a whole profile, in JSON."""
    profile = Profile.decode(encoded.encode())
    more = [{"address": endpoint.address, "port": endpoint.port} for endpoint in profile.addresses]
    inner = [_json(value)[1:-1] for value in (profile.address, more, profile.metadata)]
    return inner[0], str(profile.port), inner[1], profile.public_key, inner[2]


@lru_cache(GROUPS_MAX)
def _set_as_json(services: str, region: str) -> tuple[str, str]:
    """Return services and region of a `Record` as members of a JSON object."""
    names = services.split(",") if services else []
    return f'"services":{_json(names)}', f'"region":{_json(region or None)}'


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def identity_of(flags: int) -> str:
    """Return ``proven`` if `flags` (of a `Record`) bind the node to its key, else ``unproven``."""
    return "proven" if flags & PROVEN else "unproven"


def address_source_of(flags: int) -> str:
    """Return ``observed`` if the server saw the node at each of its addresses, else ``declared``."""
    return "observed" if flags & OBSERVED else "declared"


def key_status_of(flags: int) -> str:
    """Return ``valid``, or ``opaque`` for a public key that is only text."""
    return "valid" if flags & KEYED else "opaque"


# The members of a JSON object that follow from the flags of a node.
_FLAG_MEMBERS = tuple(
    f'"identity":"{identity_of(flags)}","address_source":"{address_source_of(flags)}"' for flags in range(256)
)


def explain(directory: Directory, slot: int, now: Now, *, private: bool) -> dict[str, Any]:
    """Return everything about one node: description, key, forecast, history, and deadlines ahead.

    With `private`, for the node itself and operators, nothing of the forecast is held back, and deadlines
    that are later than usual say why.
    """
    forecast = forecast_of(directory, slot, now, private=private)
    record = directory.nodes.registry.record(slot)
    state = State(record.state)
    silent_s = max(0.0, now.attended_s - record.last_seen_s)
    history = _history(record.history, record.registered_at)
    away_s = record.away_until_s - now.attended_s
    away_until = rfc3339(now.wall_s + away_s) if away_s > 0 else None
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
        **({} if forecast is None else {"forecast": forecast}),
        "explain": {
            "why": _why(state, record.flags, away_until, silent_s),
            "silent_s": round(silent_s, 3),
            "usual_gap_s": round(record.usual_gap_s, 3),
            "in_state_since": history[-1]["at"],
            "what_to_do": _what_to_do(state, record.flags),
            "deadlines": _deadlines_ahead(directory, slot, now, private=private),
            "history": history,
        },
    }


def node_tag(directory: Directory, slot: int, now: Now, *, private: bool) -> str:
    """Return the entity tag of what `explain` returns of a node, compared weakly.

    It follows from the record, and from whether the node is late. Signs of life that change nothing do not
    change it, and all processes find the same.
    """
    record = directory.nodes.registry.record(slot)
    lasting = record._replace(slot=0, last_seen_at=0.0, last_seen_s=0.0, usual_gap_s=0.0)
    forecast = directory.forecast
    late = forecast is not None and forecast.is_late(slot, now.attended_s)
    return entity_tag(f"{tuple(lasting)} {late} {private}".encode())


def _why(state: State, flags: int, away_until: str | None, silent_s: float) -> str:
    if flags & LEFT:
        return "It left on its own request; its identity is kept."
    meaning = _MEANING[state]
    if flags & HELD:
        meaning = f"{meaning} An operator holds it in this state."
    if state is State.ACTIVE and away_until is not None:
        meaning = f"It announced an absence until {away_until}; it stays active until then."
    return f"{meaning} Its last sign of life was {span(silent_s)} ago."


def _what_to_do(state: State, flags: int) -> str:
    if flags & LEFT:
        return "A heartbeat brings it back as itself."
    if flags & HELD and state is State.ACTIVE:
        return "Nothing; silence changes nothing until an operator releases it."
    if state is State.ACTIVE:
        return "Nothing; the next heartbeat renews the tolerance."
    return "A heartbeat brings it back at once, with its identity, services and history."


def _deadlines_ahead(directory: Directory, slot: int, now: Now, *, private: bool) -> list[dict[str, Any]]:
    """Return each state that silence still leads to, and when, up to DEAD; none for a node that is held."""
    registry, patience = directory.nodes.registry, directory.nodes.patience
    if registry.flags[slot] & HELD:
        return []
    state, longest = registry.state(slot), registry.longest[slot]
    times = (registry.since_s[slot], registry.last_seen_s[slot], registry.away_s(slot)[1])
    ahead = []
    while state in LIVE_STATES:
        dwell_s, usual_s = patience.dwell_s(state, longest), patience.dwell_s(state, 0)
        at_s = deadline_s(state, *times, dwell_s)
        extended_s = at_s - deadline_s(state, *times, usual_s)
        state = next_state(state, Event.DEADLINE)
        in_s = max(0.0, at_s - now.attended_s)
        entry = {"state": state.wire, "at": rfc3339(now.wall_s + in_s), "in_s": round(in_s, 3)}
        if private and extended_s > 0:
            entry["extended_s"] = round(extended_s, 3)
            entry["because"] = (
                f"It once was away for up to {span(seconds_of(longest))}, so it is waited for "
                f"{span(dwell_s)} instead of {span(usual_s)}."
            )
        ahead.append(entry)
        times = (at_s, 0.0, 0.0)
    return ahead


def _history(history: str, registered_at: float) -> list[dict[str, Any]]:
    """Return the kept transitions, oldest first, led by the registration, which the record dates."""
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

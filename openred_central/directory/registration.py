"""The data that a node registers, and the record made from it. Pure; `directory` decides who may register."""

from __future__ import annotations

from typing import NamedTuple

from ..clock import Now
from ..errors import CallerError
from .lifecycle import State
from .state.node import (
    DISCOVERABLE,
    HELD,
    KEYED,
    OBSERVED,
    PROVEN,
    UNREMEMBERED,
    Profile,
    Record,
    key_fingerprint,
    profile_parts,
)

# A repeated wall time yields a slightly different attended time, because the clocks drift.
SAME_TIME_S = 1.0
# A caller that did not receive the answer to its registration may repeat it for so long.
REPEATED_S_MAX = 60.0


class Registration(NamedTuple):
    """The data that a node registers, already validated.

    `services` are sorted names joined by commas, each once. `away_until_at` announces an absence until that
    wall time; 0 withdraws an announcement, None leaves it as it is. With `is_keyed`, the `public_key` of the
    profile is the canonical text of a key, which the caller wrote as `key_as_given`. `next_key` is the id of
    the only key to change to, empty for none; None leaves it as it is, and is required once there is one.
    Without `habits`, nothing is to be remembered of when the node is there. With `is_observed`, the caller
    was seen at each address of the profile.
    """

    node_id: str
    profile: Profile
    services: str = ""
    region: str = ""
    discoverable: bool = True
    habits: bool = True
    away_until_at: float | None = None
    is_keyed: bool = False
    key_as_given: str = ""
    next_key: str | None = None
    is_observed: bool = False


def new_record(
    registration: Registration,
    now: Now,
    away_s_max: float,
    *,
    slot: int,
    revision: int,
    usual_gap_s: float,
    signed: bool,
) -> Record:
    """Return the record of a node that registers at `now`; `signed` binds it to its key.

    An announced absence counts for at most `away_s_max` seconds. `usual_gap_s` is the assumed time between
    two signs of life until the node shows its own pace.
    """
    away_until_s = _away_until_s(registration.away_until_at or 0.0, now, away_s_max)
    return Record(
        slot=slot,
        node_id=registration.node_id,
        state=State.ACTIVE,
        flags=(
            registration.discoverable * DISCOVERABLE
            | registration.is_keyed * KEYED
            | signed * PROVEN
            | registration.is_observed * OBSERVED
            | (not registration.habits) * UNREMEMBERED
        ),
        registered_at=now.wall_s,
        last_seen_at=now.wall_s,
        last_seen_s=now.attended_s,
        since_s=now.attended_s,
        usual_gap_s=usual_gap_s,
        revision=revision,
        services=registration.services,
        region=registration.region,
        profile=registration.profile.encode(),
        away_from_s=now.attended_s if away_until_s else 0.0,
        away_until_s=away_until_s,
        history="",
        next_key=registration.next_key or "",
    )


def amended(
    record: Record, registration: Registration, now: Now, away_s_max: float, *, signed: bool = False
) -> Record | None:
    """Return `record` with the data of the registration; None if nothing changes. See `new_record`."""
    profile, is_keyed = registration.profile, registration.is_keyed
    if not (signed or record.flags & KEYED) and is_keyed:
        known_key = profile_parts(record.profile)[2]
        # Earlier servers kept a key as it was given. Given that way again, it is the same key.
        if known_key == registration.key_as_given:
            profile, is_keyed = profile._replace(public_key=known_key), False
    changed = record._replace(
        flags=(
            record.flags & ~(DISCOVERABLE | KEYED | UNREMEMBERED)
            | registration.discoverable * DISCOVERABLE
            | (not registration.habits) * UNREMEMBERED
            | is_keyed * KEYED
            | signed * PROVEN
        ),
        services=registration.services,
        region=registration.region,
        profile=profile.encode(),
    )
    if registration.next_key is not None:
        changed = changed._replace(next_key=registration.next_key)
    if registration.away_until_at is not None:
        away_until_s = _away_until_s(registration.away_until_at, now, away_s_max)
        if abs(away_until_s - record.away_until_s) > SAME_TIME_S:
            away_from_s = now.attended_s if away_until_s else 0.0
            changed = changed._replace(away_from_s=away_from_s, away_until_s=away_until_s)
    if changed == record:
        return None
    return changed._replace(flags=changed.flags & ~OBSERVED | registration.is_observed * OBSERVED)


def repeats_absence(known: Record, changed: Record, registration: Registration) -> bool:
    """Return whether a registration changes nothing in `known` but the end of an announced absence.

    A repeated announcement ends at another attended time if the directory itself was away meanwhile. This is
    no reason to refuse the caller, and no proof that the caller is the node.
    """
    if not (registration.away_until_at and known.away_until_s):
        return False
    return changed._replace(away_from_s=known.away_from_s, away_until_s=known.away_until_s) == known


def repeats_first(record: Record, registration: Registration, now: Now, away_s_max: float) -> bool:
    """Return whether the node registered a moment ago, and its record is as this registration makes it.

    The caller is at each address that the record names, where the directory saw the node, too. Nothing else
    proves it to be the node. See `new_record`.
    """
    return (
        abs(now.wall_s - record.registered_at) <= REPEATED_S_MAX
        and registration.is_observed
        and record.flags & (OBSERVED | HELD) == OBSERVED
        and not record.history
        and amended(record, registration, now, away_s_max) is None
    )


def names_key_of(registration: Registration, record: Record) -> bool:
    public_key: str = profile_parts(record.profile)[2]
    return public_key == registration.profile.public_key


def breaks(registration: Registration, next_key: str) -> bool:
    """Return whether the registration breaks the commitment of the node to `next_key`."""
    return bool(next_key) and registration.next_key not in (None, next_key)


def has_key(registration: Registration, key_id: str) -> bool:
    """Return whether the registration names the key with that id, which may be empty."""
    return registration.is_keyed and key_fingerprint(registration.profile.public_key, KEYED) == key_id


def fingerprints(registration: Registration) -> set[str]:
    """Return the fingerprints of the key of a registration, in canonical text and as it was given."""
    names = {key_fingerprint(registration.profile.public_key, registration.is_keyed * KEYED)}
    if registration.is_keyed:
        names.add(key_fingerprint(registration.key_as_given, 0))
    return names


def _away_until_s(away_until_at: float, now: Now, away_s_max: float) -> float:
    """Return the attended time of an announced return; 0 if there is none or it has passed."""
    ahead_s = away_until_at - now.wall_s
    return now.attended_s + min(ahead_s, away_s_max) if ahead_s > 0 else 0.0


def committed(next_key: str) -> CallerError:
    """Return the error for a change that breaks the commitment of a node to its next key."""
    return CallerError(
        403,
        "forbidden",
        f"The node has committed to its next key, {next_key}. No other key may replace the present one, and "
        "only the change to that key may name another next key.",
        suggestion="Change the key with POST /nodes/{node_id}/key to that one, or leave next_key out.",
    )


def taken(node_id: str, detail: str, suggestion: str) -> CallerError:
    """Return the error for a name that the caller cannot register; `detail` says why."""
    detail = f"The node_id {node_id!r} is taken. {detail}"
    return CallerError(409, "node_id_taken", detail, suggestion=suggestion)

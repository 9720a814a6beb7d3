"""What a node says of itself, and the record that comes of it. Pure: who may say it stands in `directory`."""

from __future__ import annotations

from typing import NamedTuple

from ..clock import Now
from .lifecycle import State
from .state.node import (
    DISCOVERABLE,
    KEYED,
    OBSERVED,
    PROVEN,
    Profile,
    Record,
    key_fingerprint,
    profile_parts,
)

# The same wall time told again comes out a little different in attended time: the clocks are not in step.
SAME_TIME_S = 1.0


class Registration(NamedTuple):
    """What a node says of itself, already validated.

    `services` are names joined by commas, sorted, each once. `away_until_at` announces an absence until
    that wall time; 0 takes an announcement back, None leaves it as it is. `is_keyed` says that the profile's
    `public_key` is the canonical text of a key; `key_as_given` is how the caller wrote it. `next_key` is the
    id of the only key to change to, empty for none; None leaves it as it is, which is all that it may say
    where there is one.
    `is_observed` says that the caller was seen at each address of the profile.
    """

    node_id: str
    profile: Profile
    services: str = ""
    region: str = ""
    discoverable: bool = True
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
    """The record of a node that registers at `now`; `signed` binds it to its key.

    An announced absence is at most `away_s_max` seconds of it; `usual_gap_s` is what is thought to be the
    node's pace until it shows one.
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
    """`record` with what the registration says; None where it says nothing new. The rest as `new_record`."""
    profile, is_keyed = registration.profile, registration.is_keyed
    if not (signed or record.flags & KEYED) and is_keyed:
        known_key = profile_parts(record.profile)[2]
        # Earlier servers kept any key as it was given: written so again, it is the same one.
        if known_key == registration.key_as_given:
            profile, is_keyed = profile._replace(public_key=known_key), False
    changed = record._replace(
        flags=(
            record.flags & ~(DISCOVERABLE | KEYED)
            | registration.discoverable * DISCOVERABLE
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


def tells_absence_again(known: Record, changed: Record, registration: Registration) -> bool:
    """Whether all that a registration changes of the record `known` is when an announced absence ends.

    In attended time it then lies elsewhere by all the time in which the directory itself was away: that is no
    reason to refuse the node, and none to believe that it is the node.
    """
    if not (registration.away_until_at and known.away_until_s):
        return False
    return changed._replace(away_from_s=known.away_from_s, away_until_s=known.away_until_s) == known


def names_key_of(registration: Registration, record: Record) -> bool:
    """Whether the registration is made with the key in `record`."""
    public_key: str = profile_parts(record.profile)[2]
    return public_key == registration.profile.public_key


def breaks(registration: Registration, next_key: str) -> bool:
    """Whether the registration names another next key, or none, where the node has committed to one."""
    return bool(next_key) and registration.next_key not in (None, next_key)


def has_key(registration: Registration, key_id: str) -> bool:
    """Whether the registration is made with the key of that id, which may be empty."""
    return registration.is_keyed and key_fingerprint(registration.profile.public_key, KEYED) == key_id


def fingerprints(registration: Registration) -> set[str]:
    """The names of the key of a registration: also that which it has where it was kept as it was given."""
    names = {key_fingerprint(registration.profile.public_key, registration.is_keyed * KEYED)}
    if registration.is_keyed:
        names.add(key_fingerprint(registration.key_as_given, 0))
    return names


def _away_until_s(away_until_at: float, now: Now, away_s_max: float) -> float:
    """The attended time of an announced return; 0 where there is none, or it has passed."""
    ahead_s = away_until_at - now.wall_s
    return now.attended_s + min(ahead_s, away_s_max) if ahead_s > 0 else 0.0

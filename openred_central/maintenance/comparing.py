"""The comparison of two copies of one directory, of which one may be older. Pure.

Four rules follow from how a directory changes, whatever happened between the two copies: every acknowledged
change gets a new revision, so records with equal revisions are equal; the last sign of life never goes back;
a node that is gone has left a tombstone, as long as those stand; a new node has a revision that the older
copy had not reached.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..directory.lifecycle import State
from ..directory.state.node import Record, decode_history
from ..directory.state.registry import shard_of

# Fields that change only together with the revision.
ACKNOWLEDGED = (
    "services",
    "region",
    "profile",
    "flags",
    "registered_at",
    "away_from_s",
    "away_until_s",
    "longest",
)
SHOWN_CHARACTERS_MAX = 120
# The registry keeps the usual gap as a 32-bit float.
GAP_ROUNDING = 1e-6


class Difference(NamedTuple):
    """Where two copies differ. `field` is empty where the whole record is only in one of them.

    `is_damage` is true if no change of a directory can cause it; `explanation` gives the reason.
    """

    shard: int
    node_id: str
    field: str
    former: Any
    latter: Any
    is_damage: bool
    explanation: str

    def describe(self, former: str, latter: str) -> str:
        """Return the difference for people; `former` and `latter` name the two copies."""
        where = f"shard {self.shard}, node {self.node_id!r}"
        if self.field:
            values = f"{_shown(self.former)} in {former}, {_shown(self.latter)} in {latter}"
            return f"{where}, {self.field}: {values} ({self.explanation})"
        return f"{where}: missing in {latter if self.latter is None else former} ({self.explanation})"


def same_record(held: Record, stored: Record, shards: int) -> Difference | None:
    """Return the first difference between two copies that must be equal."""
    if held == stored:
        return None
    rounded = abs(held.usual_gap_s - stored.usual_gap_s) <= GAP_ROUNDING * abs(stored.usual_gap_s)
    for field, former, latter in zip(Record._fields, held, stored, strict=True):
        if former == latter or (field == "usual_gap_s" and rounded):
            continue
        shard = shard_of(stored.node_id, shards)
        return Difference(shard, stored.node_id, field, former, latter, True, "they must be equal")
    return None


def older_record(then: Record, now: Record, shards: int) -> Difference | None:
    """Return the first difference between a record in an older and in a newer copy, damage before change."""
    revisions = f"revision {then.revision} then, {now.revision} now"

    def differ(field: str, is_damage: bool, explanation: str) -> Difference:
        values = getattr(then, field), getattr(now, field)
        return Difference(
            shard_of(then.node_id, shards), then.node_id, field, *values, is_damage, explanation
        )

    changed = next((name for name in ACKNOWLEDGED if getattr(then, name) != getattr(now, name)), None)
    if now.revision < then.revision:
        return differ("revision", True, "a revision never goes back")
    if now.longest < then.longest and now.registered_at == then.registered_at:
        return differ("longest", True, "it never becomes less while the node lives")
    if changed is not None:
        if now.revision == then.revision:
            return differ(changed, True, f"both have revision {now.revision}, so they must be equal")
        return differ(changed, False, revisions)
    if now.last_seen_s < then.last_seen_s:
        return differ("last_seen_s", True, "the last sign of life never goes back")
    if now.last_seen_s == then.last_seen_s and now.usual_gap_s != then.usual_gap_s:
        return differ("usual_gap_s", True, "only a sign of life changes it, and there was none")
    if now.since_s < then.since_s:
        return differ("since_s", True, "a state never begins earlier")
    for field in ("state", "last_seen_s"):
        if getattr(then, field) != getattr(now, field):
            return differ(field, False, revisions)
    return None


def state_contradiction(record: Record, shards: int) -> Difference | None:
    """Return the difference between the state of a record and the last one in its history."""
    history = decode_history(record.history)
    expected = history[-1].to_state if history else State.ACTIVE
    if record.state == expected:
        return None
    shard = shard_of(record.node_id, shards)
    state = State(record.state).wire
    return Difference(
        shard, record.node_id, "state", expected.wire, state, True, "the history leads elsewhere"
    )


def _shown(value: Any) -> str:
    shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)
    return shown if len(shown) <= SHOWN_CHARACTERS_MAX else f"{shown[:SHOWN_CHARACTERS_MAX]}…"

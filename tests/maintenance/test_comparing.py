"""Each kind of difference is named, and what time explains is told from what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from openred_central.directory.lifecycle import State
from openred_central.directory.state.registry import shard_of
from openred_central.maintenance.comparing import (
    ACKNOWLEDGED,
    Difference,
    older_record,
    same_record,
    state_contradiction,
)
from tests.support.records import record

SHARDS = 64
OTHER: dict[str, Any] = {
    "services": "relay",
    "region": "us",
    "profile": b'["192.0.2.1",1,"other key",[],{}]',
    "history": "1.000,active,coma,left",
}


def test_equal_records_do_not_differ() -> None:
    assert same_record(record(1), record(1), SHARDS) is None
    assert older_record(record(1), record(1), SHARDS) is None


@pytest.mark.parametrize("field", record(1)._fields)
def test_copies_that_must_be_equal_differ_in_any_field(field: str) -> None:
    stored = record(1)._replace(**{field: OTHER.get(field, "x" if field == "node_id" else 77)})
    difference = same_record(record(1), stored, SHARDS)
    assert difference is not None
    assert (difference.field, difference.node_id, difference.is_damage) == (field, stored.node_id, True)
    assert (difference.former, difference.latter) == (getattr(record(1), field), getattr(stored, field))


def test_the_usual_gap_is_kept_with_less_digits_in_memory() -> None:
    assert same_record(record(1, usual_gap_s=86_400.1015625), record(1, usual_gap_s=86_400.1), SHARDS) is None


@pytest.mark.parametrize("field", ACKNOWLEDGED)
def test_the_same_revision_with_another_value_is_damage(field: str) -> None:
    now = record(1, **{field: OTHER.get(field, 77)})
    difference = older_record(record(1), now, SHARDS)
    assert difference is not None
    assert (difference.field, difference.is_damage) == (field, True)
    later = older_record(record(1), now._replace(revision=9), SHARDS)
    assert later is not None
    assert (later.field, later.is_damage) == (field, False)


@pytest.mark.parametrize(
    ("then", "now", "field", "is_damage"),
    [
        ({"revision": 5}, {"revision": 4}, "revision", True),
        ({"last_seen_s": 5.0}, {"last_seen_s": 4.0}, "last_seen_s", True),
        ({"last_seen_s": 4.0}, {"last_seen_s": 5.0, "usual_gap_s": 7.0}, "last_seen_s", False),
        ({"longest": 5}, {"longest": 4, "revision": 9}, "longest", True),
        ({"longest": 5}, {"longest": 4, "revision": 9, "registered_at": 9.0}, "registered_at", False),
        ({"longest": 5}, {"longest": 6, "revision": 9}, "longest", False),
        ({}, {"usual_gap_s": 7.0}, "usual_gap_s", True),
        ({"since_s": 5.0}, {"since_s": 4.0}, "since_s", True),
        ({"since_s": 4.0}, {"since_s": 5.0, "state": 7}, "state", False),
    ],
)
def test_time_goes_one_way(then: dict[str, Any], now: dict[str, Any], field: str, is_damage: bool) -> None:
    difference = older_record(record(1, **then), record(1, **now), SHARDS)
    assert difference is not None
    assert (difference.field, difference.is_damage) == (field, is_damage)


def test_a_difference_is_reported_with_place_and_values() -> None:
    difference = older_record(record(1), record(1, region="us"), SHARDS)
    assert difference is not None
    assert difference.describe("the snapshot", "the store") == (
        f"shard {shard_of('node-1', SHARDS)}, node 'node-1', region: 'eu-west' in the snapshot, "
        "'us' in the store (both have revision 2, so they must be equal)"
    )


@pytest.mark.parametrize(
    ("former", "latter", "told"), [(record(1), None, "the store"), (None, record(1), "the snapshot")]
)
def test_a_record_in_one_copy_alone_is_reported(former: object, latter: object, told: str) -> None:
    difference = Difference(3, "node-1", "", former, latter, True, "it is lost")
    assert difference.describe("the snapshot", "the store") == (
        f"shard 3, node 'node-1': missing in {told} (it is lost)"
    )


def test_very_long_values_are_cut() -> None:
    difference = Difference(3, "node-1", "profile", b"a" * 4_000, b"b", True, "why")
    assert len(difference.describe("memory", "the store")) < 300


@pytest.mark.parametrize(
    ("state", "history", "contradicts"),
    [
        (State.ACTIVE, "", False),
        (State.COMA, "", True),
        (State.COMA, "1.000,active,coma,left", False),
        (State.ACTIVE, "1.000,active,coma,left", True),
        (State.ACTIVE, "1.000,active,coma,left;2.000,coma,active,sign_of_life", False),
    ],
)
def test_a_state_is_where_its_history_leads(state: State, history: str, contradicts: bool) -> None:
    difference = state_contradiction(record(1, state=int(state), history=history), SHARDS)
    assert (difference is not None) is contradicts

"""Columns hold the fields of records, with gaps for free slots; digests cover what was acknowledged."""

from __future__ import annotations

import pytest

from openred_central.directory.lifecycle import State
from openred_central.directory.state.columns import (
    RecordColumns,
    picker,
    record_digest,
    record_digests,
    record_of,
    row_of,
    spread,
)
from openred_central.directory.state.node import DISCOVERABLE, LEFT, Record
from tests.support.building import columns_of, record

# Before records had their longest absence.
FORMER_DIGEST = 5_683_101_322_284_296_211
FORMER_DIGEST_WITH_KEYS = 10_535_864_213_933_395_820


def test_the_columns_are_the_fields_of_a_record_in_their_order() -> None:
    assert RecordColumns._fields == Record._fields


def test_a_row_is_a_record_with_its_text_in_utf_8() -> None:
    one = record(3, "näme", next_key="ü", history="1.0,active,coma,left")
    assert row_of(one).node_id == "näme".encode()
    assert row_of(one).profile == one.profile
    assert record_of(row_of(one)) == one
    # Bytes that are no UTF-8 were read as lone surrogates.
    assert row_of(one._replace(region="\udcff")).region == b"\xff"


def test_values_stand_at_their_slots_and_gaps_are_empty() -> None:
    assert spread("abc", [4, 5, 6], 4, "") == "abc"
    assert spread("abc", [5, 7, 8], 4, "-") == ["-", "a", "-", "b", "c"]


def test_values_are_picked_in_the_order_of_the_slots() -> None:
    for slots, values in (([2, 0, 1, 2], ("c", "a", "b", "c")), ([1], ("b",)), ([], ())):
        assert picker(slots)("abc") == values
        assert picker(slots)(["a", "b", "c"]) == values


@pytest.mark.parametrize(
    "changed",
    [
        {"revision": 8},
        {"flags": DISCOVERABLE | LEFT},
        {"registered_at": 9.0},
        {"services": "chat"},
        {"services": "chat,mai", "region": "leu"},
        {"region": "us"},
        {"profile": b"{}"},
        {"away_until_s": 5.0},
        {"generation": 1},
        {"next_key": "key"},
        {"longest": 1},
    ],
)
def test_acknowledged_data_shows_in_the_digest(changed: dict[str, object]) -> None:
    assert record_digest(record(0, **changed)) != record_digest(record(0))


def test_the_digest_of_a_node_without_an_absence_is_that_of_earlier_versions() -> None:
    assert record_digest(record(0)) == FORMER_DIGEST
    assert record_digest(record(0, generation=2, next_key="key")) == FORMER_DIGEST_WITH_KEYS


def test_state_times_and_slot_do_not_show_in_the_digest() -> None:
    moved = record(5, state=State.COMA, last_seen_s=9.0, since_s=9.0, history="1.000,active,coma,left")
    assert record_digest(moved) == record_digest(record(0))


def test_the_digests_of_many_are_those_of_each() -> None:
    records = [record(0), record(1, "ü", away_until_s=5.0), record(2, services="", revision=2**63 - 1)]
    rare = [record(3, generation=2), record(4, next_key="key"), record(5, longest=8)]
    rare.append(record(6, generation=2, longest=255))
    for many in (records, records + rare):
        assert list(record_digests(columns_of(many))) == list(map(record_digest, many))

"""Columns have the fields of records, and gaps where no node is."""

from __future__ import annotations

from openred_central.directory.state.columns import RecordColumns, picker, record_of, row_of, spread
from openred_central.directory.state.node import Record

from ..building import record


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


def test_of_a_column_is_picked_what_stands_at_the_slots_in_their_order() -> None:
    for slots, values in (([2, 0, 1, 2], ("c", "a", "b", "c")), ([1], ("b",)), ([], ())):
        assert picker(slots)("abc") == values
        assert picker(slots)(["a", "b", "c"]) == values

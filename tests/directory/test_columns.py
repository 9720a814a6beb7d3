"""Columns have the fields of records, and gaps where no node is."""

from __future__ import annotations

from openred_central.directory.columns import RecordColumns, spread
from openred_central.directory.node import Record


def test_the_columns_are_the_fields_of_a_record_in_their_order() -> None:
    assert RecordColumns._fields == Record._fields


def test_values_stand_at_their_slots_and_gaps_are_empty() -> None:
    assert spread("abc", [4, 5, 6], 4, "") == "abc"
    assert spread("abc", [5, 7, 8], 4, "-") == ["-", "a", "-", "b", "c"]

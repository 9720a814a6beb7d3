"""The tables of the years as bytes are what a reader of whole rows makes of them."""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.wire.sheets import (
    COHORTS,
    COLUMNS,
    DAYS,
    FLOWS,
    RETURNS,
    SERVICES,
    age_cells,
    day_cells,
    line,
    lines,
    objects,
    quoted,
    sheet,
)
from openred_central.directory.analytics.days import figures, lists_of
from tests.directory.analytics.test_analytics import busiest_day


def some_day(chance: random.Random, date: str) -> bytes:
    """Return the row of a day with all members, of which some may be empty or unknown."""
    day = busiest_day(chance, date)
    day.note_hold("onset", "2027-01-15T08:00:00.000Z", 'a, "b" ]] "flows":[["c",1]]')
    if chance.random() < 0.3:
        day.flows.clear()
    if chance.random() < 0.3:
        day.stock["services"] = []
    if chance.random() < 0.3:
        day.forecast = False
        day.stock |= dict.fromkeys(("away", "late", "availability", "brier", "dark"))
    if chance.random() < 0.3:
        # It is the last member.
        day.stock["services"] = day.stock.pop("services")
    return day.row()


def read_csv(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))


def told(value: Any) -> str:
    """Return a value as a cell of CSV tells it."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("table", [FLOWS, SERVICES])
def test_lists_of_days_are_told_as_they_are(table: str, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(30):
        row = some_day(chance, "2027-01-15")
        expected = [["2027-01-15", *entry] for entry in orjson.loads(row)[table]]
        lists = lists_of(row, table)
        assert bool(lists) == bool(expected)
        if lists:
            told_rows = orjson.loads(b"[%b]" % objects(table, "2027-01-15", lists))
            assert told_rows == [dict(zip(COLUMNS[table], cells, strict=True)) for cells in expected]
            read = read_csv(sheet(table, [lines("2027-01-15", lists)]))
            assert read == [list(COLUMNS[table]), *(list(map(str, cells)) for cells in expected)]


def test_a_day_as_a_line_is_what_its_row_says(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(30):
        row = some_day(chance, "2027-01-15")
        whole = orjson.loads(row)
        lists = dict.fromkeys((FLOWS, SERVICES))
        assert {**figures(row), **lists} == {**whole, **lists}
        _, cells = read_csv(sheet(DAYS, [line(day_cells(figures(row)))]))
        read = dict(zip(COLUMNS[DAYS], cells, strict=True))
        for column, cell in read.items():
            value: Any = whole
            for name in column.split("."):
                value = value and value[int(name) if isinstance(value, list) else name]
            assert cell == told(value)


def test_a_row_without_some_members_has_empty_cells() -> None:
    row = {"date": "2027-01-15", "complete": True, "nodes": 5, "availability": [1, 2], "heard": 3}
    (cells,) = csv.DictReader(io.StringIO(sheet(DAYS, [line(day_cells(row))]).decode(), newline=""))
    expected = {"date": "2027-01-15", "complete": "true", "nodes": "5"}
    expected |= {"availability.0": "1", "availability.1": "2"}
    assert cells == dict.fromkeys(COLUMNS[DAYS], "") | expected


def test_each_age_of_a_cohort_is_a_line() -> None:
    cohort = {"registered_month": "2027-01", "registered": 9, "here": [9, None, 7], "heard": [None, None, 5]}
    assert read_csv(sheet(COHORTS, map(line, age_cells(cohort)))) == [
        list(COLUMNS[COHORTS]),
        ["2027-01", "0", "9", "9", ""],
        ["2027-01", "1", "9", "", ""],
        ["2027-01", "2", "9", "7", "5"],
    ]


@given(st.lists(st.lists(st.text(), min_size=2)))
def test_any_text_survives_csv(rows: list[list[str]]) -> None:
    assert read_csv(sheet(RETURNS, map(quoted, rows)))[1:] == rows

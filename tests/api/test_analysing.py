"""The years of the directory as callers get them: tables, dates, CSV, and nothing of single nodes."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
from functools import partial
from typing import Any

import orjson
import pytest

from openred_central.api.wire.caching import Recent, StaticDocument
from openred_central.api.wire.sheets import COLUMNS, TABLES
from openred_central.micro_engine.wire.messages import Response
from tests.support.world import DAY_S, World, run

HOUR_S = 3_600.0


def counted(days: int, *, forecast: bool = True, nodes: int = 6) -> World:
    """Return a world of some nodes, of which one is heard every day, after so many days."""
    world = World(forecast=forecast)
    for number in range(nodes):
        world.register(node_id=f"n{number}", services=["relay"])
    world.register(node_id="rare", services=["rare"])
    world.register(node_id="hidden", services=["relay"], discoverable=False)
    pass_days(world, days)
    return world


def pass_days(world: World, days: int) -> None:
    for _ in range(days * 24):
        while world.directory.analytics.step(world.now()) < 1.0:
            pass
        world.visit()
        world.wait(HOUR_S)
        world.call("POST", "/heartbeat/n0")
    while world.directory.analytics.step(world.now()) < 1.0:
        pass


def table(world: World, query: str) -> Any:
    return world.call("GET", f"/analytics?{query}").document


def ask(world: World, query: str, **headers: str) -> Response:
    return run(world.start(world.request("GET", f"/analytics?{query}", **headers)))


def read_csv(world: World, query: str, **headers: str) -> list[dict[str, str]]:
    response = ask(world, query, **headers)
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.body.count(b"\n") == response.body.count(b"\r\n")
    return list(csv.DictReader(io.StringIO(response.body.decode(), newline=""), strict=True))


def test_an_overview_says_what_there_is() -> None:
    world = World()
    empty = world.call("GET", "/analytics").document
    assert empty == {
        "tables": list(TABLES),
        "counted_at": None,
        "days": 0,
        "from": None,
        "to": None,
        "last": None,
    }
    full = counted(3).call("GET", "/analytics").document
    assert (full["days"], full["from"], full["to"]) == (4, "2027-01-15", "2027-01-18")
    assert full["last"]["date"] == "2027-01-18"
    assert full["last"]["complete"] is False
    assert full["counted_at"] == full["last"]["counted_at"] == "2027-01-18T08:00:00.000Z"


def test_a_day_tells_what_was_counted_when_it_ended() -> None:
    world = counted(2)
    first, second, last = table(world, "table=days")["rows"]
    assert [row["complete"] for row in (first, second, last)] == [True, True, False]
    assert first["counted_at"] == "2027-01-16T00:00:00.000Z"
    assert (first["nodes"], first["registered"], second["registered"]) == (8, 8, 0)
    assert first["flows"] == [["absent", "active", "registered", 8]]
    assert (first["attended_s"], second["attended_s"]) == (16 * HOUR_S, DAY_S)
    assert first["listed"] == 7
    assert (second["heard"]["1d"], second["heard"]["7d"]) == (1, 7)
    assert (second["late"], second["became_late"]) == (6, 6)
    assert sum(second["availability"]) == 1
    assert first["services"] == [["relay", 6]]


def test_the_range_of_days_is_inclusive() -> None:
    world = counted(4)
    asked = table(world, "table=days&from=2027-01-16&to=2027-01-17")
    assert [row["date"] for row in asked["rows"]] == ["2027-01-16", "2027-01-17"]
    assert (asked["from"], asked["to"]) == ("2027-01-16", "2027-01-17")
    for nothing in ("from=2030-01-01", "from=2027-01-17&to=2027-01-16"):
        assert table(world, f"table=days&{nothing}")["rows"] == []
    flows = table(world, "table=flows&to=2027-01-15")["rows"]
    assert flows == [
        {"date": "2027-01-15", "from": "absent", "to": "active", "reason": "registered", "nodes": 8}
    ]
    assert table(world, "table=services&from=2027-01-19")["rows"] == [
        {"date": "2027-01-19", "service": "relay", "nodes": 6}
    ]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("table=nodes", "table"),
        ("table=", "table"),
        ("table=days&from=2027-13-01", "from"),
        ("table=days&to=yesterday", "to"),
        ("table=days&from=2027-02-30", "from"),
        ("table=days&format=xml", "format"),
    ],
)
def test_wrong_questions_are_refused(query: str, field: str) -> None:
    reply = World().call("GET", f"/analytics?{query}")
    assert (reply.status, reply.document["error"]) == (400, "bad_request")
    assert list(reply.document["fields"]) == [field]
    if field == "table":
        assert all(name in reply.document["fields"]["table"] for name in TABLES)


def test_unknown_parameters_are_ignored_and_named() -> None:
    assert counted(1).call("GET", "/analytics?table=days&colour=red").document["ignored"] == ["colour"]


def test_an_answer_is_made_once_a_minute() -> None:
    world = counted(1)
    first = world.call("GET", "/analytics?table=days")
    tag = first.headers["ETag"]
    again = ask(world, "table=days", if_none_match=tag)
    assert (again.status, again.body, dict(again.headers)["ETag"]) == (304, b"", tag)
    world.register(node_id="new")
    world.clock.advance(30.0)
    pass_days(world, 0)
    assert ask(world, "table=days", if_none_match=tag).status == 304
    world.clock.advance(31.0)
    pass_days(world, 0)
    renewed = world.call("GET", "/analytics?table=days", if_none_match=tag)
    assert renewed.status == 200
    assert renewed.document["rows"][-1]["registered"] == 1


def test_csv_is_what_json_is() -> None:
    world = counted(3)
    rows = table(world, "table=days")["rows"]
    read = read_csv(world, "table=days&format=csv")
    assert [row["date"] for row in read] == [row["date"] for row in rows]
    for told, cells in zip(rows, read, strict=True):
        assert list(cells) == list(COLUMNS["days"])
        assert cells["by_state.active"] == str(told["by_state"]["active"])
        assert cells["heard.30d"] == str(told["heard"]["30d"])
        assert [cells[f"availability.{grade}"] for grade in range(8)] == list(map(str, told["availability"]))
        assert cells["complete"] == str(told["complete"]).lower()
        assert cells["counted_at"] == told["counted_at"]
        assert cells["brier"] == ("" if told["brier"] is None else str(told["brier"]))
    flows = table(world, "table=flows")["rows"]
    assert read_csv(world, "table=flows", accept="text/csv") == [
        {name: str(value) for name, value in row.items()} for row in flows
    ]
    assert read_csv(world, "format=csv") == read


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_a_header_row_in_csv(name: str) -> None:
    assert read_csv(World(), f"table={name}&format=csv") == []
    assert ask(World(), f"table={name}&format=csv").body.decode() == ",".join(COLUMNS[name]) + "\r\n"


def test_cohorts_follow_nodes_from_the_month_of_their_registration() -> None:
    world = counted(40)
    (cohort,) = table(world, "table=cohorts")["rows"]
    assert cohort == {"registered_month": "2027-01", "registered": 8, "here": [8, 8], "heard": [7, None]}
    ages = read_csv(world, "table=cohorts&format=csv")
    assert [(row["age_months"], row["here"], row["heard"]) for row in ages] == [
        ("0", "8", "7"),
        ("1", "8", ""),
    ]
    assert table(world, "table=cohorts&from=2027-02-01")["rows"] == []
    assert len(table(world, "table=cohorts&from=2027-01-31&to=2027-01-31")["rows"]) == 1


def test_figures_of_few_nodes_are_left_out() -> None:
    world = counted(40, nodes=1)
    assert table(world, "table=cohorts")["rows"] == []
    assert table(world, "table=services")["rows"] == []
    assert table(world, "table=returns")["rows"] == []
    text = b"".join(world.directory.analytics.days.values())
    assert b"rare" not in text
    assert b"hidden" not in text


def test_hidden_nodes_are_in_no_figure_that_tells_when_nodes_are_there() -> None:
    world = counted(2)
    before = table(world, "table=days")["rows"][-1]
    world.clock.advance(HOUR_S)
    world.call("POST", "/heartbeat/hidden")
    world.call("POST", "/heartbeat/n0")
    pass_days(world, 0)
    after = table(world, "table=days")["rows"][-1]
    assert after["counted_at"] != before["counted_at"]
    for name in ("listed", "heard", "late", "availability", "known", "nodes", "by_state"):
        assert after[name] == before[name]


def test_without_habits_a_census_goes_on() -> None:
    world = counted(3, forecast=False)
    rows = table(world, "table=days")["rows"]
    assert [row["nodes"] for row in rows] == [8] * 4
    assert rows[-1]["heard"] == {"1d": 1, "7d": 7, "30d": 7}
    for name in ("away", "late", "became_late", "known", "availability", "dues", "brier", "returns", "dark"):
        assert rows[-1][name] is None
    assert table(world, "table=returns")["rows"] == []
    assert table(world, "table=calibration")["rows"] == []
    assert read_csv(world, "format=csv")[-1]["availability.0"] == ""


def test_returns_and_calibration_tell_what_was_learned() -> None:
    world = counted(1)
    visiting, forecast = world.directory.visiting, world.directory.forecast
    assert visiting is not None
    assert forecast is not None
    for number in range(40):
        visiting.calibration.add(0, 0.95, happened=number % 10 != 0)
        forecast.returns.expose(2, 0.0, 5 * HOUR_S, returned=True)
    forecast.returns.refresh()
    rows = table(world, "table=calibration")["rows"]
    assert {row["pace_s"] for row in rows} == {None, 3_600}
    (row,) = (row for row in rows if row["pace_s"] is None and row["from"] == 0.9)
    assert (row["to"], row["dues"], row["expected"], row["happened"]) == (1.0, 40, 0.95, 0.9)
    rows = table(world, "table=returns")["rows"]
    assert [row["cohort"] for row in rows[::9]] == ["all", "never away, heard on 30 days or more"]
    assert [row["late_s"] for row in rows[:3]] == [3_600, 21_600, 86_400]
    for row in rows:
        assert row["1d"] <= row["7d"] <= row["30d"] <= row["180d"]
    assert rows[0]["1d"] == round(forecast.returns.chance(10, 3_600.0, DAY_S), 4)
    assert read_csv(world, "table=returns&format=csv")[0]["cohort"] == "all"


def test_answers_are_made_one_at_a_time_and_not_on_the_loop() -> None:
    async def ask_all() -> None:
        recent: Recent[int] = Recent(60.0, 2)
        threads, busy, made = set[str](), 0, list[int]()

        def make(key: int) -> StaticDocument:
            nonlocal busy
            busy += 1
            assert busy == 1
            threads.add(threading.current_thread().name)
            made.append(key)
            busy -= 1
            return StaticDocument.of(orjson.dumps(key), "application/json")

        async def ask_for(key: int) -> StaticDocument:
            return await recent.get(key, 0.0, lambda: partial(make, key))

        found = await asyncio.gather(*map(ask_for, (1, 2, 1, 2, 3, 1)))
        assert [document.body for document in found] == [b"1", b"2", b"1", b"2", b"3", b"1"]
        # Two of three keys are kept.
        assert made == [1, 2, 3, 1]
        assert threading.main_thread().name not in threads

    asyncio.run(ask_all())

"""`analytics` shows tables with bars, and prints CSV as the directory writes it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from openred_central.api.wire.sheets import COLUMNS
from openred_central.api.wire.sheets import TABLES as SERVED
from openred_central.cli.analytics import TABLES, show
from openred_central.cli.command import UsageError
from tests.support.fake_server import Asked, Told, respond

from .desk import PLAIN, TERMINAL, Desk

DAYS = {
    "table": "days",
    "rows": [
        {
            "date": f"2027-01-0{number}",
            "nodes": 250 * number,
            "by_state": {"active": 200 * number},
            "heard": {"1d": 100 * number},
            "late": None,
            "registered": number,
            "revived": 0,
            "left": 0,
            "forgotten": 1,
            "died": 2,
        }
        for number in (1, 2, 4)
    ],
}


def answer(document: Any) -> Any:
    return lambda _: (200, document)


def test_all_tables_of_the_directory_are_known() -> None:
    assert TABLES == SERVED


def test_a_terminal_gets_bars_and_a_pipe_gets_tabs() -> None:
    first, *lines = show(DAYS, TERMINAL).splitlines()
    assert first.split() == [
        "DATE",
        "NODES",
        "ACTIVE",
        "HEARD",
        "IN",
        "A",
        "DAY",
        "LATE",
        "REGISTERED",
        "REVIVED",
        "LEFT",
        "FORGOTTEN",
        "DIED",
    ]
    bars = [line.rpartition(" ")[2] for line in lines]
    assert bars == ["█" * 6, "█" * 12, "█" * 24]
    assert lines[0].split()[:5] == ["2027-01-01", "250", "200", "100", "-"]
    assert show(DAYS, PLAIN).splitlines()[1] == "2027-01-01\t250\t200\t100\t-\t1\t0\t0\t1\t2"


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_shown(table: str) -> None:
    row = dict.fromkeys(COLUMNS[table], 0.5)
    assert len(show({"table": table, "rows": [row]}, TERMINAL).splitlines()) == 2
    assert len(show({"table": table, "rows": [row]}, PLAIN).splitlines()) == 2
    assert show({"table": table, "rows": []}, TERMINAL) == f"{table} has no rows yet"


def test_cohorts_are_shown_by_age() -> None:
    cohort = {"registered_month": "2027-01", "registered": 40, "here": [40, 38, None], "heard": [40, None, 9]}
    shown = show({"table": "cohorts", "rows": [cohort]}, PLAIN)
    assert shown.splitlines() == ["registered month\tregistered\there\theard", "2027-01\t40\t40 38 -\t40 - 9"]


def test_a_chance_is_a_share_of_a_whole_bar() -> None:
    rows = [{"cohort": "all", "late_s": 3_600, "30d": 0.5}, {"cohort": "all", "late_s": 9, "30d": 0.01}]
    lines = show({"table": "returns", "rows": rows}, TERMINAL).splitlines()
    assert lines[1].endswith(" " + "█" * 12)
    assert lines[2].endswith(" ▎")


def test_the_last_days_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, answer(DAYS))
    assert desk.run("analytics", "--days", "2") == 0
    # The clock of tests stands at 2027-01-15.
    assert desk.server.asked[0].target == "/analytics?table=days&from=2027-01-14"
    assert desk.run("analytics", "--table", "returns") == 0
    assert desk.server.asked[1].target == "/analytics?table=returns"


def test_json_is_printed_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, answer(DAYS))
    assert desk.run("analytics", "--json") == 0
    assert orjson.loads(desk.said[0]) == DAYS


def test_csv_is_printed_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"date,nodes\r\n2027-01-01,3\r\n"

    def handler(asked: Asked) -> Told:
        assert "format=csv" in asked.target
        head = respond(200, None).split(b"\r\n\r\n")[0].replace(b"Content-Length: 0", b"")
        return head + b"Content-Length: %d\r\n\r\n" % len(text) + text

    desk = Desk(monkeypatch, handler)
    assert desk.run("analytics", "--csv") == 0
    assert "".join(f"{line}\n" for line in desk.said).encode() == text


@pytest.mark.parametrize("words", [("--csv", "--json"), ("--days", "0"), ("--days", "-3")])
def test_what_cannot_be_asked_is_refused(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    desk = Desk(monkeypatch, answer(DAYS))
    with pytest.raises(UsageError, match=r"--(csv|days)"):
        desk.run("analytics", *words)
    assert desk.server.asked == []

"""Traces are read as they are, and lines that cannot be read are named and skipped."""

from __future__ import annotations

import bz2
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.prediction.traces import WEEK_S, Trace, read, settled
from openred_central.directory.lifecycle import DAY_S
from openred_central.simulation.population import Presence, Span

WEEK_MS = 604_800_000


def traced(folder: Path, form: str, *lines: str) -> Trace:
    file = folder / "trace.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read(file, form)


def ups(trace: Trace) -> dict[str, list[Span]]:
    return {node.name: node.up for node in trace.nodes}


def test_sessions_alternate_from_the_first_state(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        "sessions",
        "some/user 1 1000000 2 5000 1500 2000",
        "other,0,1000000,-6,5000,1500,2000",
        "",
    )
    assert ups(trace) == {
        "some/user": [(1_000.0, 1_005.0), (1_006.5, 1_008.5)],
        "other": [(1_005.0, 1_006.5)],
    }
    assert [node.observed for node in trace.nodes] == [[(1_000.0, 1_008.5)]] * 2
    assert not trace.faults


def test_weeks_that_touch_are_one(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        "sessions",
        f"a 1 {3 * WEEK_MS} 0 {WEEK_MS}",
        f"a 0 0 0 {WEEK_MS - 1000} 1000",
        f"a 1 {WEEK_MS} 0 4000 {WEEK_MS - 4000}",
    )
    (node,) = trace.nodes
    assert node.observed == [(0.0, 2 * WEEK_S), (3 * WEEK_S, 4 * WEEK_S)]
    assert node.up == [(WEEK_S - 1, WEEK_S + 4), (3 * WEEK_S, 4 * WEEK_S)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("a 1 0 2", "fewer than five fields"),
        ("a 2 0 2 100", "state '2'"),
        ("a 1 soon 2 100", "'soon'"),
        ("a 1 0 2 100 -5", "negative"),
        ("a 1 0 2 nan", "'nan'"),
        ("good 1 5000 2 800", "earlier line"),
        ("\x00\ufffd{}", "fewer than five fields"),
    ],
)
def test_bad_session_is_named_and_skipped(tmp_path: Path, line: str, why: str) -> None:
    trace = traced(tmp_path, "sessions", "good 1 0 2 9000", line, "later 1 0 2 1000")
    assert list(ups(trace)) == ["good", "later"]
    (fault,) = trace.faults
    assert fault.startswith("trace.txt: line 2 ")
    assert why in fault


def test_bytes_that_are_no_text_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "trace.txt"
    file.write_bytes(b"\xff\xfe\x00 1\n\nb 1 0 0 2000\n")
    trace = read(file, "sessions")
    assert list(ups(trace)) == ["b"]
    assert len(trace.faults) == 1


def test_avt_spans_include_their_last_second(tmp_path: Path) -> None:
    trace = traced(
        tmp_path, "avt", "# a comment", "7 2 0 9 20 29", "8 1 100 100", "9 0", "10 2 5 6", "11 1 9 3"
    )
    assert ups(trace) == {"7": [(0.0, 10.0), (20.0, 30.0)], "8": [(100.0, 101.0)]}
    assert {tuple(node.observed) for node in trace.nodes} == {((0.0, 101.0),)}
    assert [fault.split(" ")[2] for fault in trace.faults] == ["5", "6"]


def test_csv_takes_seconds_and_dates(tmp_path: Path) -> None:
    trace = traced(
        tmp_path,
        "csv",
        "node,start,end",
        "a,2026-01-01T00:00:00Z,2026-01-01T01:00:00+00:00",
        "a,1767229200,1767232800.5",
        'b,"2026-01-01T00:00:00",2026-01-01T00:00:01Z',
        "b,yesterday,today",
        "b,9,8",
        "b",
    )
    first = 1_767_225_600.0
    assert ups(trace) == {"a": [(first, first + 7_200.5)], "b": [(first, first + 1)]}
    assert [fault.split(" ")[2] for fault in trace.faults] == ["5", "6", "7"]


def snapshot(folder: Path, day: int, *objects: Any, form: str = "json") -> None:
    document = json.dumps({"meta": {}, "objects": list(objects)}).encode()
    name = folder / f"202601{day:02}.{form}"
    name.write_bytes(bz2.compress(document) if form == "json.bz2" else document)


def probe(number: int, status: object, since: object, last: object = None) -> dict[str, object]:
    return {"id": number, "status": status, "status_since": since, "last_connected": last}


def test_atlas_is_read_from_daily_snapshots(tmp_path: Path) -> None:
    first, hour = 1_767_225_600.0, 3_600.0
    # Up all the time; gone within the second day; new and gone within it; restarted within it.
    snapshot(
        tmp_path,
        1,
        probe(1, 1, first - DAY_S),
        probe(2, {"id": 1, "name": "Connected"}, "2025-12-31T00:00:00Z"),
        probe(3, 2, first - DAY_S, first - DAY_S),
        probe(4, 1, first - DAY_S),
    )
    snapshot(
        tmp_path,
        2,
        probe(1, 1, first - DAY_S),
        probe(2, {"id": 2, "name": "Disconnected"}, first + 6 * hour, first + 6 * hour),
        probe(3, 2, first + 12 * hour),
        probe(4, 1, first + 12 * hour),
        form="json.bz2",
    )
    trace = read(tmp_path, "atlas")
    assert not trace.faults
    assert ups(trace) == {
        "1": [(first, first + DAY_S)],
        "2": [(first, first + 6 * hour)],
        "3": [(first + 6 * hour, first + 12 * hour)],
        "4": [(first, first + 6 * hour), (first + 12 * hour, first + DAY_S)],
    }


def test_atlas_names_what_it_cannot_read(tmp_path: Path) -> None:
    snapshot(tmp_path, 1, probe(1, 1, 0), probe(2, "odd", 0), {"id": 3}, 4, probe(5, 1, "some day"))
    (tmp_path / "20260102.json").write_bytes(b'{"objects": [')
    (tmp_path / "20260103.json").write_bytes(b'{"meta": {}}')
    (tmp_path / "20260104.json.bz2").write_bytes(b"not packed")
    snapshot(tmp_path, 5, probe(1, 1, 0))
    trace = read(tmp_path, "atlas")
    assert [node.name for node in trace.nodes] == ["1"]
    places = [fault.partition(":")[0] for fault in trace.faults]
    assert places == ["20260101.json"] * 4 + ["20260102.json", "20260103.json", "20260104.json.bz2"]
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing", "atlas")


def test_unobserved_days_are_cut_out() -> None:
    hour = 3_600.0
    nodes = [
        Presence("a", [(hour, 2 * hour), (3 * WEEK_S + hour, 3 * WEEK_S + 2 * hour)], [(0.0, WEEK_S)]),
        Presence("late", [(5 * WEEK_S + hour, 5 * WEEK_S + 2 * hour)], [(5 * WEEK_S, 6 * WEEK_S)]),
        Presence("never", [], [(0.0, WEEK_S)]),
    ]
    nodes[0].observed.append((3 * WEEK_S, 4 * WEEK_S))
    first, late = settled(nodes)
    assert first.observed == [(0.0, 2 * WEEK_S)]
    assert first.up == [(hour, 2 * hour), (WEEK_S + hour, WEEK_S + 2 * hour)]
    assert late.observed == [(0.0, WEEK_S)]
    assert late.up == [(hour, 2 * hour)]


def test_hours_of_the_day_stay_where_parts_of_days_are_missing() -> None:
    hour = 3_600.0
    observed = [(0.0, DAY_S), (3 * DAY_S + 5 * hour, 4 * DAY_S)]
    node = Presence("a", [(hour, 2 * hour), (3 * DAY_S + 6 * hour, 3 * DAY_S + 7 * hour)], observed)
    (moved,) = settled([node])
    assert moved.up[1][0] % DAY_S == 6 * hour
    assert moved.observed == [(0.0, DAY_S), (DAY_S + 5 * hour, 2 * DAY_S)]

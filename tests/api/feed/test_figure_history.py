"""The last hour in figures."""

from __future__ import annotations

from typing import Any

from openred_central.api.feed.broadcast import HISTORY_POINTS_MAX, FigureHistory
from openred_central.directory.lifecycle import LIVE_STATES

STATES = [state.wire for state in LIVE_STATES]


def figures(number: int) -> dict[str, Any]:
    return {
        "time": f"time {number}",
        "nodes": number,
        "by_state": {state: number + place for place, state in enumerate(STATES)},
        "requests_per_s": 1.0,
        "heartbeats_per_s": None,
        "transitions_per_s": 3.0,
        "latency_ms": {"p50": 0.1, "p99": 0.2},
        "store": "ok",
    }


def test_points_are_told_column_by_column_oldest_first() -> None:
    history = FigureHistory()
    history.add(figures(1))
    history.add(figures(2))
    assert history.document() == {
        "time": ["time 1", "time 2"],
        "by_state": {state: [1 + place, 2 + place] for place, state in enumerate(STATES)},
        "requests_per_s": [1.0, 1.0],
        "heartbeats_per_s": [None, None],
        "transitions_per_s": [3.0, 3.0],
        "latency_ms": {"p50": [0.1, 0.1], "p99": [0.2, 0.2]},
    }


def test_a_history_that_has_not_begun_has_all_its_columns() -> None:
    document = FigureHistory().document()
    assert document["time"] == []
    assert list(document["by_state"]) == STATES
    assert not any(document["by_state"].values())


def test_it_is_bounded_and_the_oldest_go_first() -> None:
    history = FigureHistory()
    for number in range(HISTORY_POINTS_MAX + 5):
        history.add(figures(number))
    assert len(history) == HISTORY_POINTS_MAX
    assert history.document()["time"][0] == "time 5"


def test_figures_that_lack_something_leave_a_gap() -> None:
    history = FigureHistory()
    history.add({"nodes": 3})
    assert history.document()["by_state"]["active"] == [None]

"""`node` explains a node."""

from __future__ import annotations

from openred_central.cli.node import show

from .desk import PLAIN, TERMINAL


def test_a_node_is_explained() -> None:
    node = {
        "node_id": "alice",
        "state": "coma",
        "metadata": {"version": 3},
        "explain": {
            "why": "It is dormant.",
            "deadlines": [{"state": "dead", "at": "2030-01-01T00:00:00.000Z", "in_s": 86_399.999}],
            "history": [{"from": "absent", "to": "active", "at": "2026", "reason": "registered"}],
        },
    }
    shown = show(node, TERMINAL)
    assert "why         It is dormant." in shown
    assert 'metadata    {"version":3}' in shown
    assert "if silent: dead  2030-01-01T00:00:00.000Z  1 day" in shown
    assert "absent to active  2026  registered" in shown
    assert "expected" not in shown
    assert "ahead\tif silent: dead\t2030-01-01T00:00:00.000Z\t1 day" in show(node, PLAIN)


def test_a_forecast_is_shown_in_words_that_control_no_terminal() -> None:
    node = {"node_id": "alice", "forecast": {"words": "It is overdue.\x1b[2J"}}
    assert "expected\tIt is overdue." in show(node, PLAIN)
    assert "\x1b" not in show(node, TERMINAL)

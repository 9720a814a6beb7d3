"""Answers for people."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cli import showing
from openred_central.cli.showing import Style

PLAIN, TERMINAL, COLOURED = Style(), Style(terminal=True), Style(terminal=True, colour=True)
NODES = {
    "nodes": [
        {"node_id": "alice", "state": "active", "port": 7, "services": ["a", "b"], "availability": 0.9},
        {"node_id": "b", "state": "retry_48h", "region": "eu"},
    ],
    "total_found": 5,
    "degraded": True,
}


def test_a_terminal_gets_a_table_and_a_pipe_gets_tabs() -> None:
    assert showing.discovered(NODES, TERMINAL).splitlines() == [
        "NODE   STATE      AVAILABILITY  ADDRESS  PORT  SERVICES  REGION  LAST SEEN",
        "alice  active     0.9           -        7     a,b       -       -",
        "b      retry_48h  -             -        -     -         eu      -",
        "2 of 5 that match; nobody healthy does, these are the best of the rest",
    ]
    assert showing.discovered(NODES, PLAIN).splitlines() == [
        "node\tstate\tavailability\taddress\tport\tservices\tregion\tlast seen",
        "alice\tactive\t0.9\t-\t7\ta,b\t-\t-",
        "b\tretry_48h\t-\t-\t-\t-\teu\t-",
    ]


def test_states_have_colours_where_there_are_any_and_nothing_else_changes() -> None:
    coloured = showing.discovered(NODES, COLOURED)
    assert "\x1b[32mactive" in coloured
    assert "\x1b[33mretry_48h" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == showing.discovered(NODES, TERMINAL)


def test_nobody_found_is_said() -> None:
    assert showing.discovered({"nodes": [], "total_found": 0}, TERMINAL) == "0 of 0 that match"


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
    shown = showing.explained(node, TERMINAL)
    assert "why         It is dormant." in shown
    assert 'metadata    {"version":3}' in shown
    assert "if silent: dead  2030-01-01T00:00:00.000Z  1 day" in shown
    assert "absent to active  2026  registered" in shown
    assert "ahead\tif silent: dead\t2030-01-01T00:00:00.000Z\t1 day" in showing.explained(node, PLAIN)


def test_what_was_done_is_told_with_what_comes_next() -> None:
    answer = {"node_id": "a", "current_state": "active", "heartbeat_advice_s": 90_000, "message": "Noted."}
    assert showing.heard(answer, PLAIN).splitlines() == [
        *("node\ta", "state\tactive", "before\t-", "heartbeat due\t-", "advised\tevery 1 day 1 hour"),
        "says\tNoted.",
    ]
    assert "durable\tyes" in showing.registered({"durable": True}, PLAIN)
    assert "status\tleft" in showing.left({"status": "left"}, PLAIN)


def test_figures_are_named_by_where_they_stand() -> None:
    figures = {"a": {"b": 1, "c": [{"d": None}], "e": [1, 2]}, "f": False}
    assert showing.figures(figures, PLAIN) == "a.b\t1\na.c.0.d\t-\na.e\t1,2\nf\tno"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "now"), (59.6, "1 minute"), (3_661, "1 hour 1 minute"), (90_061, "1 day 1 hour"), (None, "-")],
)
def test_durations_have_two_units(seconds: object, shown: str) -> None:
    assert showing.span(seconds) == shown


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
FIELDS = st.sampled_from(
    [*("node_id", "state", "nodes", "explain", "message", "metadata", "services", "deadlines", "history")]
)


@given(st.dictionaries(FIELDS, JSON | st.dictionaries(FIELDS, JSON)))
def test_whatever_a_server_answers_nothing_takes_hold_of_the_terminal(answer: dict[str, object]) -> None:
    for show in (showing.registered, showing.heard, showing.left, showing.discovered, showing.figures):
        for style in (PLAIN, TERMINAL):
            assert_harmless(show(answer, style))
    assert_harmless(showing.explained(answer, TERMINAL))


def assert_harmless(shown: str) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in shown)


def test_what_looks_like_a_command_to_the_terminal_is_spelled_out() -> None:
    assert showing.safe("\x1b]0;owned\x07\u202e") == r"\x1b]0;owned\x07\u202e"

"""`discover` shows the nodes that it finds, and wants services or none."""

from __future__ import annotations

import re

import pytest

from openred_central.cli.command import UsageError
from openred_central.cli.discover import show

from .desk import COLOURED, PLAIN, TERMINAL, Desk, ok

NODES = {
    "nodes": [
        {"node_id": "alice", "state": "active", "port": 7, "services": ["a", "b"], "availability": 0.9},
        {"node_id": "b", "state": "retry_48h", "region": "eu"},
    ],
    "total_found": 5,
    "degraded": True,
}


@pytest.mark.parametrize("services", ["", ",", ",,"])
def test_empty_services_do_not_discover_every_node(monkeypatch: pytest.MonkeyPatch, services: str) -> None:
    """A shell passes an empty text if a variable is not set."""
    desk = Desk(monkeypatch, ok)
    with pytest.raises(UsageError, match="SERVICES is empty"):
        desk.run("discover", services)
    assert desk.server.asked == []


def test_a_terminal_gets_a_table_and_a_pipe_gets_tabs() -> None:
    assert show(NODES, TERMINAL).splitlines() == [
        "NODE   STATE      AVAILABILITY  ADDRESS  PORT  SERVICES  REGION  LAST SEEN",
        "alice  active     0.9           -        7     a,b       -       -",
        "b      retry_48h  -             -        -     -         eu      -",
        "2 others; no node matches",
    ]
    assert show(NODES, PLAIN).splitlines() == [
        "node\tstate\tavailability\taddress\tport\tservices\tregion\tlast seen",
        "alice\tactive\t0.9\t-\t7\ta,b\t-\t-",
        "b\tretry_48h\t-\t-\t-\t-\teu\t-",
    ]


def test_colours_do_not_change_the_text() -> None:
    coloured = show(NODES, COLOURED)
    assert "\x1b[32mactive" in coloured
    assert "\x1b[33mretry_48h" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == show(NODES, TERMINAL)


def test_an_empty_discovery_is_reported() -> None:
    assert show({"nodes": [], "total_found": 0}, TERMINAL) == "0 of 0 that match"

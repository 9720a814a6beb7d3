"""Cost of event subscribers: heartbeats with and without them, in turns on one server."""

from __future__ import annotations

from . import contestants
from .loads import run_once
from .samples import Bench, Subject

CASE = "heartbeat beside event subscribers"
UNFOLLOWED = "no subscribers"
NODES = 1_000
CONNECTIONS = 16
SUBSCRIBE = b"GET /events HTTP/1.1\r\nHost: benchmark\r\n\r\n"


def measure(bench: Bench) -> None:
    """Send heartbeats without subscribers, then beside many, in each round."""
    subscribers = bench.effort.subscribers
    # Twice the number, because the server may still hold those of the round before.
    settings = {"events-subscribers-max": str(2 * subscribers)}
    with bench.site.server(contestants.OURS, NODES, settings) as server:
        for number in range(bench.effort.rounds):
            bench.log(f"round {number + 1} of {bench.effort.rounds}: {CASE}")
            for name, count in ((UNFOLLOWED, 0), (f"{subscribers:,} subscribers", subscribers)):
                options = bench.options(
                    server,
                    "heartbeat",
                    nodes=NODES,
                    connections=CONNECTIONS,
                    idle_connections=count,
                    idle_request=SUBSCRIBE,
                )
                run_once(bench, Subject(CASE, name), server, options)

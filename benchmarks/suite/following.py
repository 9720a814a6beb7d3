"""Cost of event subscribers: heartbeats with and without them, in turns on one server."""

from __future__ import annotations

from collections.abc import Sequence

from ..population import node_id
from . import contestants
from .loads import run_once
from .samples import Bench, Effort, Subject
from .servers import Running

CASE = "heartbeat beside event subscribers"
WATCH_CASE = "heartbeat beside watchers of nodes"
UNFOLLOWED = "no subscribers"
NODES = 1_000
WATCHED_EACH = 100
CONNECTIONS = 16
SUBSCRIBE = b"GET /events HTTP/1.1\r\nHost: benchmark\r\n\r\n"
# In that time each watcher gets its first events, which tell how the nodes are.
JOINING_S = 10.0
# Each measurement has several looks at the watched nodes in it.
WATCHED_S_MIN = 2.0


def followed(effort: Effort) -> str:
    return f"{effort.subscribers:,} subscribers"


def watched(effort: Effort) -> str:
    return f"{effort.subscribers:,} watchers of {WATCHED_EACH} nodes each"


def measure(bench: Bench) -> None:
    """Send heartbeats without subscribers, then beside many, in each round; then beside watchers of nodes."""
    effort = bench.effort
    _measure(bench, Subject(CASE, followed(effort)), NODES, [SUBSCRIBE], 0.0)
    # No two watchers share a node, if there are nodes enough.
    requests = [
        _watch([number % effort.usual for number in range(first, first + WATCHED_EACH)])
        for first in range(0, WATCHED_EACH * effort.subscribers, WATCHED_EACH)
    ]
    effort = effort._replace(measured_s=max(effort.measured_s, WATCHED_S_MIN))
    subject = Subject(WATCH_CASE, watched(effort))
    _measure(bench._replace(effort=effort), subject, effort.usual, requests, JOINING_S)


def _measure(bench: Bench, subject: Subject, nodes: int, requests: Sequence[bytes], joining_s: float) -> None:
    subscribers = bench.effort.subscribers
    # Twice the number, because the server may still hold those of the round before.
    settings = {"events-subscribers-max": str(2 * subscribers)}
    with bench.site.server(contestants.OURS, nodes, settings) as server:
        for number in range(bench.effort.rounds):
            bench.log(f"round {number + 1} of {bench.effort.rounds}: {subject.case}")
            _send(bench, subject._replace(name=UNFOLLOWED), server, nodes, (), joining_s)
            _send(bench, subject, server, nodes, requests, joining_s)


def _send(
    bench: Bench, subject: Subject, server: Running, nodes: int, requests: Sequence[bytes], joining_s: float
) -> None:
    options = bench.options(
        server,
        "heartbeat",
        nodes=nodes,
        connections=CONNECTIONS,
        idle_connections=bench.effort.subscribers if requests else 0,
        idle_requests=requests,
        warm_up_s=bench.effort.warm_up_s + joining_s,
    )
    run_once(bench, subject, server, options)


def _watch(numbers: Sequence[int]) -> bytes:
    return SUBSCRIBE.replace(b"/events", f"/events?nodes={','.join(map(node_id, numbers))}".encode())

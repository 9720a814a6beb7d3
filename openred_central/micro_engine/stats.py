"""What one engine has done so far: plain counters that only ever grow."""

from __future__ import annotations

from ..histogram import Histogram


class Stats:
    """Counters of one engine. Plain integers: counting one request costs a few attribute writes.

    `responses` is indexed by status class, so that ``responses[4]`` counts the 4xx; `connections_refused`
    counts those that a cap turned away, `connections_reset` those cut for not reading their answers;
    `latency` is the time from the head of a request to its answer, or to the head of one that streams.
    """

    __slots__ = (
        "accept_pauses",
        "bytes_in",
        "bytes_out",
        "connections_refused",
        "connections_reset",
        "connections_total",
        "handler_failures",
        "latency",
        "requests",
        "responses",
        "timeouts",
    )

    def __init__(self) -> None:
        self.accept_pauses = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.connections_refused = 0
        self.connections_reset = 0
        self.connections_total = 0
        self.handler_failures = 0
        self.latency = Histogram()
        self.requests = 0
        self.responses = [0] * 6
        self.timeouts = 0

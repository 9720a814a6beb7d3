"""Times to the answer at a fixed rate: half of what our server can do, while everything it does is running.

The server has many nodes, writes heartbeats down every second, takes one snapshot after the other, and moves
its deadlines on. Its most is found in a short closed loop just before, over the same connections.
"""

from __future__ import annotations

from ..load.generator import LoadOptions
from ..load.running import run_here
from . import contestants as who
from .effort import Bench
from .samples import Subject
from .servers import Meter

MIXES = {
    "heartbeats": {"heartbeat": 1},
    "80 heartbeats, 15 discoveries, 5 registrations": {"heartbeat": 80, "discover": 15, "register": 5},
}
SNAPSHOT_S = "5"


def case(mix: str) -> str:
    return f"times at half the most, {mix}"


def measure(bench: Bench) -> None:
    """Each mix for a while, once."""
    effort = bench.effort
    with bench.site.server(who.OURS, effort.usual, {"snapshot-interval-s": SNAPSHOT_S}) as server:
        for name, mix in MIXES.items():
            bench.tell(case(name))
            options = LoadOptions(
                host="127.0.0.1",
                port=server.port,
                mix=mix,
                nodes=effort.usual,
                duration_s=effort.measured_s,
                warm_up_s=effort.warm_up_s,
                run="most",
                seed=bench.seed,
            )
            most = run_here(options)
            rate = most.requests_per_s / 2
            meter = Meter(server, bench.site.cores)
            options = options._replace(rate=rate, duration_s=effort.latency_s, run="half")
            tally = run_here(options, edge=meter.read)
            times_ms, late_ms = tally.all_times().summary_ms(), tally.late.summary_ms()
            bench.samples.add(
                Subject(case(name), who.OURS),
                requests_per_s=tally.requests_per_s,
                **meter.figures(tally.answered),
                p50_ms=times_ms["p50"],
                p99_ms=times_ms["p99"],
                p999_ms=times_ms["p99.9"],
                max_ms=times_ms["max"],
                generator_late_p99_ms=late_ms["p99"],
            )

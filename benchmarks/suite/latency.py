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
from .servers import Meter, Running

MIXES = {
    "heartbeats": {"heartbeat": 1},
    "80 heartbeats, 15 discoveries, 5 registrations": {"heartbeat": 80, "discover": 15, "register": 5},
}
SNAPSHOT_S = "5"
UNPINNED = "ours, on any core"


def case(mix: str) -> str:
    return f"times at half the most, {mix}"


def measure(bench: Bench) -> None:
    """Each mix for a while, once with the server on its own core and once wherever it likes.

    On one core its writer and its loop wait for each other: the kernel's turns are milliseconds long. What
    the machine adds by itself, the floor shows: a bare server at the same rate, on the same core.
    """
    cores = bench.site.cores
    with bench.site.server(who.BARE) as bare:
        _measure(bench, who.OURS, bare)
    if cores.server:
        free = bench.site._replace(cores=cores._replace(server=cores.server | cores.load))
        _measure(bench._replace(site=free), UNPINNED)


def _measure(bench: Bench, name: str, bare: Running | None = None) -> None:
    effort = bench.effort
    with bench.site.server(who.OURS, effort.usual, {"snapshot-interval-s": SNAPSHOT_S}) as server:
        for mix in MIXES:
            bench.tell(f"{case(mix)}: {name}")
            options = LoadOptions(
                host="127.0.0.1",
                port=server.port,
                mix=MIXES[mix],
                nodes=effort.usual,
                duration_s=effort.measured_s,
                warm_up_s=effort.warm_up_s,
                run="most",
                seed=bench.seed,
            )
            most = run_here(options)
            options = options._replace(rate=most.requests_per_s / 2, duration_s=effort.latency_s, run="half")
            _at_rate(bench, Subject(case(mix), name), server, options)
            if bare is not None:
                bench.tell(f"{case(mix)}: {who.BARE}")
                _at_rate(bench, Subject(case(mix), who.BARE), bare, options._replace(port=bare.port))


def _at_rate(bench: Bench, subject: Subject, server: Running, options: LoadOptions) -> None:
    meter = Meter(server, bench.site.cores)
    tally = run_here(options, edge=meter.read)
    times_ms, late_ms = tally.all_times().summary_ms(), tally.late.summary_ms()
    figures = meter.figures(tally.answered)
    # It polls, and so is always busy.
    del figures["generator_percent"]
    if subject.who == UNPINNED:
        # The load runs on these cores as well: it would count as others.
        figures.pop("others_percent")
    bench.samples.add(
        subject,
        requests_per_s=tally.requests_per_s,
        **figures,
        p50_ms=times_ms["p50"],
        p99_ms=times_ms["p99"],
        p999_ms=times_ms["p99.9"],
        max_ms=times_ms["max"],
        generator_late_p99_ms=late_ms["p99"],
    )

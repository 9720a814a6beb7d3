"""Times to the answer at a fixed rate: half of the throughput of a short closed loop just before.

The server has many nodes, stores heartbeats every second, takes one snapshot after the other, and processes
its deadlines.
"""

from __future__ import annotations

from ..load.requests import LoadOptions
from ..load.running import run_here
from . import contestants
from .samples import Bench, Subject
from .servers import Meter, Running

MIXES = {
    "heartbeats": {"heartbeat": 1},
    "80 heartbeats, 15 discoveries, 5 registrations": {"heartbeat": 80, "discover": 15, "register": 5},
}
SNAPSHOT_S = "5"
UNPINNED = "ours, on any core"


def case(mix: str) -> str:
    return f"times at half the maximum rate, {mix}"


def measure(bench: Bench) -> None:
    """Measure each mix with the server on its own core, and with the server on any core.

    On one core the threads of writer and loop wait for each other. The floor, a bare server at the same rate
    on the same core, shows the share of the machine.
    """
    cores = bench.site.cores
    with bench.site.server(contestants.BARE) as bare:
        _measure(bench, contestants.OURS, bare)
    if cores.server:
        free = bench.site._replace(cores=cores._replace(server=cores.server | cores.load))
        _measure(bench._replace(site=free), UNPINNED)


def _measure(bench: Bench, name: str, bare: Running | None = None) -> None:
    effort = bench.effort
    with bench.site.server(contestants.OURS, effort.usual, {"snapshot-interval-s": SNAPSHOT_S}) as server:
        for mix in MIXES:
            bench.log(f"{case(mix)}: {name}")
            options = bench.options(server, "heartbeat", mix=MIXES[mix], nodes=effort.usual, run="maximum")
            maximum = run_here(options)
            options = options._replace(
                rate=maximum.requests_per_s / 2, duration_s=effort.latency_s, run="half"
            )
            _at_rate(bench, Subject(case(mix), name), server, options)
            if bare is not None:
                bench.log(f"{case(mix)}: {contestants.BARE}")
                _at_rate(bench, Subject(case(mix), contestants.BARE), bare, options._replace(port=bare.port))


def _at_rate(bench: Bench, subject: Subject, server: Running, options: LoadOptions) -> None:
    meter = Meter(server, bench.site.cores)
    tally = run_here(options, edge=meter.read)
    times_ms, late_ms = tally.all_times().summary_ms(), tally.late.summary_ms()
    figures = meter.figures(tally.answered)
    # An open loop polls, so its generator is always busy.
    del figures["generator_percent"]
    if subject.name == UNPINNED:
        # The load runs on these cores as well, and would count as others.
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

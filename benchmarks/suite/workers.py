"""Two workers beside one process: processor time, throughput, lag of the replicas, and a worker replaced.

Server CPU of all processes says how much more a machine with enough cores answers: twice as much, divided by
what a request costs more. Throughput shows that directly where each process gets a share of a core from a
cgroup of its own (version 1), so that two workers, their owner and the load fit into two cores.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep

from .. import machine
from ..load.running import run_here
from . import contestants
from .loads import run_once
from .samples import Bench, Subject
from .servers import Running, ServerError, ask, free_port

KINDS = ("heartbeat", "discover")
NAMES = (contestants.OURS, contestants.WORKERS)
# Each measurement has several flushes of each process in it.
MEASURED_S_MIN = 3.0
CGROUPS = Path("/sys/fs/cgroup/cpu")
PERIOD_US, QUOTA_PERCENT = 20_000, 30
# Ten times the usual weight: others on the machine take less of what the quota grants.
WEIGHT = 10_240
SERVES = "serves"
CHANGES_PER_S = 2_000.0
CHANGES_CASE = f"changes of a directory with 2 workers, {CHANGES_PER_S:,.0f} a second"
REPLACED_CASE, MEMORY_CASE = "a worker replaced after a kill", "memory of a server with 2 workers"
READY_S_MAX, LOOK_S, REPORTED_S = 60.0, 0.002, 2.5
LAG = "openred_replication_lag_seconds_bucket"
# Lags are counted in buckets; the longest one is without end.
ENDLESS_S = 60.0


def case(kind: str, nodes: int) -> str:
    return f"{kind} of {nodes:,} by workers"


def throttled_case(kind: str, nodes: int) -> str:
    return f"{case(kind, nodes)}, {QUOTA_PERCENT} % of a core for each process"


def replaced_case(nodes: int) -> str:
    return f"{REPLACED_CASE}, {nodes:,} nodes"


def memory_case(nodes: int) -> str:
    return f"{MEMORY_CASE}, {nodes:,} nodes"


def measure(bench: Bench) -> None:
    """Measure all of them, with a server of one process and one of two workers."""
    nodes, admin_port = bench.effort.usual, free_port()
    with (
        bench.site.server(contestants.OURS, nodes) as one,
        bench.site.server(contestants.WORKERS, nodes, {"admin-port": str(admin_port)}) as two,
    ):
        servers = dict(zip(NAMES, (one, two), strict=True))
        _wait_until_served(two, len(NAMES))
        sleep(REPORTED_S)
        owner, *workers = machine.family(two.process.pid)
        for name, pid in (("the owner", owner), ("a worker", workers[0]), ("one process", one.process.pid)):
            bench.samples.add(Subject(memory_case(nodes), name), mb=machine.resident_bytes([pid]) / 1e6)
        for kind in KINDS:
            _rounds(bench, servers, kind, case(kind, nodes))
        for kind in KINDS:
            _throttled(bench, servers, kind)
        _replaced(bench, two)
        _lag(bench, two, admin_port)


def _rounds(bench: Bench, servers: dict[str, Running], kind: str, name_of_case: str) -> None:
    for number in range(bench.effort.rounds):
        bench.log(f"round {number + 1} of {bench.effort.rounds}: {name_of_case}")
        # Each round begins with the other one.
        for name in NAMES[:: 1 if number % 2 == 0 else -1]:
            options = bench.options(
                servers[name],
                kind,
                nodes=bench.effort.usual,
                duration_s=max(bench.effort.measured_s, MEASURED_S_MIN),
            )
            run_once(bench, Subject(name_of_case, name), servers[name], options)


def _throttled(bench: Bench, servers: dict[str, Running], kind: str) -> None:
    name_of_case = throttled_case(kind, bench.effort.usual)
    try:
        with quotas([pid for each in servers.values() for pid in machine.family(each.process.pid)]):
            _rounds(bench, servers, kind, name_of_case)
    except OSError as error:
        bench.note(f"{name_of_case}: left out: it needs cgroups of version 1 and root: {error}")


@contextmanager
def quotas(pids: list[int]) -> Iterator[None]:
    """Give each of these processes a share of a core inside the block. Raises `OSError`."""
    folders = [CGROUPS / f"openred-bench-{pid}" for pid in pids]
    try:
        for pid, folder in zip(pids, folders, strict=True):
            folder.mkdir()
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(PERIOD_US * QUOTA_PERCENT // 100))
            (folder / "cpu.shares").write_text(str(WEIGHT))
            (folder / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for folder in filter(Path.exists, folders):
            for member in (folder / "cgroup.procs").read_text().split():
                (CGROUPS / "cgroup.procs").write_text(member)
            folder.rmdir()


def _replaced(bench: Bench, server: Running) -> None:
    """Kill one worker after the other, and time from each kill until another one serves."""
    name_of_case = replaced_case(bench.effort.usual)
    for number in range(min(bench.effort.rounds, 3)):
        bench.log(f"round {number + 1}: {name_of_case}")
        served = server.log.read_text().count(SERVES)
        before = set(machine.family(server.process.pid))
        began_s = perf_counter()
        os.kill(max(before - {server.process.pid}), signal.SIGKILL)
        _wait_until_served(server, served + 1)
        took_s = perf_counter() - began_s
        (worker,) = set(machine.family(server.process.pid)) - before
        bench.samples.add(
            Subject(name_of_case, contestants.WORKERS), seconds=took_s, cpu_s=machine.processor_s([worker])
        )
        sleep(REPORTED_S)


def _wait_until_served(server: Running, times: int) -> None:
    """Wait until the log says so often that a worker serves. Raises `ServerError`."""
    ends_s = perf_counter() + READY_S_MAX
    while server.log.read_text().count(SERVES) < times:
        if perf_counter() > ends_s:
            raise ServerError(f"a worker does not serve after {READY_S_MAX:g} s")
        sleep(LOOK_S)


def _lag(bench: Bench, server: Running, admin_port: int) -> None:
    """Register nodes at a fixed rate; add the quantiles of the time from a commit to a replica.

    The processes are on all cores: on one, which they would fill, each frame waits for it.
    """
    machine.move(machine.family(server.process.pid), bench.site.cores.server | bench.site.cores.load)
    for number in range(bench.effort.rounds):
        bench.log(f"round {number + 1} of {bench.effort.rounds}: {CHANGES_CASE}")
        before = lags(admin_port)
        options = bench.options(
            server,
            "register",
            rate=CHANGES_PER_S,
            duration_s=max(bench.effort.measured_s, MEASURED_S_MIN),
            run=f"lag-{number}",
        )
        tally = run_here(options)
        sleep(REPORTED_S)
        bench.samples.add(
            Subject(CHANGES_CASE, contestants.WORKERS),
            requests_per_s=tally.requests_per_s,
            **lag_figures(before, lags(admin_port)),
        )


def lag_figures(before: dict[float, float], after: dict[float, float]) -> dict[str, float]:
    """Return the quantiles of the lags between two calls of `lags`."""
    counts = {end_s: count - before.get(end_s, 0.0) for end_s, count in after.items()}
    p50_s, p99_s = (
        min(end_s for end_s, count in counts.items() if count >= share * max(counts.values()))
        for share in (0.5, 0.99)
    )
    return {"lag_p50_ms": 1e3 * p50_s, "lag_p99_ms": 1e3 * p99_s}


def lags(admin_port: int) -> dict[float, float]:
    """Return how many frames were applied within each of these times, in seconds."""
    lines = ask(admin_port, "GET", "/metrics").decode().splitlines()
    counts = {}
    for line in lines:
        if line.startswith(LAG):
            end, count = line.removeprefix(f'{LAG}{{le="').split('"} ')
            counts[min(float(end), ENDLESS_S)] = float(count)
    return counts

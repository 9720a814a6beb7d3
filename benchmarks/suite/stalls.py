"""Stalls of the loop of our server: idle, under load, with snapshots, with a crowd due at once."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import perf_counter, sleep

import orjson

from openred_central.directory.lifecycle import State

from ..load.running import run_here
from ..population import ATTENDED_S, document
from . import contestants
from .inprocess import TOLERANCE_S, run_alone
from .samples import Bench, Effort, Subject
from .servers import Running, ask

RATE = 5_000.0
CASE = "the loop late by"
DEADLINES_CASE = "deadlines due at once"
ALONE, SERVED = "a directory alone", "a server, stored as well"
FLUSHING = {"flush-interval-s": "0.1"}
SNAPSHOTTING = {"snapshot-interval-s": "1", "snapshots-kept": "1"}
SILENT = {"heartbeat-tolerance-s": str(TOLERANCE_S), "mass-silence-share": "1"}
EXPIRY_S_MAX = 600.0
POLL_S = 0.5
# Comas end so long after the start, and are short, because their length is a setting.
DEATHS_AFTER_S, COMA_S = 3.0, 100.0
DYING = {"coma-s": str(COMA_S), "mass-silence-share": "1"}


def deaths_case(effort: Effort) -> str:
    return f"{effort.deaths:,} deaths at once"


def measure(bench: Bench) -> None:
    """Measure each phase with a server of its own."""
    rate = f"{RATE:,.0f} heartbeats/s"
    _phase(bench, "idle", {}, loaded=False)
    _phase(bench, f"{rate}, flushing every 0.1 s", FLUSHING, loaded=True)
    _phase(bench, f"{rate}, flushing, snapshots", {**FLUSHING, **SNAPSHOTTING}, loaded=True)
    crowd = bench.effort.large or bench.effort.usual
    bench.log(f"{DEADLINES_CASE}: {crowd:,}")
    bench.samples.add(
        Subject(f"{crowd:,} {DEADLINES_CASE}", ALONE),
        **run_alone(bench.site.cores, "deadlines", crowd),
    )
    _expiry(bench, crowd)
    _deaths(bench)


def _watched(
    bench: Bench,
    settings: dict[str, str],
    act: Callable[[Running], None],
    nodes: int = 0,
    last_seen_s: float | None = None,
    state: State = State.ACTIVE,
) -> dict[str, float]:
    """Run `act` beside a server with a watcher on its loop; return the lateness of the watcher in ms."""
    nodes = nodes or bench.effort.usual
    with tempfile.TemporaryDirectory(dir=bench.site.folder) as folder:
        lateness, database = Path(folder) / "late.json", Path(folder) / "openred.db"
        bench.site.databases.copy(nodes, database, last_seen_s, state)
        command = [sys.executable, "-m", "benchmarks.suite.watched", str(lateness)]
        given = {"database": str(database), **settings}
        with bench.site.server(contestants.OURS, 0, given, command) as server:
            act(server)
        found = json.loads(lateness.read_text())
    return {"p50_ms": found["p50"], "p99_ms": found["p99"], "p999_ms": found["p99.9"], "max_ms": found["max"]}


def _phase(bench: Bench, name: str, settings: dict[str, str], *, loaded: bool) -> None:
    bench.log(f"{CASE}: {name}")

    def act(server: Running) -> None:
        if loaded:
            run_here(
                bench.options(
                    server,
                    "heartbeat",
                    nodes=bench.effort.usual,
                    rate=RATE,
                    duration_s=bench.effort.stall_s,
                    connections=16,
                )
            )
        else:
            sleep(bench.effort.stall_s)

    late_ms = _watched(bench, settings, act)
    bench.samples.add(Subject(CASE, name), **late_ms)


def _expiry(bench: Bench, crowd: int) -> None:
    """Start a server whose nodes are all due at once, and wait until all have changed state."""
    took_s = 0.0

    def act(server: Running) -> None:
        nonlocal took_s
        began_s = perf_counter()
        while (took_s := perf_counter() - began_s) < EXPIRY_S_MAX:
            transitions = server.get("/stats")["lifecycle"]["transitions"]
            if sum(each["count"] for each in transitions) >= crowd:
                return
            sleep(POLL_S)
        raise RuntimeError(f"{crowd:,} nodes were due, and not all changed state within {EXPIRY_S_MAX:g} s")

    late_ms = _watched(bench, SILENT, act, crowd, ATTENDED_S - TOLERANCE_S)
    bench.samples.add(Subject(CASE, f"{crowd:,} {DEADLINES_CASE}"), **late_ms)
    bench.samples.add(
        Subject(f"{crowd:,} {DEADLINES_CASE}", SERVED),
        transitions_per_s=crowd / took_s,
        p99_ms=late_ms["p99_ms"],
        max_ms=late_ms["max_ms"],
    )


def _deaths(bench: Bench) -> None:
    """Start a server whose nodes all die at once soon after, and register new nodes until all have died."""
    deaths, case = bench.effort.deaths, deaths_case(bench.effort)
    bench.log(case)
    took_ms: list[float] = []

    def act(server: Running) -> None:
        ends_s = perf_counter() + EXPIRY_S_MAX
        numbers = count(deaths)
        while perf_counter() < ends_s:
            looks_s = perf_counter() + POLL_S
            while (began_s := perf_counter()) < looks_s:
                body = orjson.dumps(document(next(numbers)))
                answer = ask(server.port, "POST", "/register", body, EXPIRY_S_MAX)
                if b'"durable":true' not in answer:
                    raise RuntimeError(f"a registration was not durable: {answer!r}")
                took_ms.append((perf_counter() - began_s) * 1e3)
            moved = server.get("/stats")["lifecycle"]["transitions"]
            if sum(each["count"] for each in moved if each["to"] == State.DEAD.wire) >= deaths:
                return
        raise RuntimeError(f"{deaths:,} nodes were to die, and not all did within {EXPIRY_S_MAX:g} s")

    late_ms = _watched(bench, DYING, act, deaths, ATTENDED_S + DEATHS_AFTER_S - COMA_S, State.COMA)
    figures = {"p99_ms": late_ms["p99_ms"], "max_ms": late_ms["max_ms"], "slowest_ms": max(took_ms)}
    bench.samples.add(Subject(case, contestants.OURS), **figures)

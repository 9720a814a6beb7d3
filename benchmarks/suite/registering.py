"""Durable registrations, acknowledged after their commit, beside SQLite alone with batches as large."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson

from ..load.generator import LoadOptions
from ..load.running import run_here
from ..population import node_id, record
from . import contestants as who
from .effort import Bench
from .samples import Subject
from .servers import Meter

CONNECTIONS = (1, 8, 64, 256)
BARE = "bare SQLite"


def case(connections: int) -> str:
    return f"register durably, {connections} connection{'s' * (connections > 1)}"


def measure(bench: Bench) -> None:
    """Register over ever more connections; then have SQLite commit as many rows at a time as came about."""
    effort = bench.effort
    with bench.site.server(who.OURS) as server:
        for number in range(effort.rounds):
            for connections in CONNECTIONS:
                bench.tell(f"round {number + 1} of {effort.rounds}: {case(connections)}")
                before, meter = _store(server.get("/stats")), Meter(server, bench.site.cores)
                options = LoadOptions(
                    host="127.0.0.1",
                    port=server.port,
                    mix={"register": 1},
                    duration_s=effort.measured_s,
                    warm_up_s=effort.warm_up_s,
                    connections=connections,
                    run=f"durable-{connections}-{number}",
                )
                tally = run_here(options, edge=meter.read)
                after = _store(server.get("/stats"))
                rows_each = (after["rows"] - before["rows"]) / max(after["batches"] - before["batches"], 1)
                bench.samples.add(
                    Subject(case(connections), who.OURS),
                    requests_per_s=tally.requests_per_s,
                    **meter.figures(tally.answered),
                    rows_per_commit=rows_each,
                )
                rate = bare_rows_per_s(bench.site.folder, max(1, round(rows_each)), effort.measured_s)
                bench.samples.add(Subject(case(connections), BARE), requests_per_s=rate)


def _store(stats: Any) -> dict[str, int]:
    told: dict[str, int] = stats["performance"]["store"]
    return told


def bare_rows_per_s(folder: Path, rows_each: int, measured_s: float) -> float:
    """Rows a second that SQLite alone takes in durable commits of so many rows."""
    database = folder / "bare.db"
    numbers, rows, passed_s = count(), 0, 0.0
    with closing(sqlite3.connect(database, isolation_level=None)) as bare:
        bare.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        bare.execute("CREATE TABLE node (slot INTEGER PRIMARY KEY, node_id TEXT, record TEXT)")
        while passed_s < measured_s:
            changes = [
                (number, node_id(number), orjson.dumps(record(number)[2:12]).decode())
                for number in (next(numbers) for _ in range(rows_each))
            ]
            began_s = perf_counter()
            bare.execute("BEGIN")
            bare.executemany("INSERT INTO node VALUES (?, ?, ?)", changes)
            bare.execute("COMMIT")
            passed_s += perf_counter() - began_s
            rows += rows_each
    for ending in ("", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)
    return rows / passed_s

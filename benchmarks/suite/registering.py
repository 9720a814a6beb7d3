"""Durable registrations, acknowledged after their commit, beside two floors.

A server that acknowledges from memory shows the cost of HTTP and directory. SQLite alone, which commits the
same rows in batches of the same size, shows the cost of the disk.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

from openred_central.directory.state.node import Record
from openred_central.storage.sqlite.schema import SCHEMA

from ..population import record
from . import contestants
from .loads import run_once
from .samples import Bench, Subject

CONNECTIONS = (1, 8, 64, 256)
FORGETFUL = "ours, from memory"
BARE = "bare SQLite"
PROFILE = Record._fields.index("profile")
INSERT = f"INSERT INTO node ({', '.join(Record._fields)}) VALUES ({', '.join('?' * len(Record._fields))})"


def case(connections: int) -> str:
    return f"register durably, {connections} connection{'s' * (connections > 1)}"


def measure(bench: Bench) -> None:
    """Register over more and more connections, durably and from memory; commit as many rows by SQLite."""
    effort = bench.effort
    with (
        bench.site.server(contestants.OURS) as durable,
        bench.site.server(contestants.OURS, 0, {"database": "memory:"}) as forgetful,
    ):
        for number in range(effort.rounds):
            for connections in CONNECTIONS:
                bench.log(f"round {number + 1} of {effort.rounds}: {case(connections)}")
                before = _store(durable.get("/stats"))
                for name, server in ((contestants.OURS, durable), (FORGETFUL, forgetful)):
                    run = f"{connections}-{number}"
                    options = bench.options(server, "register", connections=connections, run=run)
                    run_once(bench, Subject(case(connections), name), server, options, by_thread=True)
                after = _store(durable.get("/stats"))
                rows_each = (after["rows"] - before["rows"]) / max(after["batches"] - before["batches"], 1)
                bench.samples.add(Subject(case(connections), contestants.OURS), rows_per_commit=rows_each)
                rate = bare_rows_per_s(bench.site.folder, max(1, round(rows_each)), effort.measured_s)
                bench.samples.add(Subject(case(connections), BARE), requests_per_s=rate)


def _store(stats: Any) -> dict[str, int]:
    store: dict[str, int] = stats["performance"]["store"]
    return store


def bare_rows_per_s(folder: Path, rows_each: int, measured_s: float) -> float:
    """Return the rows a second of SQLite alone, in durable commits of so many prepared rows."""
    database = folder / "bare.db"
    first, rows, passed_s = 0, 0, 0.0
    with closing(sqlite3.connect(database, isolation_level=None)) as bare:
        bare.executescript(SCHEMA)
        bare.execute("PRAGMA synchronous = FULL")
        while passed_s < measured_s:
            made = map(record, range(first, first + rows_each))
            changes = [(*each[:PROFILE], each.profile.decode(), *each[PROFILE + 1 :]) for each in made]
            began_s = perf_counter()
            bare.execute("BEGIN")
            bare.executemany(INSERT, changes)
            bare.execute("COMMIT")
            passed_s += perf_counter() - began_s
            rows += rows_each
            first += rows_each
    for ending in ("", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)
    return rows / passed_s

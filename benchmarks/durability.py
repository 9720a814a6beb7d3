"""The write path of the whole server, and its loop while everything is written at once.

    python -m benchmarks.durability                          about a minute
    python -m benchmarks.durability --restart 100000         only: how long a start takes with so many nodes

Registrations: 1, 8, 64 and 256 keep-alive connections register new nodes, each its next when the last one is
acknowledged after its commit. Beside it stand, in the same run, the same load on a server that acknowledges
from memory, which is what HTTP and the directory leave, and a bare SQLite loop that commits the same rows in
batches of the same size, as they came about at the server; their ratios compare between machines. `loop busy`
is the share of the time that the thread of the event loop was computing, `waited` how long a client waited.

Stalls: a server in this process, watched by a timer that wants to run every millisecond, takes 10,000
heartbeats a second from another process while they are flushed every 100 ms and snapshots are taken one after
the other. Printed is by how much the timer was late.

Restart: from the start of the process to its first answer, interpreter and imports included, beside a bare
SELECT of all rows into memory, with the garbage collector off as in the server, and an interpreter that only
imports the server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, cast

import uvloop

from openred_central.config import load
from openred_central.directory.batch import Vitals
from openred_central.directory.node import Record
from openred_central.server import Server as OurServer
from openred_central.storage.rows import PROFILE
from openred_central.storage.schema import SCHEMA

from .directory import PATIENT_S, Client, Server, figures, node_id, registration, server
from .storage import BATCH_ROWS, batch, filled, record

MEASURED_S = 2.0
CONNECTIONS = (1, 8, 64, 256)
NODES_MAX = 10_000_000
NODES = 100_000
BEATS_PER_S = 10_000
STALL_S = 8.0
# The machine is not always equally fast.
RESTARTS = 3
TICK_S = 0.001
BEAT_CONNECTIONS = 16
# So many at once and then a pause: finer than the timers of the load would keep.
BEATS_PER_PUSH = 20


def batch_mean(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> float:
    """Rows of a commit between two readings of the server's figures."""
    stores = [cast("dict[str, int]", told["performance"]["store"]) for told in (before, after)]
    return (stores[1]["rows"] - stores[0]["rows"]) / max(stores[1]["batches"] - stores[0]["batches"], 1)


class Load(NamedTuple):
    """What came of a load: a second, in a commit, the loop's busy share, and waits in rising order."""

    acknowledged_per_s: float
    rows_each: float
    loop_busy: float
    waits_s: list[float]

    def waited_ms(self, share: float) -> float:
        return self.waits_s[min(int(len(self.waits_s) * share), len(self.waits_s) - 1)] * 1e3


class TimedClient(Client):
    """A client that notes how long it waits for each answer."""

    def __init__(self, next_request: Callable[[], bytes | None], waits_s: list[float]) -> None:
        super().__init__(next_request)
        self._waits_s = waits_s
        self._sent_s = 0.0

    def _send(self) -> None:
        now_s = perf_counter()
        if self.answers:
            self._waits_s.append(now_s - self._sent_s)
        self._sent_s = now_s
        super()._send()


async def registrations(running: Server, connections: int, numbers: Iterator[int]) -> Load:
    """What the server acknowledges over so many connections."""
    host = f"{running.host}:{running.port}".encode()
    ends_s = perf_counter() + MEASURED_S
    waits_s: list[float] = []

    def next_request() -> bytes | None:
        return registration(next(numbers), host) if perf_counter() < ends_s else None

    before, busy_s, started = await figures(running), running.loop_s(), perf_counter()
    loop = asyncio.get_running_loop()
    clients = [
        (
            await loop.create_connection(
                lambda: TimedClient(next_request, waits_s), running.host, running.port
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    took_s, busy_s = perf_counter() - started, running.loop_s() - busy_s
    if any(client.refused for client in clients):
        raise SystemExit("the server refused a registration")
    mean = batch_mean(before, await figures(running))
    rate = sum(client.answers for client in clients) / took_s
    return Load(rate, mean, busy_s / took_s, sorted(waits_s))


INSERT = f"INSERT INTO node VALUES ({', '.join('?' * (len(Record._fields) + 1))})"


def bare_rows_per_s(folder: Path, rows_each: int) -> float:
    """Rows a second that SQLite alone takes in durable commits of so many of our rows, made beforehand."""
    numbers, rows, passed_s = count(), 0, 0.0
    path = folder / f"bare-{rows_each}.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as bare:
        bare.executescript(SCHEMA)
        bare.execute("PRAGMA synchronous = FULL")
        while passed_s < MEASURED_S / 2:
            made = [record(number)._replace(node_id=node_id(number)) for number in islice(numbers, rows_each)]
            changes = [(*each[:PROFILE], each.profile.decode(), *each[PROFILE + 1 :], 0) for each in made]
            began = perf_counter()
            bare.execute("BEGIN")
            bare.executemany(INSERT, changes)
            bare.execute("COMMIT")
            passed_s += perf_counter() - began
            rows += rows_each
    return rows / passed_s


def print_registrations(folder: Path) -> None:
    names = ("connections", "acknowledged/s", "share a commit", "loop busy", "waited ms, p50 / p99 / max")
    print("{:>11}{:>16}{:>16}{:>11}{:>29}".format(*names), end="")
    print("{:>17}{:>7}{:>15}{:>7}".format("from memory/s", "ratio", "bare SQLite/s", "ratio"))
    with (
        server(str(folder / "openred.db"), NODES_MAX, PATIENT_S) as durable,
        server("memory:", NODES_MAX, PATIENT_S) as forgetful,
    ):
        numbers = count()
        for connections in CONNECTIONS:
            load = uvloop.run(registrations(durable, connections, numbers))
            floor = uvloop.run(registrations(forgetful, connections, numbers)).acknowledged_per_s
            bare = bare_rows_per_s(folder, max(1, round(load.rows_each)))
            rate, waits = (
                load.acknowledged_per_s,
                " / ".join(f"{load.waited_ms(s):.1f}" for s in (0.5, 0.99, 1)),
            )
            print(
                f"{connections:11}{rate:16,.0f}{load.rows_each:16.1f}{load.loop_busy:11.0%}{waits:>29}",
                end="",
            )
            print(f"{floor:17,.0f}{rate / floor:7.2f}{bare:15,.0f}{rate / bare:7.2f}", flush=True)


def beat(port: int, seconds: float) -> None:
    """A process that sends heartbeats at a fixed rate, whatever comes back."""

    async def main() -> None:
        chance, host = random.Random(1), b"localhost"
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(BEAT_CONNECTIONS)]
        reading = [asyncio.create_task(reader.read(-1)) for reader, _ in streams]
        started, sent = perf_counter(), 0
        while (passed_s := perf_counter() - started) < seconds:
            while sent < passed_s * BEATS_PER_S:
                _, writer = streams[sent // BEATS_PER_PUSH % BEAT_CONNECTIONS]
                names = (node_id(int(chance.random() * NODES)).encode() for _ in range(BEATS_PER_PUSH))
                writer.write(
                    b"".join(
                        b"POST /heartbeat/%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (name, host) for name in names
                    )
                )
                sent += BEATS_PER_PUSH
            await asyncio.sleep(TICK_S)
        for task in reading:
            task.cancel()
        for _, writer in streams:
            writer.close()

    uvloop.run(main())


def store_nodes(path: Path, rows: int) -> None:
    """Make a database with so many nodes, as a server would have left it."""
    store = filled(path, 0)
    vitals = Vitals(attended_s=float(rows), revision=rows, transitions_per_h=0.0)
    for first in range(0, rows, BATCH_ROWS):
        slots = range(first, min(first + BATCH_ROWS, rows))
        records = [record(slot)._replace(node_id=node_id(slot)) for slot in slots]
        store.commit(batch(records, [])._replace(vitals=vitals))
    store.close()


async def watch(late_s: list[float]) -> None:
    """Note by how much a timer of a millisecond comes late."""
    while True:
        due_s = perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        late_s.append(perf_counter() - due_s)


async def stalls(folder: Path, port: int, load_it: bool) -> list[float]:
    """How late the loop of a server in this process was, each time; with the load on it or idle."""
    flags = {
        "admin_port": "off",
        "port": str(port),
        "database": str(folder / "stalls.db"),
        "snapshot_interval_s": "1" if load_it else "0",
        "flush_interval_s": "0.1",
        "log_level": "warning",
    }
    running = asyncio.create_task(OurServer(load(flags, {})).run())
    late_s: list[float] = []
    try:
        while not running.done():
            with suppress(ConnectionRefusedError):
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            await asyncio.sleep(0.05)
        process = multiprocessing.get_context("spawn").Process(target=beat, args=(port, STALL_S))
        if load_it:
            process.start()
            await asyncio.sleep(1)
        watching = asyncio.create_task(watch(late_s))
        await asyncio.sleep(STALL_S - 2)
        watching.cancel()
        if load_it:
            process.join(STALL_S)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return sorted(late_s)


def print_stalls(folder: Path) -> None:
    store_nodes(folder / "stalls.db", NODES)
    for name, load_it in (("idle", False), (f"{BEATS_PER_S:,} beats/s, flushes, snapshots", True)):
        late_s = uvloop.run(stalls(folder, 8_900 + os.getpid() % 90, load_it))
        told = ", ".join(
            f"p{share:g} {late_s[min(int(len(late_s) * share / 100), len(late_s) - 1)] * 1e3:.2f}"
            for share in (50, 99, 99.9)
        )
        print(f"loop late, ms: {name:38} {told}, max {late_s[-1] * 1e3:.2f}", flush=True)


def print_restart(folder: Path, rows: int) -> None:
    path = folder / f"restart-{rows}.db"
    store_nodes(path, rows)
    print(f"restart with {rows:,} nodes", flush=True)
    for _ in range(RESTARTS):
        gc.disable()
        with closing(sqlite3.connect(path)) as bare:
            began = perf_counter()
            bare.execute("SELECT * FROM node ORDER BY slot").fetchall()
            bare_s = perf_counter() - began
        gc.enable()
        began = perf_counter()
        subprocess.run([sys.executable, "-c", "import openred_central.server"], check=True)
        print(f"  a bare SELECT {bare_s:.2f} s, imports {perf_counter() - began:.2f} s", flush=True)
        with server(str(path), rows, PATIENT_S):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--restart", type=int, nargs="+", metavar="NODES", help="only measure starts")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        if given.restart is None:
            print_registrations(Path(folder))
            print_stalls(Path(folder))
        for rows in given.restart or (100_000,):
            print_restart(Path(folder), rows)


if __name__ == "__main__":
    main()

"""What a thousand open dashboards cost those who send heartbeats.

    python -m benchmarks.events                         1,000 subscribers of GET /events
    python -m benchmarks.events --subscribers 5000

One server process in memory, with 1,000 nodes. 16 connections send heartbeats, each its next when the answer
to the last one is there. In turns within one run, five times each: nobody follows the events, and all
subscribers do. Printed are heartbeats per second, the server's processor time for each from the operating
system's accounting, which holds the subscribers' share too, and how long heartbeats took. What compares is
the ratio of the two; the bar is 1.1. Takes 45 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, cast

import uvloop

from .population import document, node_id
from .suite import contestants as who
from .suite import machine
from .suite.databases import Databases
from .suite.servers import START_S_MAX, Running, Site, ask

HOST = "127.0.0.1"
NODES = 1_000
CONNECTIONS = 16
ROUNDS = 5
SETTLE_S = 1.5
MEASURED_S = 2.0
RATIO_MAX = 1.1


class Figures(NamedTuple):
    """One round: heartbeats per second, the server's processor time for each, and latencies in ms."""

    per_s: float
    microseconds: float
    p50_ms: float
    p99_ms: float


class Beating(asyncio.Protocol):
    """Sends heartbeats in a closed loop and notes how long each took."""

    def __init__(self, next_request: Callable[[], bytes]) -> None:
        self._next_request = next_request
        self._buffer = b""
        self._sent_s = 0.0
        self.took_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start = self._buffer.index(b"Content-Length: ") + 16
        end += 4 + int(self._buffer[start : self._buffer.index(b"\r", start)])
        if len(self._buffer) < end:
            return
        if self._buffer[9:12] != b"200":
            raise SystemExit(f"a heartbeat was refused: {self._buffer!r}")
        self._buffer = b""
        self.took_s.append(perf_counter() - self._sent_s)
        self._send()

    def _send(self) -> None:
        self._sent_s = perf_counter()
        self.transport.write(self._next_request())


class Subscriber(asyncio.Protocol):
    """Follows the events, and counts the bytes."""

    received_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"GET /events HTTP/1.1\r\nHost: benchmark\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)


async def one_round(running: Running, clients: list[Beating]) -> Figures:
    await asyncio.sleep(SETTLE_S)
    for client in clients:
        client.took_s.clear()
    spent_s, started_s = running.processor_s(), perf_counter()
    await asyncio.sleep(MEASURED_S)
    spent_s, passed_s = running.processor_s() - spent_s, perf_counter() - started_s
    took_s = sorted(took for client in clients for took in client.took_s)
    return Figures(
        len(took_s) / passed_s,
        spent_s / len(took_s) * 1e6,
        took_s[len(took_s) // 2] * 1e3,
        took_s[len(took_s) * 99 // 100] * 1e3,
    )


async def idle_share(running: Running) -> float:
    """The part of a processor that the server takes while nobody sends heartbeats."""
    await asyncio.sleep(SETTLE_S)
    spent_s, started_s = running.processor_s(), perf_counter()
    await asyncio.sleep(2 * MEASURED_S)
    return (running.processor_s() - spent_s) / (perf_counter() - started_s)


async def subscribe(running: Running, count: int) -> list[Subscriber]:
    loop = asyncio.get_running_loop()
    subscribers = [(await loop.create_connection(Subscriber, HOST, running.port))[1] for _ in range(count)]
    async with asyncio.timeout(START_S_MAX):
        while not all(subscriber.received_bytes for subscriber in subscribers):
            await asyncio.sleep(0.01)
    return subscribers


async def run(running: Running, count: int) -> None:
    for number in range(NODES):
        ask(running.port, "POST", "/register", json.dumps(document(number)).encode())
    print(f"  idle, nobody follows: {await idle_share(running):.2%} of a processor")
    subscribers = await subscribe(running, count)
    print(f"  idle, {count} follow: {await idle_share(running):.2%} of a processor")
    for subscriber in subscribers:
        subscriber.transport.abort()

    numbers = iter(range(1 << 62))
    beats = [
        b"POST /heartbeat/%b HTTP/1.1\r\nHost: benchmark\r\nContent-Length: 0\r\n\r\n"
        % node_id(number).encode()
        for number in range(NODES)
    ]
    loop = asyncio.get_running_loop()
    clients = [
        (
            await loop.create_connection(
                lambda: Beating(lambda: beats[next(numbers) % NODES]), HOST, running.port
            )
        )[1]
        for _ in range(CONNECTIONS)
    ]
    without, following = list[Figures](), list[Figures]()
    for _ in range(ROUNDS):
        without.append(await one_round(running, clients))
        subscribers = await subscribe(running, count)
        following.append(await one_round(running, clients))
        if not all(subscriber.received_bytes > 1_000 for subscriber in subscribers):
            raise SystemExit("not every subscriber was served")
        for subscriber in subscribers:
            subscriber.transport.abort()
    for client in clients:
        client.transport.abort()
    tell(without, following, count)


def tell(without: list[Figures], following: list[Figures], count: int) -> None:
    print(f"{'':24}{'heartbeats/s':>14}{'µs each':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for name, rounds in (("nobody follows", without), (f"{count} follow", following)):
        per_s, microseconds, p50_ms, p99_ms = map(statistics.median, zip(*rounds, strict=True))
        print(f"{name:24}{per_s:>14.0f}{microseconds:>10.1f}{p50_ms:>10.2f}{p99_ms:>10.2f}")
    both = list(zip(without, following, strict=True))
    ratios = [after.microseconds / before.microseconds for before, after in both]
    rates = [after.per_s / before.per_s for before, after in both]
    print(
        f"processor time for a heartbeat: × {statistics.median(ratios):.3f} (each round: "
        f"{', '.join(f'{ratio:.3f}' for ratio in ratios)}), the bar is {RATIO_MAX}; "
        f"heartbeats/s: × {statistics.median(rates):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What many subscribers of GET /events cost heartbeats.")
    parser.add_argument("--subscribers", type=int, default=1_000)
    given = parser.parse_args()
    # The server inherits it.
    machine.allow_open_files()
    cores = machine.choose_cores()
    settings = {
        "database": "memory:",
        "connections-max": "100000",
        "events-subscribers-max": str(given.subscribers),
    }
    with tempfile.TemporaryDirectory(prefix="openred-bench-") as folder, machine.on_cores(cores.load):
        site = Site(Path(folder), Databases(Path(folder)), cores)
        with site.server(who.OURS, settings=settings) as running:
            uvloop.run(run(running, given.subscribers))


if __name__ == "__main__":
    main()

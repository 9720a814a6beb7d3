"""The whole server under load: registrations over one connection, then heartbeats and discoveries.

    python -m benchmarks.directory                      100,000 nodes, each acknowledged after its commit
    python -m benchmarks.directory --nodes 1000000      a million
    python -m benchmarks.directory --database memory:   without a store

The server is a process of its own on loopback. All nodes are registered over one keep-alive connection; then
64 connections send heartbeats, and then discoveries, each its next when the answer to the last one is there.
The server is started again on the same database, with short dwell times, so that every node that stays silent
is due every 20 seconds, and the same load is measured while the scheduler moves them on.

Printed are rates, the server's processor time per request from the operating system's accounting, which holds
the scheduler's and the saver's work too, and its resident memory. A bare uvloop protocol that parses nothing
is measured in the same run, and the ratio to it is what compares between machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, cast

import uvloop

from .engine import REQUEST, Cost, measure

CONNECTIONS = 64
WARM_UP_S = 0.3
MEASURED_S = 3.0
START_TIMEOUT_S = 60.0
# While nodes are registered, nobody is due; then everybody who stays silent is, once in so many seconds.
PATIENT_S = 86_400.0
DWELL_S = 20.0
DWELL_TIMES = ("heartbeat-tolerance-s", "grace-s", "second-look-s", "retry-48h-s", "retry-2w-s")
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Server(NamedTuple):
    """A running server: where it listens, and the process."""

    host: str
    port: int
    process: subprocess.Popen[str]

    def processor_s(self) -> float:
        """User and system time used so far (proc(5), fields 14 and 15)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S

    def loop_s(self) -> float:
        """The same of the thread that runs the event loop alone, which is the first one."""
        fields = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/stat").read_text()
        return sum(map(int, fields.rpartition(")")[2].split()[11:13])) / CLOCK_TICKS_PER_S

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0


@contextmanager
def server(
    database: str, nodes: int, dwell_s: float, more: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """The server as users run it, with every dwell time at `dwell_s` and `more` settings, on a free port."""
    settings = {
        "port": "0",
        "admin-port": "off",
        "database": database,
        "max-nodes": str(nodes),
        "mass-silence-share": "1",
        "rate-limit-exempt": "127.0.0.0/8,::1/128",
        "connections-per-address-max": str(8 * CONNECTIONS),
        **dict.fromkeys(DWELL_TIMES, str(dwell_s)),
        **(more or {}),
    }
    command = [sys.executable, "-m", "openred_central", "serve"]
    command += [f"--{name}={value}" for name, value in settings.items()]
    started = perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            found = re.search(r"listening on ([\d.]+):(\d+)", line)
            if found:
                break
            print(line, end="", file=sys.stderr)
        else:
            raise SystemExit("the server did not start")
        loaded = line.partition("ready: ")[2].partition(" from")[0]
        with urllib.request.urlopen(f"http://{found[1]}:{found[2]}/health/ready") as reply:
            reply.read()
        print(f"  started and answered the first request within {perf_counter() - started:.2f} s, {loaded}")
        # What it logs from now on is thrown away, so that it never waits for a reader.
        subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield Server(found[1], int(found[2]), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


class Client(asyncio.Protocol):
    """One connection in a closed loop; `next_request` gives what to send, None at the end."""

    def __init__(self, next_request: Callable[[], bytes | None]) -> None:
        self._next_request = next_request
        self._buffer = b""
        self.answers = 0
        self.refused = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._is_whole():
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _is_whole(self) -> bool:
        """Take one whole answer off the buffer, if there is one."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        start = self._buffer.index(b"Content-Length: ") + 16
        end += 4 + int(self._buffer[start : self._buffer.index(b"\r", start)])
        if len(self._buffer) < end:
            return False
        self.answers += 1
        self.refused += self._buffer[9:10] != b"2"
        self._buffer = self._buffer[end:]
        return True

    def _send(self) -> None:
        request = self._next_request()
        if request is None:
            self.transport.close()
        else:
            self.transport.write(request)


REGISTRATION = (
    b'{"node_id":"%b","address":"192.0.%d.%d","port":8000,"public_key":"%043d=",'
    b'"services":["%b","storage"],"metadata":{"version":"1.2.3","os":"linux"}}'
)


def registration(number: int, host: bytes) -> bytes:
    """The request that registers the node `number`: 15 characters of id, IPv4, a key, two services.

    Put together from text (2 µs, encoding it as JSON takes 11), so that the load is not what is measured.
    """
    service = b"relay" if number % 10 else b"index"
    body = REGISTRATION % (node_id(number).encode(), number // 256 % 256, number % 256, number, service)
    head = b"POST /register HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n" % host
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def node_id(number: int) -> str:
    return f"node-{number:010d}"


async def register_all(running: Server, nodes: int) -> None:
    """Register all nodes over one connection, telling how it goes."""
    host, numbers = f"{running.host}:{running.port}".encode(), iter(range(nodes))

    def next_request() -> bytes | None:
        number = next(numbers, None)
        return None if number is None else registration(number, host)

    resident, spent_s, started = running.resident_bytes(), running.processor_s(), perf_counter()
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(next_request), running.host, running.port)
    await client.done
    if client.refused or client.answers != nodes:
        raise SystemExit(f"{client.answers} of {nodes} registrations were answered, {client.refused} refused")
    took_s, spent_s = perf_counter() - started, running.processor_s() - spent_s
    row("register, 1 connection", nodes / took_s, spent_s / nodes * 1e6)
    grown = running.resident_bytes() - resident
    print(f"  resident memory: {resident / 1e6:.1f} MB before, {grown / nodes:.0f} bytes more per node")


async def closed_loop(
    name: str, running: Server, next_request: Callable[[], bytes], bare_microseconds: float
) -> None:
    """Measure one kind of request over `CONNECTIONS` connections."""
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(next_request), running.host, running.port))[1]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(WARM_UP_S)
    answers, spent_s = sum(client.answers for client in clients), running.processor_s()
    started = perf_counter()
    await asyncio.sleep(MEASURED_S)
    spent_s, took_s = running.processor_s() - spent_s, perf_counter() - started
    answers = sum(client.answers for client in clients) - answers
    refused = sum(client.refused for client in clients)
    for client in clients:
        client.transport.abort()
    row(name, answers / took_s, spent_s / answers * 1e6, spent_s / answers * 1e6 / bare_microseconds)
    if refused:
        print(f"  {refused} of them were refused")


async def figures(running: Server) -> dict[str, dict[str, object]]:
    reader, writer = await asyncio.open_connection(running.host, running.port)
    writer.write(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    document = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    writer.close()
    return cast("dict[str, dict[str, object]]", document)


def row(name: str, per_s: float, microseconds: float, times_bare: float | None = None) -> None:
    ratio = f"{times_bare:10.2f}" if times_bare is not None else " " * 10
    print(f"{name:28}{per_s:12,.0f}{microseconds:14.1f}{ratio}", flush=True)


async def run_load(running: Server, nodes: int, seed: int, bare: Cost) -> None:
    chance, host = random.Random(seed), f"{running.host}:{running.port}".encode()

    def heartbeat() -> bytes:
        name = node_id(int(chance.random() * nodes)).encode()
        return b"POST /heartbeat/%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (name, host)

    def discovery(query: bytes) -> Callable[[], bytes]:
        request = b"GET /discover?%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (query, host)
        return lambda: request

    await closed_loop("heartbeat", running, heartbeat, bare.microseconds)
    for name, query in (("1 service", b"services=storage"), ("2 services", b"services=index,storage")):
        await closed_loop(f"discover 50, {name}", running, discovery(query), bare.microseconds)
    told = await figures(running)
    transitions = cast("list[dict[str, int]]", told["lifecycle"]["transitions"])
    print(f"  states now: {told['directory']['by_state']}")
    print(f"  transitions since the start: {sum(each['count'] for each in transitions):,}")
    print(f"  resident memory at the end: {running.resident_bytes() / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=100_000, help="how many to register")
    parser.add_argument("--database", help="memory: for none; by default a temporary file")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="to repeat a run")
    given = parser.parse_args()
    print(f"seed {given.seed}, load average {os.getloadavg()[0]:.2f}")
    print(f"{'':28}{'requests/s':>12}{'CPU µs each':>14}{'× bare':>10}")
    bare = measure("bare", REQUEST)
    row("bare uvloop protocol", bare.requests_per_s, bare.microseconds, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        database = given.database or f"{folder}/openred.db"
        with server(database, given.nodes, PATIENT_S) as running:
            uvloop.run(register_all(running, given.nodes))
            uvloop.run(run_load(running, given.nodes, given.seed, bare))
        if database != "memory:":
            with server(database, given.nodes, DWELL_S) as running:
                uvloop.run(run_load(running, given.nodes, given.seed, bare))


if __name__ == "__main__":
    main()

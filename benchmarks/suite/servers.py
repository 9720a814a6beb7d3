"""Servers on loopback: starting, stopping, and measuring them from outside."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any, NamedTuple

from .. import machine
from ..machine import ROOT, Cores
from .contestants import CONTESTANTS, Place
from .databases import Databases

START_S_MAX = 180.0
STOP_S_MAX = 30.0
POLL_S = 0.001
LOOK_S = 0.05
# Memory is settled if it has not changed by more bytes in so many seconds.
STILL_S, STILL_BYTES = 0.5, 65_536
SETTLE_S_MAX = 10.0
KEYS_S_MAX = 30.0
LOG_SHOWN = 2_000


class ServerError(Exception):
    """A server that did not start. The message names it and holds the end of its log."""


class Running(NamedTuple):
    """A server that listens: its port, process, the seconds until it listened, and its log."""

    port: int
    process: subprocess.Popen[bytes]
    started_s: float
    log: Path

    # Its descendants are looked up each time, because nginx listens before it starts its worker.
    def processor_s(self) -> float:
        return machine.processor_s(machine.family(self.process.pid))

    def resident_bytes(self) -> int:
        return machine.resident_bytes(machine.family(self.process.pid))

    def settled_bytes(self) -> int:
        """Return the resident memory once it is settled, or after `SETTLE_S_MAX`."""
        return settled(self.resident_bytes, perf_counter, sleep)

    def get(self, path: str) -> Any:
        """Return the document at `path`."""
        return json.loads(ask(self.port, "GET", path))

    def open_keys(self) -> None:
        """Wait until our server has its keys and the second of its start is over. Raises `ServerError`.

        Times in signatures are whole seconds, so that second counts as before the start.
        """
        sleep(1)
        ends_s = perf_counter() + KEYS_S_MAX
        while b'"keyset"' not in (answer := ask(self.port, "GET", "/security/keys")):
            if perf_counter() > ends_s:
                raise ServerError(f"the server has no keys after {KEYS_S_MAX:g} s: {answer[:LOG_SHOWN]!r}")
            sleep(LOOK_S)


def settled(look: Callable[[], int], now_s: Callable[[], float], pause: Callable[[float], None]) -> int:
    """Return `look()` once it stays within `STILL_BYTES` for `STILL_S`, or after `SETTLE_S_MAX`."""
    ends_s = now_s() + SETTLE_S_MAX
    before, since_s = look(), now_s()
    while True:
        pause(LOOK_S)
        found, at_s = look(), now_s()
        if abs(found - before) > STILL_BYTES:
            before, since_s = found, at_s
        if at_s >= ends_s or at_s - since_s >= STILL_S:
            return found


class Usage(NamedTuple):
    """Processor time of the server, of its first thread, of its core and of this process at one moment."""

    server_s: float
    loop_s: float
    core_s: float
    load_s: float
    now_s: float


class Meter:
    """Processor time of a server and its core between two calls of `read`."""

    def __init__(self, server: Running, cores: Cores) -> None:
        self._server, self._cores = server, cores
        self._readings: list[Usage] = []

    def read(self) -> None:
        core_s, loop_s = machine.busy_s(self._cores.server), machine.first_thread_s(self._server.process.pid)
        server_s = self._server.processor_s()
        self._readings.append(Usage(server_s, loop_s, core_s, process_time(), perf_counter()))

    def figures(self, requests: int) -> dict[str, float]:
        """Return server CPU for each request, and how busy the load and others on the server's core were."""
        first, last = self._readings
        server_s = last.server_s - first.server_s
        found = {
            "cpu_us": server_s / max(requests, 1) * 1e6,
            "generator_percent": 100 * (last.load_s - first.load_s) / (last.now_s - first.now_s),
        }
        if self._cores.server:
            others_s = max(0.0, last.core_s - first.core_s - server_s)
            found["others_percent"] = 100 * others_s / (last.now_s - first.now_s)
        return found

    def by_thread(self, requests: int) -> dict[str, float]:
        """Return the CPU of the first thread, which runs the loop, and of all others, for each request."""
        first, last = self._readings
        loop_s, server_s = last.loop_s - first.loop_s, last.server_s - first.server_s
        each_us = 1e6 / max(requests, 1)
        return {"loop_us": loop_s * each_us, "others_us": (server_s - loop_s) * each_us}


class Site(NamedTuple):
    """Folder, databases and cores for all servers of a run."""

    folder: Path
    databases: Databases
    cores: Cores

    @contextmanager
    def server(
        self,
        name: str,
        nodes: int = 0,
        settings: dict[str, str] | None = None,
        command: list[str] | None = None,
    ) -> Iterator[Running]:
        """Run a contestant, or `command` with the flags of our server; `settings` are those of our server."""
        with tempfile.TemporaryDirectory(dir=self.folder) as own:
            place = Place(free_port(), Path(own), nodes, self.databases, settings or {})
            arguments = CONTESTANTS[name].command(place)
            if command is not None:
                arguments = [*command, *arguments[4:]]
            log = Path(own) / "log"
            with machine.on_cores(self.cores.server), log.open("wb") as output:
                began_s = perf_counter()
                process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                )
            try:
                started_s = wait_until_it_listens(name, process, place.port, began_s, log)
                yield Running(place.port, process, started_s, log)
            finally:
                stop(process)


def wait_until_it_listens(
    name: str, process: subprocess.Popen[bytes], port: int, began_s: float, log: Path
) -> float:
    """Return the seconds since `began_s` once a server listens. Raises `ServerError`."""
    while perf_counter() - began_s < START_S_MAX and process.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return perf_counter() - began_s
        sleep(POLL_S)
    raise ServerError(f"{name} did not start: {log.read_text(errors='replace')[-LOG_SHOWN:]}")


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """Stop a server with all its children by a signal, and by force if it does not end by itself."""
    pids = machine.family(process.pid)
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in pids[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ask(port: int, method: str, path: str, body: bytes | None = None, timeout_s: float = STOP_S_MAX) -> bytes:
    """Return the body of one answer of any status."""
    return answer(port, method, path, body, timeout_s)[1]


def answer(
    port: int, method: str, path: str, body: bytes | None = None, timeout_s: float = STOP_S_MAX
) -> tuple[int, bytes]:
    """Return status and body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

"""Instances of a cluster on loopback: started, lost, and watched from outside; a slow link between two."""

from __future__ import annotations

import asyncio
import http.client
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple

from .. import machine
from ..machine import ROOT
from ..population import node_id
from . import contestants
from .postgres import Postgres
from .servers import (
    LOOK_S,
    START_S_MAX,
    Running,
    ServerError,
    answer,
    free_port,
    stop,
    wait_until_it_listens,
)

PROGRAM = [sys.executable, "-m", "openred_central"]
PIECE_BYTES = 65_536
BEAT_PAUSE_S = 0.005


class Instance(NamedTuple):
    """One run of an instance: its name, its process, and its port for operators."""

    name: str
    server: Running
    admin_port: int

    @property
    def leads(self) -> bool:
        return self._is("leader")

    @property
    def is_ready(self) -> bool:
        return self._is("ready")

    def _is(self, what: str) -> bool:
        return status(self.server.port, "GET", f"/health/{what}") == 200

    def logged_at_s(self, text: str) -> list[float]:
        """Return the times of the lines of its log with this text."""
        return times_s(self.server.log.read_text(), text)

    def logged_until_s(self, begun: str, other: Instance, ended: str) -> float:
        """Return the time from the last line here with `begun` to that of `other` with `ended`.

        The log is written a little later. Raises `ServerError` if there is no such line after it.
        """

        def took_s() -> float:
            lines = self.logged_at_s(begun), other.logged_at_s(ended)
            return lines[1][-1] - lines[0][-1] if all(lines) else -1.0

        _wait(lambda: took_s() >= 0.0, f"the log of {other.name} to say {ended!r}")
        return took_s()


def times_s(log: str, text: str) -> list[float]:
    """Return the times of the lines of a log with this text."""
    lines = (line for line in log.splitlines() if text in line)
    return [datetime.fromisoformat(line.split()[0]).timestamp() for line in lines]


def status(port: int, method: str, path: str, body: bytes | None = None) -> int:
    """Return the status of an answer; 0 if none comes."""
    try:
        return answer(port, method, path, body)[0]
    except (OSError, http.client.HTTPException):
        return 0


class Cluster:
    """Instances on the database at `url`; each has other ports in each of its runs."""

    def __init__(self, folder: Path, url: str, cores: frozenset[int]) -> None:
        self._folder, self._cores = folder, cores
        secret_file = folder / "key-secret"
        secret_file.write_text(secrets.token_urlsafe(32))
        secret_file.chmod(0o600)
        self._database = {"database": url, "key-secret-file": str(secret_file)}
        self._starts = 0
        self.instances: dict[str, Instance] = {}

    def fill(self, database: Path) -> None:
        """Copy the nodes of a database of SQLite, before the first start. Raises `CalledProcessError`."""
        file = self._folder / "nodes.jsonl"
        for command, settings in (("export", {"database": str(database)}), ("import", self._database)):
            flags = contestants.flags({**contestants.UNLIMITED, **settings})
            subprocess.run([*PROGRAM, command, str(file), *flags], check=True, capture_output=True, cwd=ROOT)
        file.unlink()

    def start(self, name: str, settings: dict[str, str] | None = None) -> Instance:
        """Start an instance, and wait until it serves. Raises `ServerError`."""
        self._starts += 1
        port, admin_port = free_port(), free_port()
        log = self._folder / f"{name}-{self._starts}.log"
        given = {
            **contestants.UNLIMITED,
            **self._database,
            "instance": name,
            "port": str(port),
            "admin-port": str(admin_port),
            "cluster-port": str(free_port()),
            **(settings or {}),
        }
        began_s = perf_counter()
        with machine.on_cores(self._cores), log.open("wb") as output:
            process = subprocess.Popen(
                [*PROGRAM, "serve", *contestants.flags(given)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        try:
            started_s = wait_until_it_listens(name, process, port, began_s, log)
        except BaseException:
            stop(process)
            raise
        instance = Instance(name, Running(port, process, started_s, log), admin_port)
        self.instances[name] = instance
        _wait(lambda: instance.is_ready, f"{name} to be ready")
        return instance

    def roles(self) -> tuple[Instance, Instance]:
        """Return the leader and one that follows, once all are ready and one leads. Raises `ServerError`."""
        _wait(self._is_whole, "one instance to lead and all others to follow")
        leader = next(each for each in self.instances.values() if each.leads)
        return leader, next(each for each in self.instances.values() if each is not leader)

    def _is_whole(self) -> bool:
        found = self.instances.values()
        return all(each.is_ready for each in found) and sum(each.leads for each in found) == 1

    def end(self) -> None:
        """End all instances, those that are halted, too."""
        for instance in self.instances.values():
            with suppress(ProcessLookupError):
                instance.server.process.send_signal(signal.SIGCONT)
            stop(instance.server.process)


def _wait(ready: Callable[[], bool], what: str) -> None:
    ends_s = perf_counter() + START_S_MAX
    while not ready():
        if perf_counter() > ends_s:
            raise ServerError(f"waited {START_S_MAX:g} s in vain for {what}")
        sleep(LOOK_S)


@contextmanager
def cluster(
    folder: Path, postgres: Postgres, cores: frozenset[int], names: str, filled: Path | None = None
) -> Iterator[Cluster]:
    """Run a cluster with an instance for each letter of `names`, the first one as its leader."""
    own = folder / f"cluster-{free_port()}"
    own.mkdir()
    made = Cluster(own, postgres.create(own.name), cores)
    try:
        if filled is not None:
            made.fill(filled)
        for name in names:
            made.start(name)
        yield made
    finally:
        made.end()


class Heartbeats(threading.Thread):
    """Sends plain heartbeats at an instance over one connection inside its block, and counts the `failed`."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._ending = threading.Event()
        self.sent = self.failed = 0

    def __enter__(self) -> Heartbeats:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_S_MAX)
        while not self._ending.wait(BEAT_PAUSE_S):
            self.sent += 1
            try:
                connection.request("POST", f"/heartbeat/{node_id(0)}")
                response = connection.getresponse()
                response.read()
                self.failed += response.status != 200
            except (OSError, http.client.HTTPException):
                self.failed += 1
                connection.close()
        connection.close()


class Relay:
    """Connections to `port` come to `target_port`, each byte `delay_s` later, on a loop in a thread.

    `taken_bytes` counts what it took from both sides: a later delay does not hold for that.
    """

    def __init__(self, target_port: int) -> None:
        self.port, self.delay_s = free_port(), 0.0
        self.taken_bytes = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        opening = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._listener = asyncio.run_coroutine_threadsafe(opening, self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        with suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.append(back)
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        for each in writers:
            each.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # One after the other, so that no bytes overtake others when the delay changes.
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        reading = asyncio.create_task(self._read(reader, pieces))
        piece = b" "
        while piece:
            due_s, piece = await pieces.get()
            await asyncio.sleep(due_s - self._loop.time())
            writer.write(piece)
        writer.write_eof()
        await reading

    async def _read(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        piece = b" "
        while piece:
            try:
                piece = await reader.read(PIECE_BYTES)
            except OSError:
                piece = b""
            pieces.put_nowait((self._loop.time() + self.delay_s, piece))
            self.taken_bytes += len(piece)

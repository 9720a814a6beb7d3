"""The workers of a real server, and clients that know which of them answers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import unittest
from collections.abc import Iterator
from pathlib import Path

from tests.support.running import Client, Server, until
from tests.support.world import Reply

# The system spreads connections by chance: so many bring at least one to each of two workers.
TRIES_MAX = 200
_PROC = Path("/proc")
_ESTABLISHED = "01"


def processes(server: Server) -> dict[int, int]:
    """Return the process ids of the workers that run, by their number."""
    if not (_PROC / "net/tcp").exists():
        raise unittest.SkipTest("this system does not tell in /proc whose a connection is")
    owner, found = server.process.pid, dict[int, int]()
    for child in (_PROC / f"{owner}/task/{owner}/children").read_text().split():
        with contextlib.suppress(OSError):
            words = (_PROC / child / "cmdline").read_bytes().split(b"\0")
            if b"worker" in words:
                found[int(words[words.index(b"worker") + 1])] = int(child)
    return found


def worker_of(client: Client, server: Server) -> int | None:
    """Return the process id of the worker that accepted the connection of `client`, over IPv4."""
    inode = _inode(server.address[1], client.port)
    for process_id in processes(server).values():
        with contextlib.suppress(OSError):
            for entry in (_PROC / str(process_id) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if inode is not None and os.readlink(entry) == f"socket:[{inode}]":
                        return process_id
    return None


def _inode(server_port: int, client_port: int) -> str | None:
    """Return the number of the server's end of a connection."""
    for line in (_PROC / "net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        ports = [int(words[column].rpartition(":")[2], 16) for column in (1, 2)]
        if ports == [server_port, client_port] and words[3] == _ESTABLISHED:
            return words[9]
    return None


@contextlib.contextmanager
def one_client_each(server: Server) -> Iterator[dict[int, Client]]:
    """Yield a client of each worker, by process id."""
    with contextlib.ExitStack() as stack:
        yield {
            process_id: stack.enter_context(client_of(process_id, server))
            for process_id in processes(server).values()
        }


@contextlib.contextmanager
def client_of(process_id: int, server: Server) -> Iterator[Client]:
    """Yield a client whose connection one worker accepted."""
    for _ in range(TRIES_MAX):
        with Client(server.address) as client:
            assert client.ask("GET", "/health/live").status == 200
            if worker_of(client, server) == process_id:
                yield client
                return
    raise AssertionError(f"no connection came to the worker {process_id}")


def found(client: Client, target: str, seq: str) -> Reply:
    """Return an answer that knows the commit `seq`; a worker that is behind asks to try again."""

    def answer() -> Reply | None:
        reply = client.ask("GET", target, OpenRed_Seq=seq)
        return None if reply.status == 503 and reply.document["error"] == "behind" else reply

    reply: Reply = until(answer, f"the commit {seq}")
    return reply


def kill_worker(server: Server, number: int, *, by: signal.Signals = signal.SIGKILL) -> int:
    """Kill the worker of a number, wait until another one serves in its place, and return its process id."""
    former = processes(server)[number]
    serves = f"worker {number} serves"
    before = server.log.count(serves)
    os.kill(former, by)
    until(lambda: server.log.count(serves) > before, f"worker {number} to be replaced")
    return processes(server)[number]


@contextlib.contextmanager
def stopped(process_id: int) -> Iterator[None]:
    """Let a process stand still."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGCONT)


def resident_bytes(process_id: int) -> int:
    """Return how much memory a process has."""
    pages = int((_PROC / str(process_id) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def while_s(seconds: float) -> Iterator[float]:
    """Yield the seconds that have passed, again and again, until so many have."""
    began_s = time.monotonic()
    while (passed_s := time.monotonic() - began_s) < seconds:
        yield passed_s

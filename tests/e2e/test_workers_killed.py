"""Workers and their owner are killed, stopped and flooded: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson

from openred_central.cluster.forwarding import PLACES, WAITING_MAX
from openred_central.exit_codes import ExitCode
from openred_central.security.signing import PrivateKey, rotation_headers
from openred_central.server.crew import ENDED_MAX, SILENT_S_MAX
from tests.conftest import SOAK
from tests.support.running import (
    ROOT,
    WAIT_S_MAX,
    Client,
    Server,
    Start,
    allow_descriptors,
    proof,
    run,
    until,
)
from tests.support.serving import lasting_port
from tests.support.signing import wait_for_the_next_second
from tests.support.waiting import until as until_async
from tests.support.workers import (
    client_of,
    found,
    kill_worker,
    one_client_each,
    processes,
    resident_bytes,
    stopped,
    while_s,
)

CLIENTS = 4
TWO = ("--workers", "2")
# One more kill within a minute would end the owner: `make soak` begins new rounds.
KILLS_OF_WORKERS = ENDED_MAX - 1 if SOAK else 2
ROUNDS_OF_WORKERS = 5 if SOAK else 1
KILLS_OF_OWNERS = 10 if SOAK else 2
CHANGES_BETWEEN = 20
FLOOD_CONNECTIONS = 3_000
FLOOD_CHANGES = 5_000
STRANGERS_PER_S = 1_000
STRANGERS_S = 10.0 if SOAK else 4.0
GROWTH_BYTES_MAX = 24 * 1024 * 1024


class Changer(threading.Thread):
    """Registers nodes, changes keys and lets nodes depart until told to end; notes what was acknowledged.

    It connects anew when its connection ends: a worker may have been killed. `refused` has answers that no
    caller should get, `unknown` how many requests ended without one.
    """

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._prefix = name
        self.ending = threading.Event()
        self.keys: dict[str, str] = {}
        self.departed: dict[str, str] = {}
        self.refused: list[object] = []
        self.unknown = 0

    @property
    def acknowledged(self) -> int:
        return len(self.keys) + len(self.departed)

    def run(self) -> None:
        number = 0
        while not self.ending.is_set():
            try:
                with Client(self._server.address) as client:
                    while not self.ending.is_set():
                        number += 1
                        self._one(client, f"{self._prefix}-{number}", number)
            except (OSError, http.client.HTTPException):
                self.unknown += 1
                # The owner may be gone for good, and with it all listeners.
                self.ending.wait(0.01)

    def _one(self, client: Client, node_id: str, number: int) -> None:
        reply = client.register(node_id)
        if not self._worked(reply, 201):
            return
        claim = reply.document["claim"]
        if number % 3 == 0:
            mode = ("leave", "forget")[number % 2]
            if self._worked(client.ask("DELETE", f"/nodes/{node_id}?mode={mode}", **proof(claim)), 200):
                self.departed[node_id] = mode
            return
        self.keys[node_id] = f"key of {node_id}"
        is_bound = number % 3 == 1
        if is_bound and not self._change_key(client, node_id, claim):
            return
        self._worked(client.ask("POST", f"/heartbeat/{node_id}"), 401 if is_bound else 200)

    def _change_key(self, client: Client, node_id: str, claim: str) -> bool:
        key = PrivateKey.generate_ed25519()
        path, content = f"/nodes/{node_id}/key", orjson.dumps({"public_key": key.public_text})
        authority = "{}:{}".format(*self._server.address)
        signed = rotation_headers(authority, path, content, None, key, int(time.time()), os.urandom(16).hex())
        headers = {name.replace("-", "_"): value for name, value in signed}
        # Until the change is acknowledged, either key is right.
        del self.keys[node_id]
        is_changed = self._worked(client.ask("POST", path, content, **headers, **proof(claim)), 200)
        if is_changed:
            self.keys[node_id] = key.public_text
        return is_changed

    def _worked(self, reply: Any, status: int) -> bool:
        if reply.status == status and reply.document.get("durable", True):
            return True
        # A request whose way to the owner was cut may say that nobody knows.
        if reply.status != 503:
            self.refused.append(reply)
        return False


@contextmanager
def changing(server: Server, name: str) -> Iterator[list[Changer]]:
    """Let clients change the directory meanwhile."""
    wait_for_the_next_second()
    changers = [Changer(server, f"{name}-{number}") for number in range(CLIENTS)]
    for changer in changers:
        changer.start()
    try:
        yield changers
    finally:
        for changer in changers:
            changer.ending.set()
        for changer in changers:
            changer.join(WAIT_S_MAX)
            assert not changer.is_alive()
            assert not changer.refused


def more_changes(changers: list[Changer]) -> None:
    """Wait until some more changes are acknowledged."""

    def count() -> int:
        return sum(changer.acknowledged for changer in changers)

    before = count()
    until(lambda: count() >= before + CHANGES_BETWEEN, "more changes")


def expect_kept(server: Server, changers: list[Changer]) -> None:
    """Ask each worker for all that was acknowledged."""
    with one_client_each(server) as clients:
        asked, *_ = clients.values()
        last = asked.register(f"last-{time.monotonic_ns()}").headers["OpenRed-Seq"]
        for client in clients.values():
            # The last changes may still be on their way to the other worker.
            assert found(client, "/nodes/nobody", last).status == 404
            for changer in changers:
                for node_id, key in list(changer.keys.items()):
                    shown = client.ask("GET", f"/nodes/{node_id}")
                    assert (shown.status, shown.document["public_key"]) == (200, key)
                for node_id, mode in list(changer.departed.items()):
                    shown = client.ask("GET", f"/nodes/{node_id}")
                    assert (shown.status, shown.document.get("state")) in {
                        "leave": ((200, "coma"),),
                        "forget": ((410, None), (404, None)),
                    }[mode]
    # No copy of the directory ever differed from that of the owner.
    assert " error " not in server.log.replace("said nothing", ""), server.log


def expect_stored(database: Path, changers: list[Changer]) -> None:
    """Compare the database of a server that has ended with all that was acknowledged."""
    done = run("verify", "--database", str(database))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"memory agrees in 64 of 64 shards, every", done.stdout), done.stdout
    exported = database.with_name("exported.jsonl")
    exported.unlink(missing_ok=True)
    done = run("export", str(exported), "--database", str(database))
    assert done.returncode == 0, done.stdout + done.stderr
    content = exported.read_text()
    for changer in changers:
        for node_id in changer.keys:
            assert f'"{node_id}"' in content


def test_kills_of_workers_lose_nothing(start: Start, tmp_path: Path) -> None:
    """Each round ends with SIGTERM under load."""
    everybody: list[Changer] = []
    for round_number in range(ROUNDS_OF_WORKERS):
        server = start(*TWO)
        with changing(server, f"round-{round_number}") as changers:
            everybody += changers
            for kill in range(KILLS_OF_WORKERS):
                more_changes(changers)
                kill_worker(server, kill % 2)
            more_changes(changers)
        # Each kill cut at most the one request that each client had under way.
        assert sum(changer.unknown for changer in changers) <= KILLS_OF_WORKERS * CLIENTS
        expect_kept(server, changers)
        with changing(server, f"last-{round_number}") as changers:
            everybody += changers
            more_changes(changers)
            server.send_signal(signal.SIGTERM)
            assert server.wait() == ExitCode.DONE, server.log
        assert "Traceback" not in server.log
        expect_stored(tmp_path / "nodes.db", everybody)
    expect_kept(start(*TWO), everybody)


def test_kills_of_the_owner_lose_nothing_and_free_the_port(start: Start, tmp_path: Path) -> None:
    everybody: list[Changer] = []
    port = str(lasting_port())
    for kill in range(KILLS_OF_OWNERS):
        server = start(*TWO, "--port", port)
        workers = list(processes(server).values())
        with changing(server, f"kill-{kill}") as changers:
            everybody += changers
            more_changes(changers)
            server.kill()
        until(lambda pids=workers: not any(map(runs, pids)), "the workers to end without their owner")
        expect_stored(tmp_path / "nodes.db", changers)
    expect_kept(start(*TWO, "--port", port), everybody)


def runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


class Beating(threading.Thread):
    """Nodes that give a sign of life again and again, each at its own worker, until told to end.

    Answers may be late, and connections may end: then a node turns to any other worker.
    """

    def __init__(self, server: Server, clients: dict[str, Client], pause_s: float) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._clients = clients
        self._pause_s = pause_s
        self.ending = threading.Event()
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        with ExitStack() as stack:
            nodes = [
                threading.Thread(target=self._beat, args=(stack, *each), daemon=True)
                for each in self._clients.items()
            ]
            for node in nodes:
                node.start()
            # Each waits for its last answer before its connection is closed.
            for node in nodes:
                node.join()

    def _beat(self, stack: ExitStack, node_id: str, client: Client) -> None:
        while not self.ending.wait(self._pause_s):
            try:
                self.statuses[client.ask("POST", f"/heartbeat/{node_id}").status] += 1
            except (OSError, http.client.HTTPException):
                client = stack.enter_context(Client(self._server.address))


@contextmanager
def beating(server: Server, per_worker: int, pause_s: float) -> Iterator[dict[str, int]]:
    """Let nodes beat at each worker meanwhile; yield the process id of the worker that hears each."""
    with ExitStack() as stack:
        heard_by, clients = dict[str, int](), dict[str, Client]()
        for process_id in processes(server).values():
            for number in range(per_worker):
                node_id = f"at-{process_id}-{number}"
                heard_by[node_id] = process_id
                clients[node_id] = stack.enter_context(client_of(process_id, server))
        for node_id, client in clients.items():
            assert client.register(node_id).status == 201
        beats = Beating(server, clients, pause_s)
        beats.start()
        try:
            yield heard_by
        finally:
            beats.ending.set()
            beats.join(2 * WAIT_S_MAX)
            assert not beats.is_alive()
            assert set(beats.statuses) == {200}, beats.statuses


def changed_states(server: Server) -> set[str]:
    """Return the nodes that were ever late."""
    return set(re.findall(r"node (\S+): active → ", server.log))


# Many silent nodes at once would be held back otherwise, and hide what is looked for.
QUICK = ("--mass-silence-share", "1", "--all-silent-s", "0", "--log-level", "debug", "--tick-s", "0.2")


def test_no_node_that_beats_changes_its_state_while_a_worker_is_slow(start: Start) -> None:
    # The tests' own process may stand still, too, and its nodes with it.
    server = start(*TWO, *QUICK, "--heartbeat-tolerance-s", "5", "--flush-interval-s", "0.2")
    with beating(server, 4, 0.3) as heard_by:
        with Client(server.address) as client:
            client.register("silent")
        for process_id in list(set(heard_by.values()))[: 2 if SOAK else 1]:
            with stopped(process_id):
                time.sleep(6.0)
            time.sleep(0.5)
        # Nodes that are silent do change theirs.
        until(lambda: "silent" in changed_states(server), "the silent node to be late")
    assert changed_states(server) == {"silent"}


def test_a_worker_that_hangs_is_replaced_and_ages_nobody_meanwhile(start: Start) -> None:
    tolerance_s = SILENT_S_MAX + 6.0
    server = start(*TWO, *QUICK, "--heartbeat-tolerance-s", str(tolerance_s), "--flush-interval-s", "0.2")
    with beating(server, 4, 0.3) as heard_by:
        hanging = processes(server)[0]
        with Client(server.address) as client:
            client.register("silent")
        with stopped(hanging):
            until(lambda: not runs(hanging), "the worker that hangs to be killed")
        until(lambda: server.log.count("worker 0 serves") == 2, "another one to take its place")
        assert server.log.count("said nothing for 10 s: it is killed") == 1
        until(lambda: "silent" in changed_states(server), "the silent node to be late")
        assert hanging in heard_by.values()
    assert changed_states(server) == {"silent"}
    assert "worker 1 ended" not in server.log


def test_deadlines_wait_for_a_worker_that_hangs(start: Start) -> None:
    """Signs of life that a worker heard and did not tell yet still count."""
    server = start(*TWO, *QUICK, "--heartbeat-tolerance-s", "2", "--flush-interval-s", "0.2")
    hanging, other = processes(server)[0], processes(server)[1]
    with client_of(other, server) as client:
        # It hangs before the time of the node begins, however long that takes.
        with stopped(hanging):
            assert client.register("silent").status == 201
            for _ in while_s(5.0):
                assert not changed_states(server)
                time.sleep(0.1)
        until(lambda: "silent" in changed_states(server), "the silent node to be late")


async def flood(
    address: tuple[str, int],
    connections: int,
    count: int,
    request: Callable[[int], bytes],
    statuses: Counter[int] | None = None,
) -> Counter[int]:
    """Send so many requests over many connections; count in `statuses`, and return, what came back.

    Each 503 has to say when to try again.
    """
    statuses = Counter() if statuses is None else statuses
    numbers = iter(range(count))

    async def one() -> None:
        reader, writer = await asyncio.open_connection(*address)
        for number in numbers:
            writer.write(request(number))
            head = await reader.readuntil(b"\r\n\r\n")
            fields = head.lower()
            await reader.readexactly(int(fields.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0]))
            status = int(head.split()[1])
            statuses[status] += 1
            assert status != 503 or b"\r\nretry-after: " in fields
        writer.close()

    async with asyncio.timeout(2 * WAIT_S_MAX), asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())
    return statuses


def registration(number: int) -> bytes:
    body = orjson.dumps({"node_id": f"flood-{number}", "address": "192.0.2.1", "port": 1, "public_key": "k"})
    head = (
        f"POST /register HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return f"{head}\r\n\r\n".encode() + body


def stranger(number: int) -> bytes:
    return f"POST /heartbeat/stranger-{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()


async def test_changes_while_the_owner_stands_still_wait_in_bounds(start: Start) -> None:
    allow_descriptors(FLOOD_CONNECTIONS + 200)
    server = start(*TWO, "--connections-per-address-max", str(2 * FLOOD_CONNECTIONS))
    before = {process_id: resident_bytes(process_id) for process_id in processes(server).values()}
    # No more than these wait; all others are told at once to come again, as no change was begun.
    waited_max = 2 * (PLACES + WAITING_MAX)
    statuses = Counter[int]()
    with stopped(server.process.pid):
        flooding = asyncio.create_task(
            flood(server.address, FLOOD_CONNECTIONS, FLOOD_CHANGES, registration, statuses)
        )
        await until_async(lambda: statuses[503] >= FLOOD_CHANGES - waited_max)
    await flooding
    assert set(statuses) == {201, 503}
    after = {process_id: resident_bytes(process_id) for process_id in processes(server).values()}
    assert after.keys() == before.keys()
    assert all(after[process_id] - before[process_id] < GROWTH_BYTES_MAX for process_id in before)
    with one_client_each(server) as clients:
        for number, client in enumerate(clients.values()):
            # The owner answers this.
            stats = client.ask("GET", "/stats").document
            assert stats["directory"]["nodes"] == statuses[201] + number
            assert client.register(f"after-{number}").status == 201


async def test_strangers_cost_the_owner_no_more_than_places(start: Start) -> None:
    """A heartbeat of an unknown node goes to the owner: it may have just been registered."""
    server = start(*TWO, "--connections-per-address-max", "1000")
    count = int(STRANGERS_PER_S * STRANGERS_S)
    await flood(server.address, 100, STRANGERS_PER_S, stranger)
    process_ids = [server.process.pid, *processes(server).values()]
    before = {process_id: resident_bytes(process_id) for process_id in process_ids}
    flooding = asyncio.create_task(flood(server.address, 100, count, stranger))
    with Client(server.address) as client:
        while not flooding.done():
            asked_s = time.monotonic()
            reply = await asyncio.to_thread(client.register, f"known-{asked_s}")
            assert reply.status == 201
            assert time.monotonic() - asked_s < 5.0
    statuses = await flooding
    assert statuses == {404: count}
    for process_id in process_ids:
        assert resident_bytes(process_id) - before[process_id] < GROWTH_BYTES_MAX


def test_workers_that_keep_ending_end_the_owner(start: Start) -> None:
    server = start(*TWO)
    for kill in range(ENDED_MAX - 1):
        kill_worker(server, kill % 2)
    os.kill(processes(server)[0], signal.SIGKILL)
    assert server.wait() == ExitCode.FAILED
    (line,) = [line for line in server.log.splitlines() if " error " in line]
    assert line.endswith("cannot go on: 5 workers ended within 60 s; the lines above say why")
    assert "Traceback" not in server.log


def test_without_its_private_socket_an_owner_ends_rather_than_refuse_all_changes(
    start: Start, tmp_path: Path
) -> None:
    server = start(*TWO, TMPDIR=str(tmp_path))
    (folder,) = tmp_path.glob("openred-*")
    shutil.rmtree(folder)
    assert server.wait() == ExitCode.FAILED
    assert "leader.sock was removed" in server.log
    assert "Traceback" not in server.log


def test_changes_at_a_worker_that_serves_do_not_wait_for_others_that_load(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "public.sock"
    server = start(*TWO, "--unix-socket", str(path), ready=False)
    until(lambda: len(processes(server)) == 2, "two workers")
    with stopped(processes(server)[1]):
        until(lambda: "worker 0 serves" in server.log, "a worker that serves")
        with Client(path) as client:
            assert client.register("early").status == 201
    server.wait_ready()


# Python runs it at each start: the worker 1 halts before it loads.
HALTS = """
import os, signal, sys
if sys.orig_argv[3:5] == ["worker", "1"]:
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_server_that_is_stopped_while_workers_load_never_says_that_it_is_ready(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HALTS)
    server = start(*TWO, ready=False, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    until(lambda: "worker 0 serves" in server.log, "a worker that serves")
    server.send_signal(signal.SIGTERM)
    assert server.wait() == ExitCode.DONE
    assert " ready: " not in server.log

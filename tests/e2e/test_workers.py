"""Several workers serve one directory: whichever a caller meets, it is told the same."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.running import WAIT_S_MAX, Client, Server, Start, answers, proof, until
from tests.support.signing import Node, wait_for_the_next_second
from tests.support.sse import Event, read_events
from tests.support.workers import client_of, found, kill_worker, one_client_each, processes, while_s
from tests.support.world import Reply

TWO = ("--workers", "2")
NODES = 40
# Without the number of its commit, a change is seen elsewhere this soon, also where a process stands still.
SEEN_S_MAX = 10.0
# Answers that tell of time are compared if they were given within so long.
TOGETHER_S_MAX = 1.0
LOAD_S = 5.0
# Two workers may both give the last place at one instant; these connections come one after the other.
PLACES = 40


@contextmanager
def two(server: Server) -> Iterator[tuple[Client, Client]]:
    """Yield a client of each of two workers."""
    with one_client_each(server) as clients:
        first, second = clients.values()
        yield first, second


def operator_of(tmp_path: Path) -> tuple[str, ...]:
    return "--admin-socket", str(tmp_path / "operators")


def scrape(operator: Client) -> dict[str, float]:
    """Return the samples of ``GET /metrics`` by name and labels."""
    _, _, content = operator.fetch("GET", "/metrics")
    lines = (line.rpartition(" ") for line in content.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


@pytest.mark.parametrize("database", ["nodes.db", "memory:"])
def test_a_change_is_seen_at_every_worker(start: Start, database: str) -> None:
    server = start(*TWO, *(("--database", database) if database == "memory:" else ()))
    with two(server) as clients:
        for number in range(NODES):
            here, there = clients[number % 2], clients[1 - number % 2]
            node_id = f"node-{number}"
            changed = here.register(node_id, services=["relay"])
            assert (changed.status, changed.document["durable"]) == (201, database != "memory:")
            # The worker that was asked has it at once, the other one for who says that it must.
            assert here.ask("GET", f"/nodes/{node_id}").status == 200
            seq = changed.headers["OpenRed-Seq"]
            assert found(there, f"/nodes/{node_id}", seq).status == 200
            claim = changed.document["claim"]
            changed = there.register(node_id, port=9, services=["relay"], claim=claim)
            assert changed.status == 200
            shown = found(here, f"/nodes/{node_id}", changed.headers["OpenRed-Seq"])
            assert shown.document["port"] == 9
        gone = clients[0].ask("DELETE", "/nodes/node-0?mode=forget", **proof(claim_of(clients[0], "last")))
        assert gone.status == 403
        clients[0].register("late")
        until(lambda: clients[1].ask("GET", "/nodes/late").status == 200, "the change", SEEN_S_MAX)
        for client in clients:
            assert client.ask("GET", "/discover?services=relay").document["total_found"] == NODES


def claim_of(client: Client, node_id: str) -> str:
    claim: str = client.register(node_id).document["claim"]
    return claim


def test_workers_show_the_same(start: Start) -> None:
    server = start(*TWO, "--forecast-public", "all", "--flush-interval-s", "0.2")
    with two(server) as clients:
        for number in range(NODES):
            clients[number % 2].register(f"node-{number}", services=["relay"], region="eu")
            clients[number % 3 % 2].ask("POST", f"/heartbeat/node-{number}")
        last = clients[0].register("last").headers["OpenRed-Seq"]
        targets = [f"/nodes/node-{number}" for number in range(NODES)]

        def heard(client: Client) -> list[str]:
            return [found(client, target, last).document["last_seen"] for target in targets]

        until(lambda: heard(clients[0]) == heard(clients[1]), "each worker to tell what it heard")
        for target in (*targets, "/nodes/no-node", "/discover?services=relay&limit=100"):
            first, second = together(clients, target, last)
            assert first.status == second.status
            documents = [inner_sorted(each.document) for each in (first, second)]
            assert alike(*documents), documents
            if first.status == 200 and "registered_at" in first.document:
                for exact in ("registered_at", "last_seen", "revision", "availability"):
                    assert first.document[exact] == second.document[exact]
        one, other = (found(client, "/analytics", last).document for client in clients)
        assert one["days"] == other["days"] > 0
        assert one["counted_at"] == other["counted_at"] is not None


def together(clients: tuple[Client, Client], target: str, seq: str) -> tuple[Reply, Reply]:
    """Return the answers of both workers to one question, given within a second."""

    def answer() -> tuple[Reply, Reply] | None:
        began_s = time.monotonic()
        replies = found(clients[0], target, seq), found(clients[1], target, seq)
        return replies if time.monotonic() - began_s < TOGETHER_S_MAX else None

    replies: tuple[Reply, Reply] = until(answer, "two answers within a second")
    return replies


def inner_sorted(document: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a discovery, which draws its nodes by chance, in one order."""
    nodes = sorted(document.get("nodes", ()), key=itemgetter("node_id"))
    return {**document, "nodes": nodes}


def alike(one: Any, other: Any) -> bool:
    """Return whether two answers say the same, but for the moments at which they were made."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            name in ("request_id", "why") or alike(one[name], other[name]) for name in one
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return isinstance(other, int | float) and abs(one - other) < 1.5
    if isinstance(one, str) and _MOMENT.fullmatch(one):
        return abs(datetime.fromisoformat(one) - datetime.fromisoformat(other)) < timedelta(seconds=1.5)
    return bool(one == other)


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")


def test_signs_of_life_count_wherever_they_are_heard(start: Start) -> None:
    server = start(*TWO, "--flush-interval-s", "0.2")
    with two(server) as clients:
        for number in range(NODES):
            clients[0].register(f"node-{number}")
        registered = [last_seen(clients[0], number) for number in range(NODES)]
        time.sleep(1.1)
        for number in range(NODES):
            assert clients[number % 2].ask("POST", f"/heartbeat/node-{number}").status == 200
        heard = [last_seen(clients[number % 2], number) for number in range(NODES)]
        assert all(now > before for now, before in zip(heard, registered, strict=True))

        def seen_elsewhere() -> bool:
            return [last_seen(clients[1 - number % 2], number) for number in range(NODES)] == heard

        until(seen_elsewhere, "signs of life to reach the other worker", 5.0)
    server.stop()
    with Client(start().address) as client:
        assert [last_seen(client, number) for number in range(NODES)] == heard


def last_seen(client: Client, number: int) -> str:
    seen: str = client.ask("GET", f"/nodes/node-{number}").document["last_seen"]
    return seen


# Endpoints of each kind, with errors of each layer.
ASKED: tuple[tuple[str, str, Any], ...] = (
    *(("GET", "/", None), ("GET", "/health", None), ("GET", "/health/live", None), ("GET", "/stats", None)),
    *(("GET", "/nowhere", None), ("PUT", "/register", None), ("PATCH", "/nodes/alice", None)),
    *(("OPTIONS", "/register", None), ("POST", "/register", b"{"), ("POST", "/register", {"node_id": "a b"})),
    *(("POST", "/heartbeat/nobody", None), ("POST", "/heartbeat/alice", None), ("GET", "/nodes/alice", None)),
    ("POST", "/heartbeat/alice", {"port": 9}),
    *(("HEAD", "/nodes/alice", None), ("HEAD", "/security/keys", None), ("GET", "/security/keys", None)),
    ("POST", "/register", {"node_id": "alice", "address": "192.0.2.1", "port": 1, "public_key": "another"}),
    *(
        ("POST", "/lookup", {"node_ids": ["alice"]}),
        ("GET", "/discover?limit=x", None),
        ("GET", "/discover", None),
    ),
    *(("POST", "/security/token", {}), ("POST", "/security/verify", {"token": "x"})),
    *(("DELETE", "/nodes/alice", None), ("GET", "/openapi.json", None), ("GET", "/nodes/nobody", None)),
)


def told(client: Client) -> list[Any]:
    """Return the answers to all of these requests, without what differs from one moment to the next."""
    client.register("alice")
    until(lambda: client.ask("GET", "/security/keys").status == 200, "the keys of a first start")
    replies = []
    for method, target, body in ASKED:
        content = body if isinstance(body, bytes | None) else orjson.dumps(body)
        fields = {} if content is None else {"Content-Type": "application/json"}
        status, headers, received = client.fetch(method, target, content, **fields)
        seq = headers.pop("OpenRed-Seq", None)
        assert seq is None or method in ("POST", "DELETE", "PUT")
        document = orjson.loads(received) if "json" in headers.get("Content-Type", "") and received else None
        replies.append((method, target, status, sorted(headers), shape(document), seq is not None))
    return replies


def shape(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items() if name not in ("days", "counts")}
    if isinstance(document, list):
        return [shape(value) for value in document[:1]]
    return type(document).__name__ if isinstance(document, int | float) else document is None


def test_answers_are_those_of_one_process(start: Start) -> None:
    one, several = start(database="one.db"), start(*TWO, database="two.db")
    with Client(one.address) as client:
        expected = told(client)
    assert not any(reply[-1] for reply in expected), "one process numbers no answers"
    with Client(several.address) as client:
        for reply, wanted in zip(told(client), expected, strict=True):
            assert reply[:-1] == wanted[:-1]


OF_WORKERS = re.compile(
    r"^openred_central\.cluster\b|\.(crew|worker|places|frames?|leading|following|merging|handing_on)$"
)
# Tells at its end which modules it had.
TELLS_MODULES = """
import atexit, sys
from openred_central.early import begin
begin(sys.argv[1:])
from openred_central.cli.main import main
code = main()
print("modules:", *sorted(name for name in sys.modules if name.startswith("openred_central")))
sys.exit(code)
"""


def test_one_process_imports_nothing_of_workers(start: Start) -> None:
    server = start(command=(sys.executable, "-c", TELLS_MODULES))
    with Client(server.address) as client:
        assert client.register("alice").status == 201
    server.stop()
    (modules,) = re.findall(r"^modules: (.*)$", server.log, re.MULTILINE)
    assert "openred_central.server.server" in modules.split()
    assert not [name for name in modules.split() if OF_WORKERS.search(name)]


def test_operators_act_on_what_every_worker_shows(start: Start, tmp_path: Path) -> None:
    server = start(*TWO, *operator_of(tmp_path))
    with two(server) as clients, Client(tmp_path / "operators") as operator:
        for node_id in ("held", "purged"):
            clients[0].register(node_id)
        assert operator.ask("POST", "/admin/nodes/held/hold").status == 200
        assert operator.ask("POST", "/admin/nodes/purged/purge").status == 200
        for client in clients:
            until(
                lambda asked=client: asked.ask("GET", "/nodes/purged").status != 200, "the purge", SEEN_S_MAX
            )
            until(lambda asked=client: "hold" in str(deadlines(asked, "held")), "the hold", SEEN_S_MAX)
        assert operator.ask("POST", "/admin/nodes/held/release").status == 200
        for client in clients:
            until(lambda asked=client: "hold" not in str(deadlines(asked, "held")), "its end", SEEN_S_MAX)


def deadlines(client: Client, node_id: str) -> Any:
    return client.ask("GET", f"/nodes/{node_id}").document


def test_signed_requests_count_once_whichever_workers_they_meet(start: Start) -> None:
    server = start(*TWO)
    wait_for_the_next_second()
    with contextlib.closing(Node(server, "alice")) as node, two(server) as clients:
        session = node.register().document["session"]
        headers = node.headers("POST", node.beat)
        replies = [client.ask("POST", node.beat, **headers).status for client in clients]
        assert replies == [200, 401]
        # A session is good everywhere.
        for client in clients:
            assert client.ask("POST", node.beat, Authorization=f"OpenRed {session}").status == 200


def test_a_signature_is_for_one_method_at_workers_too(start: Start) -> None:
    server = start(*TWO)
    wait_for_the_next_second()
    with contextlib.closing(Node(server, "alice")) as node:
        assert node.register(discoverable=False).status == 201
        assert node.client.ask("HEAD", node.path, **node.headers("GET", node.path)).status == 404
        shown = node.client.ask("HEAD", node.path, **node.headers("HEAD", node.path))
        assert (shown.status, shown.document) == (200, None)
        assert int(shown.headers["Content-Length"]) > 100
        assert node.client.ask("GET", node.path, **node.headers("GET", node.path)).status == 200


def test_the_cap_of_an_address_holds_for_all_workers_together(start: Start) -> None:
    server = start(*TWO, "--connections-per-address-max", str(PLACES), "--rate-limit-exempt", "")
    with ExitStack() as stack:

        def connect() -> tuple[socket.socket, int]:
            connection = stack.enter_context(socket.create_connection(server.address, timeout=WAIT_S_MAX))
            # A connection that is refused is told so unasked.
            with contextlib.suppress(OSError):
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            received = b""
            with contextlib.suppress(ConnectionResetError):
                received = connection.recv(65_536)
            return connection, next(answers(received)).status

        connected = [connect() for _ in range(200)]
        assert [status for _, status in connected] == [200] * PLACES + [503] * (200 - PLACES)
        connected[0][0].close()
        until(lambda: connect()[1] == 200, "the place to be free")
        assert connect()[1] == 503
        # A worker that is killed gives its places back.
        kill_worker(server, 0)
        stack.close()
        until(lambda: [connect()[1] for _ in range(PLACES)] == [200] * PLACES or stack.close(), "all places")
        assert connect()[1] == 503


def test_figures_are_those_of_all_workers_and_never_fall(start: Start, tmp_path: Path) -> None:
    server = start(*TWO, *operator_of(tmp_path))
    with Client(tmp_path / "operators") as operator:
        assert scrape(operator)["openred_workers"] == 2
        with two(server) as clients:
            for number in range(NODES):
                clients[0].register(f"node-{number}")
                for client in clients:
                    assert client.ask("POST", f"/heartbeat/node-{number}").status == 200
            wanted = 3 * NODES

            def requests() -> int:
                counts = {asked.ask("GET", "/stats").document["performance"]["requests"] for asked in clients}
                return min(counts)

            until(lambda: requests() >= wanted, "the figures of both workers", 5.0)
            before = scrape(operator)
        counters = {name for name in before if re.match(r"\w+(_total|_count|_bucket)\b", name)}
        assert any(name.startswith("openred_http") for name in counters), sorted(counters)
        for number in (0, 1):
            kill_worker(server, number)
            for _ in range(10):
                after = scrape(operator)
                fallen = {
                    name: (before[name], after.get(name))
                    for name in counters
                    if after.get(name, -1) < before[name]
                }
                assert not fallen
                before = {**before, **{name: after[name] for name in counters}}
                time.sleep(0.15)
        assert after["openred_worker_restarts_total"] == 2


class Stream:
    """A stream of events at one worker, read until it is closed."""

    def __init__(
        self,
        server: Server,
        process_id: int,
        stack: ExitStack,
        last_id: str = "",
        target: str = "/events",
    ) -> None:
        client = stack.enter_context(client_of(process_id, server))
        fields = {"Last-Event-ID": last_id} if last_id else {}
        self._file = client.stream(target, **fields)
        self._content = b""

    def until(self, name: str, count: int) -> list[Event]:
        """Return the events of this name when so many have come."""
        ends_s = time.monotonic() + WAIT_S_MAX
        while len(found := self.named(name)) < count:
            assert time.monotonic() < ends_s, self._content
            piece = self._file.read1(65_536)
            assert piece, self._content
            self._content += piece
        return found

    @property
    def last_id(self) -> str:
        """The last id that came, with or without an event."""
        return str(re.findall(rb"^id: (.*)$", self._content, re.MULTILINE)[-1], "ascii")

    def named(self, name: str) -> list[Event]:
        """Return the events of this name so far."""
        whole = self._content.rpartition(b"\n\n")[0]
        return [each for each in read_events(whole + b"\n\n")[0] if each.name == name] if whole else []


def test_events_are_the_same_everywhere_and_go_on_at_any_worker(start: Start) -> None:
    server = start(*TWO)
    with ExitStack() as stack:
        first, second = (Stream(server, pid, stack) for pid in processes(server).values())
        for stream in (first, second):
            stream.until("figures", 1)
        with Client(server.address) as client:
            for number in range(5):
                client.register(f"node-{number}")
            seen = [stream.until("transition", 5) for stream in (first, second)]
            here, there = ([(each.document["node_id"], each.last_id) for each in events] for events in seen)
            assert here == there
            last_id = first.until("figures", len(first.named("figures")) + 1)[-1].last_id
            assert last_id == second.until("figures", len(second.named("figures")) + 1)[-1].last_id
            for number in (5, 6):
                client.register(f"node-{number}")
            # A subscriber goes on at another worker, and at one that has just come.
            for is_new in (False, True):
                process_id = kill_worker(server, 1) if is_new else processes(server)[1]
                again = Stream(server, process_id, stack, last_id).until("transition", 2)
                assert [each.document["node_id"] for each in again] == ["node-5", "node-6"]


def test_a_watched_node_is_told_of_at_every_worker_and_a_stream_goes_on_at_any(start: Start) -> None:
    server = start(*TWO)
    with ExitStack() as stack:
        first, second = processes(server).values()
        here, there = (stack.enter_context(client_of(pid, server)) for pid in (first, second))
        changed = here.register("node-1")
        claim, seq = changed.document["claim"], changed.headers["OpenRed-Seq"]
        tags = {found(each, "/nodes/node-1", seq).headers["ETag"] for each in (here, there)}
        (tag,) = tags
        streams = [Stream(server, pid, stack, target="/events?nodes=node-1") for pid in (first, second)]
        for stream in streams:
            stream.until("node", 1)
        with ThreadPoolExecutor(1) as pool:
            fields = {"If-None-Match": tag, "Prefer": "wait=60"}
            waiting = pool.submit(there.ask, "GET", "/nodes/node-1", **fields)
            here.register("node-1", claim=claim, address="192.0.2.9")
            assert (waiting.result().status, waiting.result().document["address"]) == (200, "192.0.2.9")
        for stream in streams:
            assert stream.until("node", 2)[1].document["what"] == ["moved"]
        seq = here.register("node-1", claim=claim, address="192.0.2.10").headers["OpenRed-Seq"]
        assert found(there, "/nodes/node-1", seq).status == 200
        again = Stream(server, second, stack, streams[0].last_id, "/events?nodes=node-1").until("node", 1)[0]
        assert (again.document["what"], again.document["node"]["address"]) == (["now"], "192.0.2.10")


def test_the_dashboard_counts_the_heartbeats_of_all_workers(start: Start) -> None:
    server = start(*TWO)
    with ExitStack() as stack:
        clients = stack.enter_context(two(server))
        streams = [Stream(server, pid, stack) for pid in processes(server).values()]
        for client in clients:
            client.register(f"node-{client.port}")
        began = [stream.until("figures", 1)[-1].document for stream in streams]
        assert began[0].keys() == began[1].keys()
        sent = 0
        for _ in while_s(LOAD_S):
            for client in clients:
                assert client.ask("POST", f"/heartbeat/node-{clients[0].port}").status == 200
            sent += len(clients)
        # The rates over their times add up to all heartbeats, as each worker heard half of them.
        for stream in streams:
            until(lambda told=stream: heartbeats(told) > 0.75 * sent, "figures of most heartbeats")
            assert max(heartbeats(stream), heartbeats(stream)) < 1.25 * sent


def heartbeats(stream: Stream) -> float:
    """Read one more event of figures; return how many heartbeats all of them tell of."""
    figures = stream.until("figures", len(stream.named("figures")) + 1)
    return sum(
        (now["heartbeats_per_s"] or 0) * (now["uptime_s"] - before["uptime_s"])
        for before, now in pairwise(each.document for each in figures)
    )


REGISTRATION = {"node_id": "alice", "address": "192.0.2.1", "port": 1, "public_key": "key"}


def test_the_log_has_the_client_and_nobody_can_forge_it(start: Start) -> None:
    said = {
        "X_Forwarded_For": "192.0.2.9, 198.51.100.7",
        "Forwarded": "for=192.0.2.9",
        "X_Real_IP": "192.0.2.9",
    }
    seen = []
    for flags in (("--trusted-proxies", "127.0.0.1/32"), ()):
        server = start(*TWO, "--access-log", "1", *flags, OPENRED_LOG="json", database=f"{len(flags)}.db")
        with Client(server.address) as client:
            # One is answered by the worker, one by the owner, which takes the address of the caller from it.
            assert client.ask("GET", "/discover", **said).status == 200
            registered = client.ask("POST", "/register", REGISTRATION, **said)
            assert registered.status == 201
            shown = registered.document["observed_address"]
        server.stop()
        lines = [orjson.loads(line) for line in server.log.splitlines()]
        told = {(line["peer"], line["client"]) for line in lines if line["part"] == "openred.access"}
        seen.append((shown, sorted(told)))
    assert seen == [
        ("198.51.100.7", [("127.0.0.1", "198.51.100.7")]),
        ("127.0.0.1", [("127.0.0.1", "127.0.0.1")]),
    ]


def test_ctrl_c_reaches_all_processes_and_ends_them_well(start: Start) -> None:
    server = start(*TWO, command=AT_A_TERMINAL)
    workers = list(processes(server).values())
    with Client(server.address) as client:
        assert client.register("alice").status == 201
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.wait() == 0
    assert "Traceback" not in server.log
    assert not re.search(" (error|warning) .*worker", server.log)
    assert not any(Path(f"/proc/{process_id}").exists() for process_id in workers)


# Becomes the first of a group of processes, as at a terminal, and then the server.
_GROUP = "import os, sys; os.setpgid(0, 0); os.execv(sys.executable, sys.argv[1:])"
AT_A_TERMINAL = (sys.executable, "-c", _GROUP, sys.executable, "-m", "openred_central")


def test_a_revival_is_seen_at_once(start: Start) -> None:
    server = start(*TWO, "--heartbeat-tolerance-s", "1", "--tick-s", "0.1", "--flush-interval-s", "1")
    with two(server) as (here, there):
        here.register("sleeper")
        for number, client in enumerate((here, there)):
            until(partial(is_late_after, client, number), "the node to be late")
            revived = client.ask("POST", "/heartbeat/sleeper")
            assert revived.document["current_state"] == "active"
            # By now it may be late again.
            assert revivals(client.ask("GET", "/nodes/sleeper").document) == number + 1


def is_late_after(client: Client, number: int) -> bool:
    """Return whether a worker shows the sleeper late, and revived so often before."""
    node = client.ask("GET", "/nodes/sleeper").document
    return node["state"] != "active" and revivals(node) == number


def revivals(node: dict[str, Any]) -> int:
    return [entry["reason"] for entry in node["explain"]["history"]].count("sign_of_life")


def test_connections_that_workers_cut_are_counted(start: Start) -> None:
    server = start(*TWO, "--drain-timeout-s", "0.5")
    with socket.create_connection(server.address, timeout=WAIT_S_MAX) as stuck:
        stuck.sendall(b"GET / HTTP/1.1\r\n")
        with two(server):
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
    assert "1 connections were cut" in server.log


def test_ctrl_c_while_workers_start_ends_them_at_once(start: Start) -> None:
    server = start(*TWO, ready=False, command=AT_A_TERMINAL)
    until(lambda: len(processes(server)) == 2, "the workers to start")
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.wait() == 0
    assert not re.search(" (error|warning) .*worker|Traceback", server.log), server.log

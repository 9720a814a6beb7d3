"""Operators at a real server: who is heard where, and what is for nobody else."""

from __future__ import annotations

import re
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from openred_central.api.admin.routes import ADMIN_ENDPOINTS, METRICS
from openred_central.server.operators import CONNECTIONS_MAX
from tests.support.running import WAIT_S_MAX, Client, Server, Start, environment, until

PATHS = [(one.method, re.sub(r"\{\w+\}", "node-1", one.path)) for one in (*ADMIN_ENDPOINTS, METRICS)]


def heard_at(server: Server) -> list[str]:
    found = re.search(r"listening for operators on (.+)", server.log)
    assert found is not None, server.log
    return found[1].split(", ")


def tcp(server: Server) -> tuple[str, int]:
    host, _, port = heard_at(server)[0].rpartition(":")
    return host, int(port)


def scrape(address: tuple[str, int], **headers: str) -> dict[str, Any]:
    """Return the families of ``GET /metrics`` by name."""
    with Client(address) as client:
        status, fields, body = client.fetch("GET", "/metrics", **headers)
    assert (status, fields["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert not [name for name in fields if name.startswith("Access-Control")]
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def total(family: Any, **labels: str) -> float:
    return sum(s.value for s in family.samples if labels.items() <= s.labels.items())


def test_operators_need_the_secret(start: Start, tmp_path: Path) -> None:
    server = start("--admin-port", "0")
    secret_file = tmp_path / "nodes.db.admin-secret"
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    secret = {"Authorization": f"Bearer {secret_file.read_text().strip()}"}
    with Client(server.address) as public, Client(tcp(server)) as operator:
        public.register("node-1", discoverable=False)
        assert operator.ask("GET", "/admin/nodes").status == 401
        assert operator.ask("POST", "/admin/nodes/node-1/purge", Authorization="Bearer x").status == 403
        assert operator.ask("POST", "/admin/nodes/node-1/hold", **secret).document["durable"] is True
        (row,) = operator.ask("GET", "/admin/nodes", **secret).document["nodes"]
        assert (row["node_id"], row["held"]) == ("node-1", True)
        assert operator.ask("POST", "/admin/nodes/node-1/release", **secret).status == 200
        assert operator.ask("POST", "/admin/snapshot", **secret).document["nodes"] == 1
        assert len(list((tmp_path / "snapshots").glob("nodes.db-*"))) == 1
        assert operator.ask("POST", "/admin/mass-silence/release", **secret).document["status"] == "not_held"
        assert operator.ask("POST", "/admin/nodes/node-1/purge", **secret).status == 200
        assert operator.ask("GET", "/register", **secret).status == 404
    server.stop()
    lines = [line for line in server.log.splitlines() if "openred.audit" in line]
    assert len(lines) == 8
    assert 'operator at 127.0.0.1: purge node "node-1": 403 forbidden' in lines[1]
    assert 'operator at 127.0.0.1: hold node "node-1": 200' in lines[2]
    assert secret["Authorization"].split()[1] not in server.log


def test_none_of_it_answers_on_the_public_listener(start: Start, tmp_path: Path) -> None:
    server = start("--admin-port", "0")
    secret = (tmp_path / "nodes.db.admin-secret").read_text().strip()
    with Client(server.address) as client:
        client.register("node-1")
        for method, path in PATHS:
            assert client.ask(method, path, Authorization=f"Bearer {secret}").status == 404, path
        assert client.ask("GET", "/nodes/node-1").status == 200


def test_a_unix_socket_needs_no_secret(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = start("--admin-socket", str(path), "--database", "memory:")
    assert heard_at(server) == [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Client(server.address) as public, Client(path) as operator:
        public.register("node-1")
        assert operator.ask("POST", "/admin/nodes/node-1/wake").document["status"] == "woken"
        assert operator.ask("POST", "/admin/snapshot").document["error"] == "nothing_to_copy"
    server.stop()
    assert 'operator at unix socket: wake node "node-1": 200' in server.log


def test_prometheus_reads_the_metrics(start: Start) -> None:
    server = start("--admin-port", "0")
    before = scrape(tcp(server))
    assert total(before["openred_http_requests"]) == 0
    assert total(before["openred_transitions"]) == 0
    with Client(server.address) as client:
        client.register("node-1")
        for _ in range(20):
            client.ask("POST", "/heartbeat/node-1")
        client.ask("GET", "/nothing")
    after = scrape(tcp(server))
    assert total(after["openred_http_requests"]) == 22
    beats = {"route": "/heartbeat/{node_id}", "method": "POST", "status": "2xx"}
    assert total(after["openred_http_responses"], **beats) == 20
    assert total(after["openred_http_responses"], route="none", status="4xx") == 1
    assert total(after["openred_nodes"], state="active") == 1
    assert total(after["openred_transitions"], to="active") == 1
    duration = after["openred_http_request_duration_seconds"]
    counts = {sample.name: sample.value for sample in duration.samples if not sample.labels}
    assert counts["openred_http_request_duration_seconds_count"] == 22
    assert 0 < counts["openred_http_request_duration_seconds_sum"] < WAIT_S_MAX
    assert total(after["openred_store_commit_duration_seconds"], le="+Inf") >= 1
    assert total(after["openred_store_state"], state="ok") == 1
    stalls = until(
        lambda: total(scrape(tcp(server))["openred_loop_stall_seconds"], le="+Inf"), "a look at the loop"
    )
    assert stalls >= 1
    assert set(before) == set(after)


def test_pages_under_a_foreign_host_name_read_nothing(start: Start) -> None:
    server = start("--admin-port", "0", "--admin-names", "admin.example")
    port = tcp(server)[1]
    asked = (f"localhost:{port}", f"admin.example:{port}", "evil.example")
    assert [status(tcp(server), "/metrics", host) for host in asked] == [200, 200, 421]
    assert [status(tcp(server), "/admin/nodes", host) for host in asked] == [401, 401, 421]
    refused = "operator at 127.0.0.1: list nodes: 421 misdirected_request"
    until(lambda: refused in server.log, "the log to tell of the refusal")


def status(address: tuple[str, int], path: str, host: str = "localhost") -> int:
    """Return the status of the answer to a request of a new connection for `host`."""
    with Client(address) as client:
        return client.fetch("GET", path, Host=host)[0]


def test_idle_connections_keep_no_operator_out(start: Start) -> None:
    server = start("--admin-port", "0", "--head-timeout-s", "1h")
    with ExitStack() as kept:
        for _ in range(4):
            # The queue of the system holds no more: others would be accepted only seconds later.
            for _ in range(CONNECTIONS_MAX // 2):
                kept.enter_context(socket.create_connection(tcp(server), timeout=WAIT_S_MAX))
            until(lambda: status(tcp(server), "/metrics") == 200, "an operator to be heard")
        with Client(tcp(server)) as first, Client(tcp(server)) as second:
            for operator in (first, second, first):
                assert operator.ask("GET", "/admin/nodes").status == 401


def test_on_an_open_address_metrics_need_the_secret(start: Start, tmp_path: Path) -> None:
    server = start("--admin-port", "0", "--admin-host", "0.0.0.0")
    address = "127.0.0.1", tcp(server)[1]
    with Client(address) as client:
        assert client.ask("GET", "/metrics").status == 401
    secret = (tmp_path / "nodes.db.admin-secret").read_text().strip()
    assert scrape(address, Authorization=f"Bearer {secret}")


def test_a_taken_port_is_reported_with_advice(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start("--admin-port", str(port), ready=False)
        assert server.wait() == 1
    assert f"cannot listen for operators: cannot listen on 127.0.0.1, port {port}" in server.log
    assert "OPENRED_ADMIN_PORT (0 for any that is free, off for none)" in server.log
    assert "Traceback" not in server.log


def test_a_held_node_is_still_held_after_a_restart(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    life = ("--admin-socket", str(path), "--heartbeat-tolerance-s", "1", "--mass-silence-share", "1")
    server = start(*life)
    with Client(server.address) as public, Client(path) as operator:
        public.register("held")
        public.register("free")
        assert operator.ask("POST", "/admin/nodes/held/hold").document["durable"] is True
    server.kill()
    server = start(*life)

    with Client(server.address) as public:
        until(
            lambda: public.ask("GET", "/nodes/free").document["state"] == "pending_1st",
            "silence to count",
        )
        assert public.ask("GET", "/nodes/held").document["state"] == "active"


def test_keys_are_rotated_and_revoked_from_the_command_line(start: Start, tmp_path: Path) -> None:
    server = start("--admin-port", "0")
    database, port = str(tmp_path / "nodes.db"), str(tcp(server)[1])

    def keys(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "openred_central", "keys", *arguments, "--database", database]
        done = subprocess.run(
            [*command, "--admin-port", port], capture_output=True, text=True, env=environment(), check=False
        )
        return done.returncode, done.stdout + done.stderr

    with Client(server.address) as client:
        until(lambda: client.ask("GET", "/security/keys").status == 200, "the first key set")
        first = client.ask("GET", "/security/keys").document
        code, told = keys("rotate")
        assert (code, "Another key signs" in told) == (0, True), told
        _, listed = keys("show")
        assert " next from " in listed, "it is published before it signs"
        assert client.ask("GET", "/security/keys").document["root"] == first["root"]
        (active,) = [line.split()[0] for line in listed.splitlines() if " active " in line]
        code, told = keys("revoke", active)
        assert code == 0, told
        assert f"{active} revoked" in keys("show")[1]
        code, told = keys("revoke", "x" * 43)
        assert (code, "The directory has no key" in told) == (1, True), told
    server.stop()
    assert "rotate keys" in server.log

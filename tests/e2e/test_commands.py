"""The commands of node authors, and the signer in plain shell, against a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from openred_central.exit_codes import ExitCode
from openred_central.security.signing import PrivateKey
from tests.support.parts import needs_program
from tests.support.running import WAIT_S_MAX, Client, Server, Start, environment, until


def run(folder: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openred_central", *words],
        cwd=folder,
        env=environment(OPENRED_URL=url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def url_of(server: Server) -> str:
    host, port = server.address
    return f"http://{host}:{port}"


def test_a_refusal_is_reported_in_lines_and_exit_code(start: Start, tmp_path: Path) -> None:
    url = url_of(start())
    refused = run(tmp_path, url, "heartbeat", "--node-id", "nobody")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("openred-central: node_not_found: ")


def test_two_nodes_find_each_other_from_the_command_line(start: Start, tmp_path: Path) -> None:
    server = start()
    url = url_of(server)

    def done(*words: str) -> str:
        finished = run(tmp_path, url, *words)
        assert (finished.returncode, finished.stderr) == (0, "")
        return finished.stdout

    made = orjson.loads(done("keygen", "alice.pem", "--json"))
    assert "key id\t" in done("keygen", "bob.pem", "--kind", "rsa")
    done("register", "192.0.2.1", "7000", "--key", "alice.pem", "--services", "storage")
    done(
        "register", "192.0.2.2", "7001", "--key", "bob.pem", "--node-id", "bob", "--services", "storage,relay"
    )
    heading, row = done("discover", "relay").splitlines()
    assert heading.startswith("node\tstate\t")
    assert row.startswith("bob\tactive\t")
    assert orjson.loads(done("discover", "storage", "--json"))["total_found"] == 2
    assert f"node\t{made['node_id']}" in done("node", "--key", "alice.pem")
    assert "before\tactive" in done("heartbeat", "--key", "alice.pem", "--metadata", '{"load": 1}')
    assert 'metadata\t{"load":1}' in done("node", made["node_id"])
    assert "status\tleft" in done("leave", "--key", "alice.pem")
    assert "before\tcoma" in done("heartbeat", "--key", "alice.pem")
    assert "status\tforgotten" in done("leave", "--key", "bob.pem", "--node-id", "bob", "--forget")
    assert "directory.nodes\t1" in done("stats").splitlines()
    server.stop()
    unreached = run(tmp_path, url, "stats")
    assert unreached.returncode == ExitCode.UNREACHED
    assert unreached.stderr == f"openred-central: connection refused: is the server running on {url}?\n"


def test_a_claim_changes_and_removes_a_node_without_a_key(start: Start, tmp_path: Path) -> None:
    server = start()
    url = url_of(server)
    with Client(server.address) as client:
        claim = str(client.register("alice").document["claim"])
    words = ("--node-id", "alice", "--claim", claim)
    assert "state\tactive" in run(tmp_path, url, "heartbeat", *words, "--port", "9001").stdout
    assert "port\t9001" in run(tmp_path, url, "node", *words).stdout
    refused = run(tmp_path, url, "leave", "--node-id", "alice", "--claim", claim[:-1] + "_")
    assert refused.returncode == 1
    assert "status\tforgotten" in run(tmp_path, url, "leave", *words, "--forget").stdout


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_node_can_be_a_shell_script(start: Start, tmp_path: Path, kind: str) -> None:
    needs_program("openssl")
    needs_program("curl")
    url = url_of(start())
    key = PrivateKey.generate_rsa() if kind == "rsa" else PrivateKey.generate_ed25519()
    (tmp_path / "node.pem").write_bytes(key.to_pem())
    # OPENRED_URL names the directory.
    printed = run(tmp_path, url, "example", "sign", "--node-id", "alice")
    (tmp_path / "sign.sh").write_text(printed.stdout)

    def signed(*words: str) -> dict[str, object]:
        done = subprocess.run(
            ["sh", "sign.sh", *words],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            timeout=60,
            check=True,
        )
        document = orjson.loads(done.stdout)
        assert isinstance(document, dict)
        return document

    node = {"node_id": "alice", "address": "192.0.2.1", "port": 7, "public_key": key.public_text}
    registration = orjson.dumps(node).decode()

    def register() -> dict[str, object] | None:
        answer = signed("POST", "/register", registration)
        return None if answer.get("reason") == "signature_expired" else answer

    registered = until(register, "the second in which the server started to pass")
    assert (registered["status"], registered["identity"]) == ("registered", "proven")
    assert signed("POST", "/heartbeat/alice")["current_state"] == "active"
    assert signed("DELETE", "/nodes/alice", '{"mode":"forget"}')["status"] == "forgotten"


def test_watch_shows_events(start: Start) -> None:
    server = start()
    url = "http://{}:{}".format(*server.address)
    watching = subprocess.Popen(
        [sys.executable, "-m", "openred_central", "watch", "--url", url, "--recent", "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
    )
    try:
        with Client(server.address) as client:
            assert client.register("node-1").status == 201
        assert watching.stdout is not None
        line = watching.stdout.readline().decode()
        assert "node-1  absent → active  (registered)" in line
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(WAIT_S_MAX) == 130
        if watching.stdout is not None:
            watching.stdout.close()

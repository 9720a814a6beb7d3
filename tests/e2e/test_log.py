"""The log of a real server: a line for each event, none forged, nothing secret in any."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from openred_central.exit_codes import ExitCode
from tests.support.running import READY, Client, Server, Start, answers, send, until
from tests.support.signing import Node, wait_for_the_next_second


def lines(server: Server) -> list[dict[str, Any]]:
    """Its log, each line of which has to be a JSON object."""
    return [orjson.loads(line) for line in server.log.splitlines()]


def requests(server: Server) -> list[dict[str, Any]]:
    return [line for line in lines(server) if line["part"] == "openred.access"]


def test_every_line_of_a_json_log_is_json(start: Start) -> None:
    server = start("--access-log", "1", OPENRED_LOG="json")
    with Client(server.address) as client:
        claim = client.register("alice").document["claim"]
        client.register("alice", claim=claim, port=9_000)
        client.ask("DELETE", f"/nodes/alice?claim={claim}", Authorization=f"Claim {claim}")
        client.ask("GET", "/nodes/%0d%0aforged", User_Agent="agent \x9b31m", X_Request_Id="trace-1")
        client.ask("GET", "/stats", Cookie=claim)
    # Not even a request.
    (refused,) = answers(send(server.address, b"GET /\x1b[2J\n{} HTTP/1.1\r\n\r\n"))
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert claim not in server.log
    assert "key of alice" not in server.log
    told = requests(server)
    assert [(line["method"], line["path"], line["status"]) for line in told] == [
        ("POST", "/register", 201),
        ("POST", "/register", 200),
        ("DELETE", "/nodes/alice", 200),
        ("GET", "/nodes/%0d%0aforged", 404),
        ("GET", "/stats", 200),
        ("", "", 400),
    ]
    assert told[3]["request_id"] == "trace-1"
    assert told[3]["user_agent"] == "agent \\x9b31m"
    assert told[5]["request_id"] == refused.fields["x-request-id"]
    assert all(line["peer"] == "127.0.0.1" and line["duration_ms"] >= 0 for line in told)
    messages = [line["message"] for line in lines(server)]
    assert messages[0].startswith("ready: ")
    assert messages[-1].startswith("stopped: ")


def test_the_log_holds_no_secrets(start: Start, tmp_path: Path) -> None:
    passphrase = "correct horse battery staple"
    (tmp_path / "secret").write_text(passphrase)
    (tmp_path / "secret").chmod(0o600)
    flags = ("--log-level", "debug", "--access-log", "1", "--key-secret-file", str(tmp_path / "secret"))
    server = start(*flags, OPENRED_LOG="json")
    wait_for_the_next_second()
    alice, bob = Node(server, "alice"), Node(server, "bob")
    secrets = [alice.register().document["session"], bob.register().document["session"]]
    until(lambda: alice.client.ask("GET", "/security/keys").status == 200, "the keys of a first start")
    secrets.append(alice.client.register("carol").document["claim"])
    pair = alice.ask("POST", "/security/token", {"node_id": "alice", "peer_id": "bob"}).document
    secrets += [pair["token"], pair["peer_token"], pair["token_id"], pair["mathematical_link"]]
    # Also what is refused.
    headers = alice.headers("POST", bob.beat)
    secrets += [headers["Signature"][6:-1], re.findall('nonce="([^"]+)"', headers["Signature_Input"])[0]]
    assert alice.client.ask("POST", bob.beat, **headers).status == 401
    for secret in tuple(secrets):
        for scheme in ("OpenRed", "Claim", "Bearer"):
            alice.client.ask("POST", bob.beat, Authorization=f"{scheme} {secret}")
        alice.client.ask("GET", f"{alice.path}?secret={quote(secret)}", Cookie=secret)
        alice.client.ask("POST", "/security/verify", {"token_a": secret, "token_b": secret})
        alice.client.ask("POST", "/security/revoke", {"node_id": "alice", "token": secret})
    secrets.append(passphrase)
    for node in (alice, bob):
        node.close()
    server.stop()
    assert len(requests(server)) >= 60
    assert [secret for secret in secrets if secret in server.log] == []
    assert "PRIVATE KEY" not in server.log


def test_a_start_that_fails_is_a_line_of_json_too(start: Start) -> None:
    server = start("--database", "postgres://x", "--log", "json", ready=False)
    assert server.wait() == ExitCode.CONFIG
    (line,) = lines(server)
    assert (line["level"], line["message"][:12]) == ("error", "cannot start")


def test_requests_are_logged_only_where_that_is_wanted(start: Start) -> None:
    server = start()
    with Client(server.address) as client:
        client.register("alice")
    server.stop()
    assert "/register" not in server.log
    assert "\x1b" not in server.log


def test_behind_a_proxy_the_access_log_holds_the_client(start: Start) -> None:
    proxy = {"X_Forwarded_For": "192.0.2.9, 198.51.100.7"}
    told = []
    for flags in (("--trusted-proxies", "127.0.0.1/32"), ()):
        server = start("--access-log", "1", *flags, OPENRED_LOG="json", database=f"{len(flags)}.db")
        with Client(server.address) as client:
            assert client.ask("GET", "/stats", **proxy).status == 200
        server.stop()
        (line,) = requests(server)
        told.append((line["peer"], line["client"]))
    # Nobody else is believed.
    assert told == [("127.0.0.1", "198.51.100.7"), ("127.0.0.1", "127.0.0.1")]


# A program that writes its errors to the descriptor named first, in the place of this one.
ERRORS_TO = "import os, sys; os.dup2(int(sys.argv[1]), 2); os.execv(sys.argv[2], sys.argv[2:])"


def test_an_unread_log_blocks_neither_requests_nor_the_stop(start: Start) -> None:
    reading, writing = os.pipe()
    command = (sys.executable, "-c", ERRORS_TO, str(writing), sys.executable, "-m", "openred_central")
    server = start("--access-log", "1", ready=False, command=command, pass_fds=(writing,))
    os.close(writing)
    with open(reading, encoding="utf-8") as log:
        ready = next(found for line in log if (found := READY.search(line)))
        host, _, port = ready[1].rpartition(":")
        with Client((host, int(port))) as client:
            # Several times what a pipe holds.
            for number in range(1_000):
                path = f"/nodes/{number:04}" + "x" * 200
                assert client.ask("GET", path, User_Agent="y" * 200).status == 404
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        # Whole lines in their order, as many as the pipe has taken.
        numbers = re.findall(r"path=/nodes/(\d{4})x+ .*? request_id=\w+$", log.read(), re.MULTILINE)
    assert list(map(int, numbers)) == list(range(len(numbers)))
    assert len(numbers) > 50

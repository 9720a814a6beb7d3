"""Blocked stays out, whatever becomes of the server."""

from __future__ import annotations

from pathlib import Path

from tests.support.running import Client, Server, Start, run, until
from tests.support.workers import one_client_each

REASON = "sends spam"
NETWORK = "198.51.100.0/24"


def command(folder: Path, *words: str) -> str:
    """Return what a command prints that reaches the server at the socket in `folder`."""
    done = run(*words, "--admin-socket", str(folder / "operators"))
    assert done.returncode == 0, done.stderr
    return done.stdout


def begin(start: Start, folder: Path, *flags: str, **options: str) -> Server:
    return start("--admin-port", "off", "--admin-socket", str(folder / "operators"), *flags, **options)


def assert_out(client: Client) -> None:
    """Fail unless what `test_blocks_stay…` blocked is refused and hidden."""
    assert client.ask("POST", "/heartbeat/alice").document["error"] == "blocked"
    again = client.register("alice", services=["chat"])
    assert (again.status, again.document["error"]) == (403, "blocked")
    assert again.document["detail"].endswith(f": {REASON}.")
    assert client.register("carol", address="198.51.100.7").document["error"] == "blocked"
    found = client.ask("GET", "/discover?services=chat").document
    assert [node["node_id"] for node in found["nodes"]] == ["bob"]
    assert client.ask("GET", "/nodes/alice").status == 404
    assert client.ask("POST", "/heartbeat/bob").status == 200


def test_blocks_stay_over_kill_export_import_and_restore(start: Start, tmp_path: Path) -> None:
    server = begin(start, tmp_path)
    with Client(server.address) as client:
        for node_id in ("alice", "bob"):
            assert client.register(node_id, services=["chat"]).status == 201
        said = command(tmp_path, "block", "--id", "alice", "--reason", REASON)
        assert said == "id alice (1 nodes) is blocked for ever\n"
        command(tmp_path, "block", "--network", NETWORK, "--for", "30d")
        assert_out(client)
    server.kill()
    server = begin(start, tmp_path)
    with Client(server.address) as client:
        assert_out(client)
    database = str(tmp_path / "nodes.db")
    assert run("export", str(tmp_path / "out.jsonl"), "--database", database).returncode == 0
    assert run("snapshot", "--database", database).returncode == 0
    server.stop()
    assert run("verify", "--all", "--database", database).returncode == 0
    imported = run("import", str(tmp_path / "out.jsonl"), "--database", str(tmp_path / "copy.db"))
    assert imported.returncode == 0, imported.stderr
    server = begin(start, tmp_path, database="copy.db")
    with Client(server.address) as client:
        assert_out(client)
    server.stop()
    # A damaged database: the server takes the snapshot in its place.
    with Path(database).open("r+b") as file:
        file.write(bytes(4_096))
    server = begin(start, tmp_path)
    assert "damaged" in server.log
    with Client(server.address) as client:
        assert_out(client)
        listed = command(tmp_path, "blocks").splitlines()
        assert [line.split("\t")[:2] for line in listed[1:]] == [["id", "alice"], ["network", NETWORK]]
        assert command(tmp_path, "unblock", "--id", "alice").startswith("id alice (1 nodes) is not blocked")
        assert client.ask("POST", "/heartbeat/alice").status == 200
    server.stop()


def test_blocks_hold_at_every_worker(start: Start, tmp_path: Path) -> None:
    server = begin(start, tmp_path, "--workers", "2")
    with one_client_each(server) as clients:
        first, second = clients.values()
        for node_id in ("alice", "bob"):
            assert first.register(node_id, services=["chat"]).status == 201
        for client in (first, second):
            until(lambda client=client: client.ask("POST", "/heartbeat/alice").status == 200, "alice")
            # The fast path has what it needs.
            for _ in range(3):
                assert client.ask("POST", "/heartbeat/alice").status == 200
        command(tmp_path, "block", "--id", "alice", "--reason", REASON)
        command(tmp_path, "block", "--network", NETWORK)
        for client in (first, second):
            until(lambda client=client: client.ask("POST", "/heartbeat/alice").status == 403, "the block")
            assert_out(client)
        command(tmp_path, "block", "--network", "127.0.0.1", "--reason", REASON)
        for client in (first, second):
            until(lambda client=client: client.ask("POST", "/heartbeat/bob").status == 403, "the network")
            for method, target in (("GET", "/discover"), ("POST", "/register"), ("GET", "/stats")):
                assert client.ask(method, target).document["error"] == "blocked"
            assert client.ask("GET", "/health/ready").status == 200
        command(tmp_path, "unblock", "--network", "127.0.0.1")
        for client in (first, second):
            until(lambda client=client: client.ask("POST", "/heartbeat/bob").status == 200, "the end")
            assert_out(client)
    server.stop()

"""Acknowledged changes survive a stop and a kill."""

from __future__ import annotations

import http.client
import re
import signal
import threading
from functools import partial
from pathlib import Path

from tests.conftest import ENVIRONMENT
from tests.support.running import Client, Server, Start, proof, run, until

CLIENTS = 4
ACKNOWLEDGED_MIN = 60
# How often the server is killed; `make soak` does so twenty times.
ROUNDS = 20 if ENVIRONMENT.get("OPENRED_PROFILE") == "soak" else 3


def test_two_nodes_find_each_other_and_survive_a_restart(start: Start) -> None:
    server = start()
    with Client(server.address) as client:
        first = client.register("node-1", services=["relay"], metadata={"name": "é"}, region="eu").document
        second = client.register("node-2", services=["relay", "storage"], discoverable=True).document
        assert first["durable"] is second["durable"] is True
        assert client.ask("POST", "/heartbeat/node-1").document["status"] == "heartbeat_received"
        found = client.ask("GET", "/discover?services=relay").document
        assert {node["node_id"] for node in found["nodes"]} == {"node-1", "node-2"}
        assert client.ask("GET", "/discover?services=storage").document["total_found"] == 1
        looked_up = client.ask("POST", "/lookup", {"node_ids": ["node-2", "node-3"]}).document
        assert [node["node_id"] for node in looked_up["nodes"]] == ["node-2"]
        assert looked_up["missing"] == ["node-3"]
        before = [client.ask("GET", f"/nodes/node-{which}").document for which in (1, 2)]
    server.stop(signal.SIGINT)

    with Client(start().address) as client:
        after = [client.ask("GET", f"/nodes/node-{which}").document for which in (1, 2)]
        for was, now in zip(before, after, strict=True):
            for changing in ("explain", "forecast", "availability"):
                del was[changing], now[changing]
            assert now == was
        assert client.register("node-1", port=9, claim=first["claim"]).document["status"] == "updated"
        assert client.register("node-2", port=9, claim=first["claim"]).status == 403
        assert client.register("node-2", port=9).status == 409
        change = {"port": 9}
        assert client.ask("POST", "/heartbeat/node-2", change, **proof(second["claim"])).status == 200
        assert client.ask("DELETE", "/nodes/node-2", **proof(second["claim"])).status == 200


class Writer(threading.Thread):
    """Registers nodes one after the other, lets every third depart, and notes what was acknowledged."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._prefix = name
        self.registered: dict[str, str] = {}
        self.left: set[str] = set()
        self.forgotten: set[str] = set()
        self.refused: list[object] = []

    def run(self) -> None:
        try:
            with Client(self._server.address) as client:
                for number in range(100_000):
                    self._one(client, number)
        except (OSError, http.client.HTTPException):
            # The server was killed.
            return

    def _one(self, client: Client, number: int) -> None:
        node_id = f"{self._prefix}-{number}"
        reply = client.register(node_id, services=["relay"])
        if reply.status != 201 or reply.document["durable"] is not True:
            self.refused.append(reply)
            return
        claim = reply.document["claim"]
        mode = {0: "leave", 1: "forget"}.get(number % 6)
        if mode is not None:
            # Until the departure is acknowledged, either outcome is right.
            reply = client.ask("DELETE", f"/nodes/{node_id}?mode={mode}", **proof(claim))
            if reply.status == 200:
                (self.left if mode == "leave" else self.forgotten).add(node_id)
            else:
                self.refused.append(reply)
        else:
            self.registered[node_id] = claim
            # Heartbeats are written down now and then, beside all this.
            client.ask("POST", f"/heartbeat/{node_id}")


def acknowledged_enough(writers: list[Writer]) -> bool:
    """Return whether each of `writers` has some, and all together have enough."""
    counts = [len(writer.registered) for writer in writers]
    return all(counts) and sum(counts) >= ACKNOWLEDGED_MIN


def verified_digest(database: Path) -> str:
    """Return the digest of a database by `verify`, which also has to find that all in it fits together."""
    done = run("verify", "--database", str(database))
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"digest ([0-9a-f]{16}); memory agrees in 64 of 64 shards, every", done.stdout)
    assert found, done.stdout
    return found[1]


def expect_recovered(client: Client, writers: list[Writer]) -> None:
    """Check that every acknowledged node is there, and that no departed node is back."""
    for writer in writers:
        wanted = list(writer.registered)
        found: set[str] = set()
        for begin in range(0, len(wanted), 100):
            batch = {"node_ids": wanted[begin : begin + 100]}
            found |= {node["node_id"] for node in client.ask("POST", "/lookup", batch).document["nodes"]}
        assert found == set(wanted)
        for node_id in writer.left:
            assert client.ask("GET", f"/nodes/{node_id}").document["state"] == "coma"
        for node_id in writer.forgotten:
            assert client.ask("POST", f"/heartbeat/{node_id}").status == 410


def test_a_kill_loses_nothing_that_was_acknowledged(start: Start, tmp_path: Path) -> None:
    """Round after round: what `verify` makes of the file that was left is what the next server has."""
    writers: list[Writer] = []
    for round_number in range(ROUNDS):
        server = start()
        mine = [Writer(server, f"round-{round_number}-{client}") for client in range(CLIENTS)]
        writers += mine
        for writer in mine:
            writer.start()
        until(partial(acknowledged_enough, mine), "some to be registered")
        server.kill()
        for writer in mine:
            writer.join(10)
            assert not writer.is_alive()
            assert not writer.refused

        digest = verified_digest(tmp_path / "nodes.db")
        recovered = start()
        with Client(recovered.address) as client:
            assert client.ask("GET", "/stats").document["directory"]["digest"] == digest
            expect_recovered(client, mine)
        recovered.kill()

    with Client(start().address) as client:
        expect_recovered(client, writers)
        for writer in writers:
            node_id, claim = next(iter(writer.registered.items()))
            assert client.register(node_id, port=9, claim=claim).status == 200
        stats = client.ask("GET", "/stats").document
        assert stats["directory"]["nodes"] >= sum(len(one.registered) + len(one.left) for one in writers)
        assert stats["directory"]["by_state"]["coma"] >= sum(len(one.left) for one in writers)

"""One damaged record hurts nobody else, and neither a run nor a stop changes it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.records import alter
from tests.support.running import Client, Start, run, until

NAMES = ("n0", "n1", "n2")


def rows_of(database: Path, slot: int) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        return connection.execute("SELECT * FROM node WHERE slot = ?", (slot,)).fetchall()


@pytest.fixture
def database(start: Start, tmp_path: Path) -> Path:
    """Return a database as a server has left it: three nodes in the slots 0 to 2."""
    server = start()
    with Client(server.address) as client:
        for name in NAMES:
            assert client.register(name, services=["relay"]).status == 201
    server.stop()
    return tmp_path / "nodes.db"


@pytest.mark.parametrize(
    ("statement", "slot", "told"),
    [
        ("UPDATE node SET profile = 'x' WHERE slot = 1", 1, "its profile is b'x', which is no profile"),
        (
            "UPDATE node SET flags = flags | 8 WHERE slot = 1",
            1,
            "its public_key is marked as a key",
        ),
        ("UPDATE node SET state = 9 WHERE slot = 2", 2, "its state is 9"),
        ("UPDATE node SET slot = 100000000 WHERE slot = 2", 100_000_000, "slots below it"),
    ],
)
def test_a_damaged_record_is_set_aside_unchanged(
    start: Start, database: Path, statement: str, slot: int, told: str
) -> None:
    alter(database, statement)
    before = rows_of(database, slot)
    (name,) = (name for name in NAMES if name.encode() in before[0])
    done = run("verify", "--database", str(database))
    assert done.returncode == 1
    assert f"unusable: slot {slot}, node '{name}': " in done.stdout
    assert told in done.stdout

    server = start()
    until(lambda: f"it stays as it is: slot {slot}, node '{name}': " in server.log, "the row to be told")
    with Client(server.address) as client:
        found = client.ask("GET", "/discover?services=relay").document
        assert {node["node_id"] for node in found["nodes"]} == {*NAMES} - {name}
        assert client.ask("GET", f"/nodes/{name}").status == 404
        assert client.ask("POST", f"/heartbeat/{name}").status == 404
        refused = client.register(name)
        assert (refused.status, refused.document["error"]) == (409, "node_id_taken")
        assert "Its record is damaged" in refused.document["detail"]
        for other in NAMES:
            assert client.ask("POST", f"/heartbeat/{other}").status == (404 if other == name else 200)
        # As many as to fill every slot that lies free.
        for number in range(4):
            assert client.register(f"new-{number}").status == 201
        assert client.ask("GET", "/stats").document["directory"]["nodes"] == 6
    server.stop()
    assert server.log.count("it stays as it is") == 1
    assert rows_of(database, slot) == before

    # The fixed row is served again.
    alter(database, f"DELETE FROM node WHERE slot = {slot}")
    with Client(start().address) as client:
        assert client.register(name).status == 201


def test_a_damaged_key_of_claims_does_not_prevent_the_start(start: Start, database: Path) -> None:
    alter(database, "UPDATE secret SET value = x'00' WHERE name IN ('claim_key', 'runs')")
    done = run("verify", "--database", str(database))
    assert done.returncode == 1
    assert "the key of claims has 1 bytes, needed are 32" in done.stdout
    server = start()
    until(lambda: "is damaged, with 1 of 32 bytes: the server made a new one" in server.log, "it to be told")
    with Client(server.address) as client:
        claim = client.register("new").document["claim"]
        assert client.register("new", port=9, claim=claim).status == 200
    server.stop()
    assert run("verify", "--database", str(database)).returncode == 0

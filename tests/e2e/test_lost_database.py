"""A server whose database is taken away notices, promises nothing more, and says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openred_central.exit_codes import ExitCode
from tests.support.records import opened, records_of
from tests.support.running import Client, Server, Start, run, until

# Far more than a look at the files takes to come round, far less than forgotten data may stay.
NOTICED_S = 10.0


def replaced_by_a_copy(database: Path) -> None:
    copy = database.with_name("copy.db")
    shutil.copy(database, copy)
    copy.replace(database)


def all_removed(database: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink()


def store_state(client: Client) -> str:
    return str(client.ask("GET", "/health/ready").document["checks"]["store"])


def until_detached(client: Client) -> None:
    until(lambda: store_state(client) == "detached", "the loss to be noticed", NOTICED_S)


@pytest.mark.parametrize("happens", [replaced_by_a_copy, all_removed, Path.unlink])
def test_a_lost_database_detaches_the_store_without_loss(
    start: Start, tmp_path: Path, happens: Callable[[Path], None]
) -> None:
    database = tmp_path / "nodes.db"
    # The next flush is in an hour, so that the loss is noticed without it.
    server = start("--flush-interval-s", "1h")
    with Client(server.address) as client:
        assert client.register("kept").document["durable"] is True
        happens(database)
        until_detached(client)
        assert client.ask("GET", "/health/ready").status == 503
        late = client.register("late")
        assert (late.status, late.document["durable"]) == (202, False)
        assert client.ask("GET", "/nodes/kept").status == 200
        until(lambda: "the saved data is in" in server.log, "the log to say where that is")
        told = [line for line in server.log.splitlines() if "the saved data is in" in line]
        assert len(told) == 1, server.log
        if database.exists():
            done = run("verify", "--database", str(database), "--url", "http://{}:{}".format(*server.address))
            assert done.returncode == 1
            assert "all agree" not in done.stdout
        server.kill()
    # The way out that the log tells.
    kept = Path(told[0].partition("the saved data is in ")[2].partition(":")[0])
    kept.rename(database)
    with Client(start().address) as client:
        assert client.ask("GET", "/nodes/kept").status == 200


def test_a_database_that_is_put_back_is_gone_on_with(start: Start, tmp_path: Path) -> None:
    database = tmp_path / "nodes.db"
    server = start()
    with Client(server.address) as client:
        client.register("before")
        away = database.rename(tmp_path / "away.db")
        until_detached(client)
        assert client.register("meanwhile").status == 202
        away.rename(database)
        until(lambda: store_state(client) == "ok", "the store to be found again", NOTICED_S)
        assert client.register("after").document["durable"] is True
    server.stop()
    with opened(database) as store:
        assert {record.node_id for record in records_of(store)} == {"before", "meanwhile", "after"}


def refused(server: Server, told: str, code: int = 1) -> None:
    assert server.wait() == code
    assert told in server.log, server.log
    assert "Traceback" not in server.log


def test_a_second_server_is_refused_by_any_path(start: Start, tmp_path: Path) -> None:
    server = start()
    os.link(tmp_path / "nodes.db", tmp_path / "hard.db")
    (tmp_path / "soft.db").symlink_to(tmp_path / "nodes.db")
    (tmp_path / "nodes.db.lock").unlink()
    with Client(server.address) as client:
        client.register("node-1")
        for name in ("nodes.db", "hard.db", "soft.db"):
            refused(start(database=name, ready=False), "is in use by another server")
        assert store_state(client) == "ok"
        assert client.register("node-2").document["durable"] is True


def test_a_file_mounted_twice_has_one_server(start: Start, tmp_path: Path) -> None:
    second = tmp_path / "elsewhere" / "nodes.db"
    second.parent.mkdir()
    second.touch()
    server = start()
    # In a namespace of its own, so that the mount ends with the process.
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", script, str(tmp_path / "nodes.db"), str(second)]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        # Only root may mount; a hard link is the same file too.
        second.unlink()
        os.link(tmp_path / "nodes.db", second)
        inside = []
    command = (*inside, sys.executable, "-m", "openred_central")
    refused(
        start(database="elsewhere/nodes.db", ready=False, command=command),
        "under another name of the same file",
    )
    assert server.running


def test_a_missing_database_beside_snapshots_stops_the_start(start: Start, tmp_path: Path) -> None:
    database = tmp_path / "nodes.db"
    server = start()
    with Client(server.address) as client:
        client.register("node-1")
        assert run("snapshot", "--database", str(database)).returncode == 0
    server.stop()
    database.unlink()
    refused(
        start(ready=False), "is missing, and there are snapshots of it: put it back", code=ExitCode.CONFIG
    )
    server = start("--begin-anew")
    with Client(server.address) as client:
        assert client.ask("GET", "/stats").document["directory"]["nodes"] == 0
    done = run("verify", "--database", str(database))
    assert done.returncode == 1
    assert "it is of another directory" in done.stdout


def test_forgotten_data_leaves_all_files_within_seconds(start: Start, tmp_path: Path) -> None:
    database = tmp_path / "nodes.db"
    server = start()

    def found() -> list[str]:
        files = [database, database.with_name("nodes.db-wal")]
        return [file.name for file in files if file.exists() and b"a-forgotten-node" in file.read_bytes()]

    with Client(server.address) as client:
        for number in range(50):
            client.register(f"node-{number}")
        claim = client.register("a-forgotten-node", metadata={"of": "a-forgotten-node"}).document["claim"]
        assert client.ask("POST", "/heartbeat/a-forgotten-node", Authorization=f"Claim {claim}").status == 200
        assert found()
        gone = client.ask("DELETE", "/nodes/a-forgotten-node?mode=forget", Authorization=f"Claim {claim}")
        assert gone.status == 200
        until(lambda: not found(), "what was forgotten to be gone", 10.0)
    server.stop()
    assert not found()

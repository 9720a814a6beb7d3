"""Snapshots of a server under load, what a kill leaves of them, and a start on a damaged database."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from openred_central.directory.state.columns import record_digest
from openred_central.directory.state.node import Record, Tombstone, hash_id
from openred_central.storage.copies.snapshots import Snapshots
from tests.support.records import alter, opened, records_of, tombstones_of
from tests.support.running import Client, Start, run, until

from .test_restart import Writer, acknowledged_enough

CLIENTS = 4


def content(database: Path) -> tuple[dict[str, Record], dict[str, Tombstone], int]:
    """Return the records by id, the tombstones by hash, and the revision, of a closed database."""
    with opened(database) as store:
        vitals = store.load_vitals()
        assert vitals is not None
        records = {record.node_id: record for record in records_of(store)}
        return records, {one.id_hash: one for one in tombstones_of(store)}, vitals.revision


def test_a_snapshot_under_load_is_an_exact_prefix(start: Start, tmp_path: Path) -> None:
    server = start()
    writers = [Writer(server, f"client-{client}") for client in range(CLIENTS)]
    for writer in writers:
        writer.start()
    before: list[set[str]] = []
    for _ in range(3):
        until(partial(acknowledged_enough, writers), "some to be registered")
        before.append({node_id for writer in writers for node_id in list(writer.registered)})
        taken = run("snapshot", "--database", str(tmp_path / "nodes.db"))
        assert taken.returncode == 0, taken.stderr
    server.kill()
    for writer in writers:
        writer.join(10)
        assert not writer.is_alive()

    last, dead, _ = content(tmp_path / "nodes.db")
    snapshots = Snapshots(tmp_path / "nodes.db", tmp_path / "snapshots")
    for acknowledged, snapshot in zip(reversed(before), snapshots.newest_first(), strict=True):
        snapshots.verify(snapshot)
        nodes, _, revision = content(Path(shutil.copy(snapshot.database, tmp_path / f"{snapshot.number}.db")))
        assert acknowledged <= nodes.keys()
        # All changes up to a revision, and none after it.
        assert max(node.revision for node in nodes.values()) <= revision
        for name, node in last.items():
            if node.revision <= revision:
                assert nodes[name].revision == node.revision
                assert record_digest(nodes[name]) == record_digest(node)
        for name in nodes.keys() - last.keys():
            assert dead[hash_id(name)].revision > revision
    assert run("verify", "--all", "--database", str(tmp_path / "nodes.db")).returncode == 0


def reached(snapshots: Snapshots, number: int) -> bool:
    return any(snapshot.number >= number for snapshot in snapshots.newest_first())


def test_a_kill_during_a_snapshot_leaves_only_whole_snapshots(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    snapshots = Snapshots(tmp_path / "nodes.db", folder)
    for round_number in range(3):
        server = start("--snapshot-interval-s", "0.01", "--snapshot-folder", str(folder))
        enough = max((snapshot.number for snapshot in snapshots.newest_first()), default=0) + 3
        with Client(server.address) as client:
            client.register(f"node-{round_number}")
            until(partial(reached, snapshots, enough), "a few snapshots")
            server.kill()
        for snapshot in snapshots.newest_first():
            snapshots.verify(snapshot)
    (folder / ".openred-unfinished-by-a-dead-process").mkdir()
    start("--snapshot-folder", str(folder))
    until(lambda: not [path for path in folder.iterdir() if path.name.startswith(".")], "no junk")
    left = snapshots.newest_first()
    assert sorted(path.name for path in folder.iterdir()) == sorted(snapshot.name for snapshot in left)
    verified = run(
        "verify", "--all", "--database", str(tmp_path / "nodes.db"), "--snapshot-folder", str(folder)
    )
    assert verified.returncode == 0, verified.stdout
    assert snapshots.manifest(left[0]).records in (2, 3)


def test_newer_snapshots_stay_valid_after_an_older_one_is_restored(start: Start, tmp_path: Path) -> None:
    """Revisions are given out again; what they meant before is in snapshots that were given up."""
    database, folder = tmp_path / "nodes.db", tmp_path / "snapshots"
    for name in ("before", "given-up", "also-given-up"):
        server = start()
        with Client(server.address) as client:
            client.register(name)
            assert run("snapshot", "--database", str(database)).returncode == 0
        server.stop()
    older = Snapshots(database, folder).newest_first()[-1]
    shutil.copyfile(older.database, database)
    server = start()
    with Client(server.address) as client:
        assert client.ask("GET", "/nodes/given-up").status == 404
        client.register("instead")
    server.stop()
    done = run("verify", "--all", "--database", str(database))
    assert done.returncode == 0, done.stdout
    assert [line.count("no earlier state of the store") for line in done.stdout.splitlines()] == [
        0,
        1,
        1,
        0,
        0,
    ]
    # Damage is still found in what is an earlier state.
    alter(database, "UPDATE node SET region = 'x' WHERE node_id = 'before'")
    assert "both have revision" in run("verify", "--all", "--database", str(database)).stdout


def damage(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * 4_096)


def test_a_damaged_database_is_replaced_by_the_newest_snapshot(start: Start, tmp_path: Path) -> None:
    database = tmp_path / "nodes.db"
    server = start()
    with Client(server.address) as client:
        claim = client.register("kept", services=["relay"]).document["claim"]
        assert run("snapshot", "--database", str(database)).returncode == 0
        client.register("lost")
    server.stop()
    damage(database)
    damaged = database.read_bytes()

    server = start()
    (aside,) = tmp_path.glob("nodes.db.damaged-*Z")
    assert aside.read_bytes() == damaged
    assert "degraded: the database was damaged" in server.log
    with Client(server.address) as client:
        restored = client.ask("GET", "/stats").document["performance"]["store"]["restored"]
        assert restored["snapshot"].startswith("nodes.db-000001-")
        assert restored["set_aside"] == aside.name
        assert client.ask("GET", "/nodes/kept").status == 200
        assert client.ask("GET", "/nodes/lost").status == 404
        # The key of the claims is the old one.
        assert client.register("kept", port=9, claim=claim).document["status"] == "updated"
        assert client.register("lost").document["durable"] is True
    server.stop()
    server = start()
    with Client(server.address) as client:
        assert client.ask("GET", "/stats").document["performance"]["store"]["restored"] is None
        assert client.ask("GET", "/stats").document["directory"]["nodes"] == 2


@pytest.mark.parametrize("flags", [[], ["--restore", "never"]])
def test_without_a_good_snapshot_the_server_advises_and_changes_nothing(
    start: Start, tmp_path: Path, flags: list[str]
) -> None:
    database = tmp_path / "nodes.db"
    server = start()
    with Client(server.address) as client:
        client.register("node-1")
    server.stop()
    damage(database)
    damaged = database.read_bytes()
    server = start(*flags, ready=False)
    assert server.wait() == 78
    (line,) = [line for line in server.log.splitlines() if "cannot start" in line]
    assert "restore it from a backup, or move it away to start empty" in line
    assert "Traceback" not in server.log
    assert database.read_bytes() == damaged


def test_verify_of_a_running_server_finds_foreign_changes(start: Start, tmp_path: Path) -> None:
    database = str(tmp_path / "nodes.db")
    server = start()
    with Client(server.address) as client:
        for number in range(5):
            client.register(f"node-{number}")
        url = "http://{}:{}".format(*server.address)
        agreed = run("verify", "--database", database, "--url", url)
        assert agreed.returncode == 0, agreed.stdout
        alter(tmp_path / "nodes.db", "UPDATE node SET region = 'us' WHERE node_id = 'node-3'")
        differs = run("verify", "--database", database, "--url", url)
        assert differs.returncode == 1
        assert "its memory has digest" in differs.stdout

"""Snapshot, export, import and verify work with the settings and streams of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from openred_central.storage.store import StoreError
from tests.support.maintenance import command, fill
from tests.support.records import batch, opened, record


def test_a_snapshot_can_be_taken_while_a_server_runs(tmp_path: Path) -> None:
    database = tmp_path / "openred.db"
    fill(database, [record(slot) for slot in range(3)])
    with opened(database):
        done = command("snapshot", database)
    folder = tmp_path / "snapshots" / "openred.db-000001-20270115T080000Z"
    size = (folder / "openred.db").stat().st_size
    assert done.said == [f"snapshot {folder}: 3 nodes, 0 tombstones, {size:,} bytes, verified"]
    assert done.code == 0


def test_a_replacing_snapshot_is_the_only_one_left(tmp_path: Path) -> None:
    """Older snapshots still contain nodes that were forgotten later."""
    database = tmp_path / "openred.db"
    fill(database, [record(slot) for slot in range(3)])
    forgotten = b"node-1"
    for _ in range(2):
        assert command("snapshot", database).code == 0
    with opened(database) as store:
        store.commit(batch(freed_slots=[1]))
        store.look(0.0)
        while store.tidy_due:
            store.tidy()
    folder = tmp_path / "snapshots"
    assert [forgotten in copy.read_bytes() for copy in folder.rglob("openred.db")] == [True, True]
    done = command("snapshot", database, replace=True)
    assert done.code == 0
    assert done.said[0].endswith("bytes, verified; it is the only one")
    (left,) = folder.iterdir()
    assert left.name.startswith("openred.db-000003-")
    assert forgotten not in (left / "openred.db").read_bytes()


@pytest.mark.parametrize("name", ["snapshot", "export", "verify"])
def test_commands_that_read_need_a_database(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        command(name, tmp_path / "openred.db", file="-")
    assert list(tmp_path.iterdir()) == []


def test_an_export_can_be_imported(tmp_path: Path) -> None:
    fill(tmp_path / "first.db", [record(1)])
    file = str(tmp_path / "directory.jsonl")
    exported = command("export", tmp_path / "first.db", file=file)
    imported = command("import", tmp_path / "second.db", file=file)
    assert exported.code == imported.code == 0
    digest = exported.said[0].partition("digest ")[2].partition(" ")[0]
    assert imported.said == [
        f"imported 1 node, 0 tombstones, 1 secret, digest {digest} into {tmp_path / 'second.db'}"
    ]

"""`snapshot` works beside a server, and may replace older snapshots."""

from __future__ import annotations

from pathlib import Path

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

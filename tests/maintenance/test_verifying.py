"""Each kind of planted difference is found and named; what only time has changed is no difference."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from openred_central.directory.state.columns import record_digest
from openred_central.directory.state.deadlines import Deadlines
from openred_central.directory.state.node import hash_id
from openred_central.directory.state.registry import shard_of
from openred_central.maintenance import verifying
from openred_central.storage.copies.runs import RUNS, begin_run
from openred_central.storage.copies.snapshots import MANIFEST, Manifest
from openred_central.storage.sqlite.sqlite import SqliteStore
from tests.support.maintenance import VITALS, Outcome, command, fill, take
from tests.support.records import alter, batch, opened, record, tombstone

NODES = 40

INTRUDER = """
CREATE TEMP TABLE copy AS SELECT * FROM node WHERE slot = 9;
UPDATE copy SET slot = 99, node_id = 'intruder';
INSERT INTO node SELECT * FROM copy
"""
SWAPPED = """
UPDATE node SET profile = (SELECT profile FROM node AS other WHERE other.slot = 17 - node.slot)
WHERE slot IN (8, 9)
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with a snapshot of all that it holds."""
    path = tmp_path / "openred.db"
    fill(path, [record(slot) for slot in range(NODES)], [tombstone("a")])
    take(path)
    return path


def verify(database: Path, **options: Any) -> Outcome:
    return command("verify", database, **options)


def change(database: Path, *records: Any, **changes: Any) -> None:
    """Write what a server would write."""
    with opened(database) as store:
        store.commit(batch(*records, vitals=VITALS._replace(revision=2_000), **changes))


def test_agreement_exits_with_0(database: Path) -> None:
    done = verify(database)
    assert done.code == 0
    store, snapshot, end = done.said
    digest = sum(record_digest(record(slot)) for slot in range(NODES)) % 2**64
    assert store == (
        f"store {database}: 40 nodes, 1 tombstone, revision 1000, digest {digest:016x}; "
        "memory agrees in 64 of 64 shards, every invariant holds"
    )
    assert snapshot.endswith("40 nodes, sound, 64 of 64 shards as in the store")
    assert end == "all agree"


def test_changes_since_the_snapshot_are_no_damage(database: Path) -> None:
    change(
        database,
        record(3, revision=1_001, region="us"),
        record(50, revision=1_002),
        freed_slots=[7],
        tombstones=[tombstone(hash_id("node-7"))],
    )
    done = verify(database)
    assert done.code == 0
    shards = 64 - len({shard_of(f"node-{slot}", 64) for slot in (3, 50, 7)})
    assert f"40 nodes, sound, {shards} of 64 shards as in the store; changed since, first " in done.said[1]
    assert (
        "node 'node-3', region: 'eu-west' in the snapshot, 'us' in the store (revision 4 then, 1001 now)"
        in (done.said[1])
    )


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE node SET region = 'us' WHERE slot = 9",
            "node 'node-9', region: 'eu-west' in the snapshot, 'us'",
        ),
        ("UPDATE node SET services = 'relay' WHERE slot = 9", "node 'node-9', services: 'relay,storage'"),
        (
            "UPDATE node SET flags = 0 WHERE slot = 9",
            "node 'node-9', flags: 1 in the snapshot, 0 in the store",
        ),
        (
            "UPDATE node SET registered_at = 1.0 WHERE slot = 9",
            "node 'node-9', registered_at: 1800000000.25 in",
        ),
        ("UPDATE node SET away_until_s = 1.0 WHERE slot = 9", "node 'node-9', away_until_s: 0.0 in"),
        ("UPDATE node SET revision = 1 WHERE slot = 9", "node 'node-9', revision: 10 in the snapshot, 1 in"),
        ("UPDATE node SET last_seen_s = 1.0 WHERE slot = 9", "node 'node-9', last_seen_s: 100.5 in"),
        (
            "UPDATE node SET since_s = 0.0 WHERE slot = 9",
            "node 'node-9', since_s: 0.25 in the snapshot, 0.0 in",
        ),
        ("UPDATE node SET usual_gap_s = 1.0 WHERE slot = 9", "node 'node-9', usual_gap_s: 86400.0 in"),
        ("DELETE FROM node WHERE slot = 9", "node 'node-9': missing in the store (it is lost"),
        ("UPDATE node SET node_id = 'other' WHERE slot = 9", "node 'node-9': missing in the store"),
        (INTRUDER, "node 'intruder': missing in the snapshot (its revision 10 is older than the snapshot)"),
        (SWAPPED, "node 'node-8', profile: [\"198.51.100.7\""),
    ],
)
def test_a_planted_difference_is_named_exactly(database: Path, statement: str, told: str) -> None:
    # Two profiles that can be swapped.
    other = b'["203.0.113.9",4242,"other key",[],{}]'
    with opened(database) as store:
        store.commit(batch(record(9, profile=other), vitals=VITALS))
    shutil.rmtree(database.parent / "snapshots")
    take(database)
    assert verify(database).code == 0
    alter(database, *statement.split(";"))
    done = verify(database)
    assert done.code == 1
    assert done.said[1].startswith("WRONG snapshot openred.db-000001-")
    assert told in done.said[1]
    if "'node-9'" in told:
        assert f"shard {shard_of('node-9', 64)}, " in done.said[1]
    assert done.said[-1] == "1 of these are wrong"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE node SET state = 7 WHERE slot = 9",
            "node 'node-9', state: 'active' in its history, 'coma' in the store",
        ),
        (
            "UPDATE node SET profile = '[1]' WHERE slot = 9",
            "unusable: slot 9, node 'node-9': its profile is b'[1]', which is no profile",
        ),
        (
            "UPDATE node SET history = 'never' WHERE slot = 9",
            "unusable: slot 9, node 'node-9': its history is b'never'",
        ),
        ("UPDATE node SET flags = 257 WHERE slot = 9", "its flags is 257, which is not in 0 to 255"),
        ("UPDATE node SET state = 99 WHERE slot = 9", "unusable: slot 9, node 'node-9': its state is 99"),
        (
            "UPDATE node SET node_id = 'node-8' WHERE slot = 9",
            "unusable: slot 8, node 'node-8': the node is also in slot 9",
        ),
        ("UPDATE node SET slot = -9 WHERE slot = 9", "unusable: slot -9, node 'node-9': its slot is -9"),
        ("UPDATE node SET slot = 99000000 WHERE slot = 9", "unusable: slot 99000000, node 'node-9'"),
        ("UPDATE vitals SET attended_s = 1.0", "40 nodes were seen after that, more than before"),
        ("DELETE FROM vitals", "it holds nodes, and no vitals"),
        (
            "UPDATE node SET region = CAST(x'fffe' AS TEXT) WHERE slot = 9",
            "unusable: slot 9, node 'node-9': its region is b'\\xff\\xfe', which is not UTF-8",
        ),
        (
            "UPDATE node SET node_id = CAST(x'ff' AS TEXT) WHERE slot = 9",
            "unusable: slot 9: its node_id is b'\\xff', which is not UTF-8",
        ),
        ("UPDATE secret SET value = x'00' WHERE name = 'claim_key'", "the key of claims has 1 bytes"),
        (
            "INSERT INTO secret VALUES ('revocations', x'0102')",
            "unusable: not all revocations of an earlier version can be read, in 2 bytes",
        ),
        (
            "INSERT INTO revocation VALUES ('torn', 2e9)",
            "unusable: b'torn' is revoked, which is no id of a token",
        ),
        ("INSERT INTO secret VALUES ('runs', x'00')", "its runs have 1 bytes"),
        ("REPLACE INTO seen VALUES (0, 1, x'00')", "page 0 of the signs of life is of format 00"),
    ],
)
def test_a_store_that_contradicts_itself_is_wrong(database: Path, statement: str, told: str) -> None:
    shutil.rmtree(database.parent / "snapshots")
    alter(database, statement)
    done = verify(database)
    assert done.code == 1
    assert done.said[0].startswith(f"WRONG store {database}: ")
    assert told in done.said[0]
    assert f"no snapshot of this database in {database.parent / 'snapshots'}" in done.said


def test_unusable_rows_are_named_one_by_one(database: Path) -> None:
    alter(database, "UPDATE node SET state = 9 WHERE slot IN (3, 5)")
    done = verify(database)
    assert done.code == 1
    assert [line.partition("unusable: ")[2] for line in done.said[:2]] == [
        f"slot {slot}, node 'node-{slot}': its state is 9, which is not in 1 to 7" for slot in (3, 5)
    ]
    assert "38 nodes and 2 unusable, " in done.said[2]
    assert "memory agrees in 64 of 64 shards, every invariant holds" in done.said[2]
    assert done.said[-1] == "2 of these are wrong"


def test_an_unusable_row_of_a_snapshot_is_named(database: Path) -> None:
    shutil.rmtree(database.parent / "snapshots")
    alter(database, "UPDATE node SET node_id = CAST(x'ff' AS TEXT) WHERE slot = 9")
    take(database)
    alter(database, "UPDATE node SET node_id = 'node-9' WHERE slot = 9")
    done = verify(database)
    assert done.code == 1
    assert "slot 9: its node_id is b'\\xff', which is not UTF-8" in done.said[1]


def test_a_row_that_memory_holds_otherwise_is_named(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if loading had a bug: the rows hold another value than memory was given."""
    load_records = SqliteStore.load_records
    readings: list[int] = []

    def changing(store: SqliteStore, rows_max: int) -> Iterator[list[Any]]:
        readings.append(1)
        for rows in load_records(store, rows_max):
            yield [row._replace(region="us") if row.slot == 9 and len(readings) == 1 else row for row in rows]

    monkeypatch.setattr(SqliteStore, "load_records", changing)
    done = verify(database)
    assert done.code == 1
    assert "node 'node-9', region: 'eu-west' in memory, 'us' in the store" in done.said[0]
    assert done.said[1].startswith("WRONG store")
    assert "memory agrees in 63 of 64 shards" in done.said[1]


def test_an_invariant_that_does_not_hold_in_memory_is_named(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if loading had a bug that a start, which compares only numbers, does not see."""

    def late(deadlines: Deadlines, slots: Sequence[int], steps: Sequence[int]) -> None:
        arm_all(deadlines, slots, [at + 1_024 for at in steps])

    arm_all = Deadlines.arm_all
    monkeypatch.setattr(Deadlines, "arm_all", late)
    done = verify(database)
    assert done.code == 1
    assert done.said[0].startswith(f"WRONG store {database}: in memory 'node-")
    assert "is looked at 1.000 s after its deadline" in done.said[0]


def test_a_damaged_database_is_reported_and_its_snapshot_verified(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(3 * 4_096)
        file.write(b"\xff" * 4_096)
    done = verify(database)
    assert done.code == 1
    assert done.said[0].startswith(f"WRONG store {database}: ")
    assert done.said[1].endswith("40 nodes, sound")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda snapshot: flip(snapshot.database), "its SHA-256 is another one"),
        (lambda snapshot: (snapshot.folder / MANIFEST).write_bytes(b"{}"), "the manifest of snapshot"),
    ],
)
def test_a_damaged_snapshot_is_wrong(database: Path, damage: Callable[[Any], Any], told: str) -> None:
    damage(take(database))
    done = verify(database)
    assert done.code == 1
    assert done.said[1].startswith("WRONG snapshot openred.db-000002-")
    assert told in done.said[1]


def test_a_manifest_with_another_count_is_wrong(database: Path) -> None:
    manifest = take(database).folder / MANIFEST
    manifest.write_bytes(Manifest.decode(manifest.read_bytes())._replace(records=41).encode())
    done = verify(database)
    assert "it has 40 nodes, its manifest says 41" in done.said[1]
    assert done.code == 1


def test_only_the_newest_snapshot_is_verified_or_all(database: Path) -> None:
    flip(database.parent.glob("snapshots/*-000001-*/openred.db").__next__())
    take(database)
    assert verify(database).code == 0
    done = verify(database, all=True)
    assert done.code == 1
    assert [line.split("-")[1] for line in done.said if "snapshot openred" in line] == ["000002", "000001"]


def test_snapshots_that_a_server_takes_and_removes_meanwhile_are_no_damage(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = take(database)
    verify_store = verifying.Verifier.verify_store

    def while_a_server_runs(verifier: verifying.Verifier) -> verifying.Loaded | None:
        loaded = verify_store(verifier)
        change(database, record(3, revision=1_001, region="us"))
        take(database)
        shutil.rmtree(oldest.folder)
        return loaded

    monkeypatch.setattr(verifying.Verifier, "verify_store", while_a_server_runs)
    done = verify(database, all=True)
    assert done.code == 0
    assert done.said[1] == f"snapshot {oldest.name}: removed meanwhile"
    assert [line.split("-")[1] for line in done.said if "snapshot openred" in line] == ["000002", "000001"]


def test_a_snapshot_of_another_directory_is_recognised(database: Path) -> None:
    shutil.move(database.parent / "snapshots", database.parent / "kept")
    other = database.parent / "new" / "openred.db"
    with opened(other) as store:
        store.save_secret("claim_key", b"another1" * 4)
        store.commit(batch(record(1, node_id="stranger"), vitals=VITALS))
    shutil.move(database.parent / "kept", other.parent / "snapshots")
    done = verify(other)
    assert done.code == 1
    assert done.said[1].startswith("WRONG snapshot openred.db-000001-")
    assert "40 nodes, sound; it is of another directory, with another key of claims" in done.said[1]
    assert done.said[-1] == "1 of these are wrong"


def test_a_snapshot_from_before_a_restore_does_not_agree(database: Path) -> None:
    with opened(database) as store:
        begin_run(store, b"given up")
    take(database)
    with opened(database) as store:
        store.save_secret(RUNS, b"")
        begin_run(store, b"the next")
    done = verify(database)
    assert done.code == 0
    assert "it is no earlier state of the store" in done.said[1]
    assert done.said[-1] == "all that can be compared agree"


def test_nodes_gone_longer_than_tombstones_are_not_lost(database: Path) -> None:
    alter(
        database,
        "DELETE FROM node WHERE slot = 9",
        f"UPDATE vitals SET attended_s = {VITALS.attended_s + 366 * 86_400}",
    )
    done = verify(database)
    assert done.code == 0
    assert "node 'node-9': missing in the store (it has gone since)" in done.said[1]


RUN = b"this run"


class Stats(http.server.BaseHTTPRequestHandler):
    """Answers with the digests it was given, one after the other, the last one again and again."""

    digests: list[str]
    store: dict[str, str]

    def do_GET(self) -> None:
        digest = self.digests.pop(0) if len(self.digests) > 1 else self.digests[0]
        document = {"directory": {"digest": digest}, "performance": {"store": self.store}}
        body = orjson.dumps(document if digest else {})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@contextmanager
def serving(*digests: str, run: bytes = RUN, state: str = "ok") -> Iterator[str]:
    store = {"run": run.hex(), "state": state}
    handler = type("Handler", (Stats,), {"digests": list(digests), "store": store})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("digests", "code", "told"),
    [
        (["right"], 0, "its memory has the digest of the store"),
        (["1", "1", "2", "right"], 0, "its memory has the digest of the store"),
        (["1"], 1, "its memory has digest 1, the store has"),
        ([str(number) for number in range(100)], 1, "changes too fast"),
        ([""], 1, "cannot be compared"),
    ],
)
def test_a_running_server_is_compared_a_few_times(
    database: Path, monkeypatch: pytest.MonkeyPatch, digests: list[str], code: int, told: str
) -> None:
    monkeypatch.setattr("openred_central.cli.verify.PAUSE_S", 0.0)
    with opened(database) as store:
        begin_run(store, RUN)
    right = f"{sum(record_digest(record(slot)) for slot in range(NODES)) % 2**64:016x}"
    with serving(*(right if digest == "right" else digest for digest in digests)) as url:
        done = verify(database, url=url)
    assert done.code == code
    assert told in done.said[-2]
    assert verifying.URL_ATTEMPTS >= 3


@pytest.mark.parametrize(
    ("served", "told"),
    [
        ({"run": b"a former"}, "it does not run on {}, or that file was replaced since"),
        ({"state": "detached"}, "its store is detached and saves nothing; its log says why"),
    ],
)
def test_a_server_on_another_database_does_not_agree(
    database: Path, served: dict[str, Any], told: str
) -> None:
    with opened(database) as store:
        begin_run(store, RUN)
    right = f"{sum(record_digest(record(slot)) for slot in range(NODES)) % 2**64:016x}"
    with serving(right, **served) as url:
        done = verify(database, url=url)
    assert done.code == 1
    assert done.said[-2] == f"WRONG server {url}: {told.format(database)}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "file:///etc/passwd", "nonsense"])
def test_a_server_that_cannot_be_asked_is_wrong(database: Path, url: str) -> None:
    done = verify(database, url=url)
    assert done.code == 1
    assert f"WRONG server {url}: cannot be compared" in done.said[-2]

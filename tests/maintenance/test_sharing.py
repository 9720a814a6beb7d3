"""A directory moves between a file and a server and stays what it is; so does a backup of the server."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from openred_central.security.sealing import Sealer
from openred_central.storage.postgres.leasing import RolledBack
from openred_central.storage.store import StoreError
from tests.support.maintenance import CLAIM_KEY, VITALS, Outcome, command, fill
from tests.support.postgres import Bench, PgServer
from tests.support.postgres_store import access, leading
from tests.support.records import (
    batch,
    opened,
    pages_of,
    record,
    records_of,
    tombstone,
    tombstones_of,
)

SECRET = b"a secret of all instances"
RECORDS = [record(slot, node_id=f"node-{slot}") for slot in range(5)]
STONES = [tombstone("a", 1.0), tombstone("b", 2.0)]


@pytest.fixture
def shared(tmp_path: Path) -> Callable[..., Outcome]:
    """Run a command on a database that instances share."""
    secret = tmp_path / "key-secret"
    secret.write_bytes(SECRET + b"\n")
    secret.chmod(0o600)

    def run(name: str, url: str, *, lease: str = "0.5s", **options: object) -> Outcome:
        environment = {"OPENRED_KEY_SECRET_FILE": str(secret), "OPENRED_LEASE_S": lease}
        return command(name, url, environment=environment, **options)

    return run


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An export of a file with some of everything."""
    database = tmp_path / "openred.db"
    fill(database, RECORDS, STONES)
    with opened(database) as store:
        store.save_revocations({"A" * 22: 2e9})
    command("export", database, file=str(tmp_path / "before.jsonl"))
    return tmp_path / "before.jsonl"


def lines(path: Path) -> list[bytes]:
    """The lines of an export; only the first one tells when it was made."""
    return path.read_bytes().splitlines()[1:]


def test_a_round_trip_through_a_server_changes_nothing(
    exported: Path, database_url: str, tmp_path: Path, shared: Callable[..., Outcome]
) -> None:
    done = shared("import", database_url, file=str(exported))
    said = rf"imported 5 nodes, 2 tombstones, 2 secrets, digest [0-9a-f]{{16}} into {database_url}"
    assert re.fullmatch(said, done.said[0])
    shared("export", database_url, file=str(tmp_path / "between.jsonl"))
    assert lines(tmp_path / "between.jsonl") == lines(exported)
    command("import", tmp_path / "after.db", file=str(tmp_path / "between.jsonl"))
    with opened(tmp_path / "after.db") as store:
        assert (records_of(store), tombstones_of(store), store.load_vitals()) == (RECORDS, STONES, VITALS)
        assert store.load_secret("claim_key") == CLAIM_KEY
        assert store.load_revocations() == [(b"A" * 22, 2e9)]


def test_an_instance_goes_on_with_what_was_imported(
    exported: Path, postgres: PgServer, database_url: str, shared: Callable[..., Outcome]
) -> None:
    shared("import", database_url, file=str(exported))
    row = postgres.execute("SELECT term, holder FROM openred.cluster", database_url.rpartition("/")[2])
    assert row == "1|", "nobody has to wait for the lease"
    with leading(database_url, sealer=Sealer(SECRET, entropy=os.urandom)) as store:
        assert (store.watch().term, store.load_secret("claim_key")) == (2, CLAIM_KEY)
        store.commit(batch(record(9)))
        assert [row.slot for row in records_of(store)] == [0, 1, 2, 3, 4, 9]


def test_a_bad_export_leaves_an_empty_database(
    exported: Path, database_url: str, tmp_path: Path, shared: Callable[..., Outcome]
) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"\n".join(exported.read_bytes().splitlines()[:-1]))
    with pytest.raises(StoreError, match="cut off"):
        shared("import", database_url, file=str(cut))
    shared("import", database_url, file=str(exported))


def test_an_import_that_breaks_off_leaves_nothing(
    exported: Path, postgres: PgServer, database_url: str, shared: Callable[..., Outcome]
) -> None:
    """Revocations come last, after all rows."""
    with leading(database_url) as store:
        store.goodbye()
    name = database_url.rpartition("/")[2]
    postgres.execute("ALTER TABLE openred.revocation ADD CHECK (false)", name)
    with pytest.raises(StoreError, match="SQLSTATE 23514"):
        shared("import", database_url, file=str(exported))
    tables = ("node", "tombstone", "secret")
    counts = [postgres.execute(f"SELECT count(*) FROM openred.{table}", name) for table in tables]
    assert counts == ["0", "0", "0"]
    assert postgres.execute("SELECT term, holder, seq FROM openred.cluster", name) == "1||0"


def test_a_directory_is_never_imported_over(
    exported: Path, database_url: str, shared: Callable[..., Outcome]
) -> None:
    with leading(database_url) as store:
        store.commit(batch(record(1)))
        store.goodbye()
    with pytest.raises(StoreError, match="is not an empty directory; make another database"):
        shared("import", database_url, file=str(exported))
    with pytest.raises(StoreError, match="--replace sets a file aside"):
        shared("import", database_url, file=str(exported), replace=True)


def test_nothing_is_imported_beside_an_instance(
    exported: Path, database_url: str, shared: Callable[..., Outcome]
) -> None:
    timing = access().timing._replace(renew_s=0.2, shown_s=1e9)
    with leading(database_url, timing=timing) as store:
        store.shown_s = 0.0
        with pytest.raises(StoreError, match="an instance leads; stop all of them first"):
            shared("import", database_url, lease="2s", file=str(exported))
        store.renew()


def test_an_import_takes_a_lease_that_nobody_renews(
    exported: Path, database_url: str, shared: Callable[..., Outcome]
) -> None:
    with leading(database_url):
        pass
    shared("import", database_url, file=str(exported))


def test_a_shared_database_is_verified(
    exported: Path, postgres: PgServer, database_url: str, shared: Callable[..., Outcome]
) -> None:
    shared("import", database_url, file=str(exported))
    done = shared("verify", database_url)
    assert done.code == 0
    assert done.said[0].startswith(f"store {database_url}: 5 nodes, 2 tombstones, revision 1000, digest ")
    assert done.said[-1] == "all agree"
    name = database_url.rpartition("/")[2]
    postgres.execute("UPDATE openred.node SET state = 3 WHERE slot = 2", name)
    done = shared("verify", database_url)
    assert (done.code, done.said[-1]) == (1, "1 of these are wrong")
    assert "node-2" in done.said[0]


def test_another_key_secret_is_told(
    exported: Path, database_url: str, tmp_path: Path, shared: Callable[..., Outcome]
) -> None:
    shared("import", database_url, file=str(exported))
    (tmp_path / "key-secret").write_bytes(b"another secret of nobody")
    with pytest.raises(StoreError, match="cannot unseal 'claim_key'"):
        shared("export", database_url, file="-")


def test_snapshots_of_a_server_are_its_own(database_url: str, shared: Callable[..., Outcome]) -> None:
    with pytest.raises(StoreError, match="is on a server, whose own backups take the place of snapshots"):
        shared("snapshot", database_url)


class TestBackup:
    """A dump of the schema is the directory, with its lineage and its sealed secrets."""

    def dump(self, bench: Bench, url: str, file: Path) -> None:
        command = [bench.binaries / "pg_dump", "--format=custom", "--schema=openred", "-f", file, "-d", url]
        subprocess.run(command, check=True, timeout=60)

    def restore(self, bench: Bench, url: str, file: Path) -> None:
        subprocess.run([bench.binaries / "pg_restore", "-d", url, file], check=True, timeout=60)

    def test_a_restored_backup_is_the_directory_as_it_was(
        self, postgres_bench: Bench, postgres: PgServer, database_url: str, tmp_path: Path
    ) -> None:
        sealer = Sealer(SECRET, entropy=os.urandom)
        with leading(database_url, sealer=sealer) as store:
            heard = RECORDS[1]._replace(last_seen_at=7.0, last_seen_s=8.0)
            store.commit(batch(*RECORDS, tombstones=STONES, kept=[("name", b"\0value")]))
            store.commit(batch(pages=pages_of([heard])))
            store.save_secret("claim_key", CLAIM_KEY)
            store.save_revocations({"token": 1.5})
            row = store.watch()
            self.dump(postgres_bench, database_url, tmp_path / "dump")
            store.commit(batch(record(9)))
        url = postgres.create_database()
        self.restore(postgres_bench, url, tmp_path / "dump")
        assert CLAIM_KEY not in (tmp_path / "dump").read_bytes()
        with leading(url, "another", sealer=sealer) as restored:
            expected = [RECORDS[0], heard, *RECORDS[2:]]
            assert (records_of(restored), tombstones_of(restored)) == (expected, STONES)
            assert restored.load_secret("claim_key") == CLAIM_KEY
            assert list(restored.load_kept()) == [("name", b"\0value")]
            assert restored.load_revocations() == [(b"token", 1.5)]
            found = restored.watch()
            assert (found.lineage, found.seq, found.tag) == (row.lineage, row.seq, row.tag)
            restored.commit(batch(record(9)))
        postgres.drop_database(url.rpartition("/")[2])

    def test_a_restored_older_backup_is_found_by_a_leader(
        self, postgres_bench: Bench, postgres: PgServer, database_url: str, tmp_path: Path
    ) -> None:
        with leading(database_url) as store:
            store.commit(batch(record(1)))
            self.dump(postgres_bench, database_url, tmp_path / "dump")
            store.commit(batch(record(2)))
            name = database_url.rpartition("/")[2]
            postgres.drop_database(name)
            postgres.create_database(name)
            self.restore(postgres_bench, database_url, tmp_path / "dump")
            with pytest.raises(RolledBack) as raised:
                store.commit(batch(record(3)))
            assert raised.value.seq == 1
            assert raised.value.common_s is not None

"""The wiring makes a few decisions of its own; tests/e2e shows that all parts work together."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from openred_central.api.feed.broadcast import Broadcast
from openred_central.api.feed.event_log import EventFeed, EventLog
from openred_central.api.routes import install
from openred_central.api.service import Api
from openred_central.reporting.figures import LiveFigures, Parts
from openred_central.security.sessions import CLAIM_KEY, SESSION_KEY
from openred_central.server.alone import Alone
from openred_central.server.assembly import Assembly, descriptors_needed
from openred_central.server.beginning import UNSERVED_LOGGED_MAX, log_unusable
from openred_central.settings.config import Configuration
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import MemoryStore, Store
from tests.support.building import DictStore
from tests.support.clock import VirtualClock
from tests.support.minting import Here
from tests.support.records import alter, batch, opened, record


class Assembled:
    """The parts of one server on `store` with `configuration`; its entropy repeats `byte`."""

    def __init__(self, configuration: Configuration, store: Store, writer: ThreadPoolExecutor, byte: bytes):
        assembly = Assembly(
            configuration,
            VirtualClock(),
            random=lambda: 0.5,
            entropy=lambda count: byte * count,
            started_s=0.0,
            proofs_from_s=0.0,
        )
        directory, attended = assembly.load(store)
        self.front = front = Alone(assembly)
        begun = assembly.begin(store, len(directory))
        saver = assembly.saver(directory, attended, store, writer, None)
        feed = EventFeed(EventLog("run"), directory.nodes)
        prober = assembly.prober(directory, attended)
        self.parts: Parts = assembly.parts(
            front, directory, attended, saver, prober, feed, None, store, b"run", None
        )
        broadcast = Broadcast(feed, LiveFigures(self.parts), assembly.clock.wall_s, subscribers_max=1)
        self.api: Api = assembly.api(
            self.parts,
            front,
            broadcast,
            begun,
            assembly.revocation_saver(store, writer, begun.revoked),
            Here(),
            lambda: False,
            assembly.clock.monotonic_s,
        )


@contextmanager
def assembled(
    configuration: Configuration, store: Store | None = None, byte: bytes = b"\1"
) -> Iterator[Assembled]:
    store = store or MemoryStore()
    store.open()
    with closing(store), ThreadPoolExecutor(max_workers=1) as writer:
        yield Assembled(configuration, store, writer, byte)


def test_a_claim_outlives_the_server(tmp_path: Path) -> None:
    configuration = Configuration(database=str(tmp_path / "openred.db"))
    with assembled(configuration, SqliteStore(tmp_path / "openred.db"), b"\1") as first:
        claim = first.api.prover.claims.claim("alice", 1.0)
    with assembled(configuration, SqliteStore(tmp_path / "openred.db"), b"\2") as second:
        assert second.api.prover.claims.is_valid(claim, "alice", 1.0)


def test_a_session_ends_with_the_server_unless_instances_share_the_store() -> None:
    alone = Configuration(database="memory:")
    shared = Configuration(database="postgresql://user@host/name", key_secret_file="secret")
    for configuration, holds in ((alone, False), (shared, True)):
        store = DictStore()
        with assembled(configuration, store, b"\1") as first:
            key = first.api.prover.sessions.key
        with assembled(configuration, store, b"\2") as second:
            assert (second.api.prover.sessions.key == key) is holds
        assert (store.load_secret(SESSION_KEY) is not None) is holds
    store.save_secret(SESSION_KEY, b"damaged")
    with assembled(shared, store, b"\3") as third:
        assert third.api.prover.sessions.key == store.load_secret(SESSION_KEY) == b"\3" * 32


def test_a_damaged_key_of_claims_is_replaced_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configuration = Configuration(database=str(tmp_path / "openred.db"))
    with assembled(configuration, SqliteStore(tmp_path / "openred.db"), b"\1") as first:
        claim = first.api.prover.claims.claim("alice", 1.0)
    assert caplog.text == "", "nothing is wrong when the first key is made"
    alter(tmp_path / "openred.db", f"UPDATE secret SET value = x'00' WHERE name = '{CLAIM_KEY}'")
    with assembled(configuration, SqliteStore(tmp_path / "openred.db"), b"\2") as second:
        assert not second.api.prover.claims.is_valid(claim, "alice", 1.0)
    assert "the key of claims in" in caplog.text
    assert "is damaged, with 1 of 32 bytes" in caplog.text
    caplog.clear()
    with assembled(configuration, SqliteStore(tmp_path / "openred.db"), b"\3") as third:
        new = second.api.prover.claims.claim("alice", 1.0)
        assert third.api.prover.claims.is_valid(new, "alice", 1.0)
    assert caplog.text == ""


def test_a_key_of_claims_missing_beside_nodes_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "openred.db") as store:
        store.commit(batch(record(1, last_seen_s=1.0)))
    with assembled(Configuration(), SqliteStore(tmp_path / "openred.db")):
        assert "is missing: the server made a new one, so earlier claims are void" in caplog.text


def test_a_lowered_factor_of_patience_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path / "openred.db") as store:
        store.commit(batch(*(record(slot, last_seen_s=1.0, longest=200) for slot in range(3))))
    told = []
    for factor in (2.0, 2.0, 1.0, 1.0):
        caplog.clear()
        store = SqliteStore(tmp_path / "openred.db")
        with assembled(Configuration(patience_factor_max=factor), store) as server:
            saving, now = server.parts.directory.saving, server.parts.attended.now()
            while saving.pending and (changes := saving.take_changes(10, now)) is not None:
                store.commit(changes)
        told.append([line for line in caplog.messages if "PATIENCE" in line])
    lowered = (
        "OPENRED_PATIENCE_FACTOR_MAX was lowered from 2 to 1: 3 nodes have an earlier deadline than they "
        "were told"
    )
    assert told == [[], [], [lowered], []]


def test_unusable_rows_are_logged_with_their_slots_up_to_a_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = UNSERVED_LOGGED_MAX + 3
    with opened(tmp_path / "openred.db") as store:
        store.commit(batch(*(record(slot, last_seen_s=1.0, state=9) for slot in range(count))))
    with assembled(Configuration(), SqliteStore(tmp_path / "openred.db")) as server:
        caplog.clear()
        log_unusable(server.parts.directory.nodes.unserved, "openred.db")
    lines = [entry.getMessage() for entry in caplog.records]
    assert lines[0] == (
        "unusable row in openred.db, where it stays as it is: slot 0, node 'node-0': "
        "its state is 9, which is not in 1 to 7"
    )
    assert lines[-1] == "3 more rows are unusable; `openred-central verify` names them all"
    assert len(lines) == UNSERVED_LOGGED_MAX + 1


def test_no_session_outlives_the_server(tmp_path: Path) -> None:
    configuration = Configuration(database=str(tmp_path / "openred.db"))
    sessions = []
    for byte in (b"\1", b"\2"):
        with assembled(configuration, SqliteStore(tmp_path / "openred.db"), byte) as server:
            sessions.append(server.api.prover.sessions.mint("alice", "key", 1.0, 1.0, 0))
    assert sessions[0] != sessions[1]


def test_a_damaged_revocation_is_logged_and_all_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        store.save_revocations({"A" * 22: 2e9, "B" * 22: 2e9})
    alter(path, f"UPDATE revocation SET token_id = 'torn' WHERE token_id = '{'B' * 22}'")
    with assembled(Configuration(), SqliteStore(path)) as server:
        assert "A" * 22 in server.api.revocations
        assert len(server.api.revocations) == 1
    warning = "openred.db, where it stays as it is: b'torn' is revoked, which is no id of a token"
    assert warning in caplog.text


def test_a_directory_in_memory_takes_no_snapshots(tmp_path: Path) -> None:
    with assembled(Configuration(database="memory:")) as server:
        assert server.parts.snapshotter is None
    with assembled(Configuration(database=str(tmp_path / "openred.db"))) as server:
        assert server.parts.snapshotter is not None


@pytest.mark.parametrize("fast_path", [True, False])
def test_a_setting_switches_the_fast_path(fast_path: bool) -> None:
    with assembled(Configuration(database="memory:", fast_path=fast_path)) as server:
        install(server.front.engine, server.api)
        prepared = [route.template for route in server.front.engine.routes() if route.prepare is not None]
        assert prepared == (["/heartbeat/{node_id}"] if fast_path else [])


def test_the_limit_of_open_files_covers_connections_and_probes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
    try:
        with assembled(Configuration(connections_max=1_000, probe="tcp", probe_concurrency=50)) as server:
            assert server.front.engine.limits.connections_max == 1_000
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == descriptors_needed(1_000, 50)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

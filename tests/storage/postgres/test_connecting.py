"""A connection leads to the primary, whichever host that is; each failure says what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from openred_central.storage.postgres.store import PostgresStore
from openred_central.storage.store import PassingError, StoreError
from tests.support.postgres import Bench, PgServer
from tests.support.postgres_store import access, leading
from tests.support.records import batch, record, records_of
from tests.support.running import until


@contextmanager
def opened(url: str, **options: object) -> Iterator[PostgresStore]:
    store = PostgresStore(url, access(**options))
    try:
        store.open()
        yield store
    finally:
        store.close()


def fails(url: str, reason: str, *, passes: bool, **options: object) -> None:
    with pytest.raises(StoreError, match=reason) as raised, opened(url, **options):
        pass
    assert isinstance(raised.value, PassingError) == passes
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never says anything."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener


@pytest.fixture
def silent_port(silent: socket.socket) -> int:
    port: int = silent.getsockname()[1]
    return port


def connections_to(listener: socket.socket) -> int:
    """Return how many connections came since the last call."""
    listener.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def disconnect(server: PgServer, url: str) -> None:
    """End all connections to a database, and wait until they have ended."""
    sessions = f"FROM pg_stat_activity WHERE datname = '{url.rpartition('/')[2]}'"
    server.execute(f"SELECT pg_terminate_backend(pid) {sessions}")
    until(lambda: server.execute(f"SELECT count(*) {sessions}") == "0", "the connections to end")


def hosts(url: str, *ports: int) -> str:
    """Return `url` with further hosts before its own."""
    before = "".join(f"127.0.0.1:{port}," for port in ports)
    return url.replace("@", f"@{before}")


def test_hosts_that_are_dead_or_silent_are_passed_over(
    database_url: str, silent: socket.socket, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The host that works has as long as the silent one.
    monkeypatch.setattr("openred_central.storage.postgres.connecting.HOST_TIMEOUT_S", 2.0)
    with leading(hosts(database_url, 1, silent_port)) as store:
        store.commit(batch(record(1)))
        assert records_of(store) == [record(1)]
        assert connections_to(silent) == 1, "then the host that works is tried first"


def test_every_host_that_fails_is_named(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openred_central.storage.postgres.connecting.HOST_TIMEOUT_S", 0.2)
    url = f"postgresql://user@127.0.0.1:1,127.0.0.1:{silent_port}/name"
    fails(url, rf"cannot use 127\.0\.0\.1:1: .*failed.*; cannot use 127\.0\.0\.1:{silent_port}", passes=True)


def test_only_a_primary_is_taken(postgres_bench: Bench) -> None:
    primary = postgres_bench.server()
    url = primary.create_database()
    with leading(url) as store:
        store.commit(batch(record(1)))
    standby = primary.standby()
    of_standby = url.replace(str(primary.port), str(standby.port))
    fails(of_standby, "is a standby", passes=True)
    with leading(hosts(url, standby.port)) as store:
        store.commit(batch(record(2)))
        assert store.watch().seq == 2
        primary.kill()
        with pytest.raises(PassingError):
            store.watch()
        standby.promote()
        assert store.watch().seq in (1, 2), "the standby may lack what it was not waited for"
    standby.end()


def test_another_database_system_is_no_successor(postgres_bench: Bench, database_url: str) -> None:
    # Servers of one bench are copies of one system.
    with Bench(postgres_bench.binaries) as other_bench:
        stray = other_bench.server()
        stray.create_database(database_url.rpartition("/")[2])
        with opened(database_url), opened(hosts(database_url, stray.port)) as store:
            store.watch()
            stray.kill()
            # The store may notice only now that its connection is gone.
            with suppress(PassingError):
                store.watch()
            with pytest.raises(StoreError, match="is another database system"):
                store.watch()


@pytest.fixture(scope="module")
def server(postgres_bench: Bench) -> Iterator[PgServer]:
    """A server that asks for a password."""
    server = postgres_bench.server(password="first")
    yield server
    server.end()


@pytest.fixture
def url(server: PgServer) -> str:
    return server.create_database().replace(":first@", "@")


class TestPassword:
    def test_it_comes_from_a_file(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("first\n")
        with opened(url, password_file=file) as store:
            assert store.load_vitals() is None

    def test_a_wrong_one_is_an_error_of_the_settings(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("wrong")
        fails(url, r"28P01.*OPENRED_DATABASE_PASSWORD_FILE", passes=False, password_file=file)

    @pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"a" * 2_000])
    def test_a_file_without_a_password_is_refused(self, content: bytes, url: str, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_bytes(content)
        fails(url, f"{file} (has|is no text)", passes=False, password_file=file)

    def test_a_missing_file_is_named(self, url: str, tmp_path: Path) -> None:
        missing = tmp_path / "none"
        fails(url, f"cannot read {missing}", passes=False, password_file=missing)

    def test_it_changes_while_the_store_is_open(self, server: PgServer, url: str, tmp_path: Path) -> None:
        server.execute("CREATE ROLE changing LOGIN SUPERUSER PASSWORD 'old'")
        file = tmp_path / "password"
        file.write_text("old")
        with leading(url.replace("postgres@", "changing@"), password_file=file) as store:
            server.execute("ALTER ROLE changing PASSWORD 'new'")
            file.write_text("new")
            store.commit(batch(record(1)))
            disconnect(server, url)
            store.commit(batch(record(2)))
            assert [row.slot for row in records_of(store)] == [1, 2]
            assert store.watch().seq == 2


def test_a_missing_database_is_an_error_of_the_settings(postgres: PgServer) -> None:
    fails(postgres.url("nowhere"), r"3D000.*create the database", passes=False)


def test_a_database_of_another_encoding_is_refused(postgres: PgServer) -> None:
    postgres.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    fails(postgres.url("ascii"), "has the encoding SQL_ASCII, allowed is UTF8", passes=False)


def test_a_read_only_database_waits_until_it_is_writable(postgres: PgServer, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    with leading(database_url) as store:
        store.commit(batch(record(1)))
        postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        disconnect(postgres, database_url)
        # It may find the connection broken first.
        with suppress(PassingError):
            store.renew()
        with pytest.raises(PassingError, match=r"read-only.*SQLSTATE 25006.*make the primary writable"):
            store.renew()
        with pytest.raises(PassingError, match="25006"):
            store.commit(batch(record(2)))
        assert records_of(store) == [record(1)]
        postgres.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        disconnect(postgres, database_url)
        store.commit(batch(record(2)))
        assert (store.seq, store.watch().seq) == (2, 2)


@pytest.mark.parametrize("pooled", [True, False])
def test_a_store_works_with_and_without_a_pooler(pooled: bool, database_url: str) -> None:
    with leading(database_url, is_pooled=pooled) as store:
        store.commit(batch(record(1)))
        store.save_secret("name", b"value")
        assert (records_of(store), store.load_secret("name")) == ([record(1)], b"value")


def test_tls_that_is_demanded_and_not_there_is_an_error(database_url: str) -> None:
    assert ssl.HAS_TLSv1_3
    with pytest.raises(StoreError, match="SSL"), opened(f"{database_url}?sslmode=require"):
        pass

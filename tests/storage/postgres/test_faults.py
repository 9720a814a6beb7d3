"""Each failure of the database is one line that says what to do, and whether it may pass by itself."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import asyncpg
import pytest

from openred_central.storage.postgres.faults import Interrupted, fault, is_settled
from openred_central.storage.store import PassingError, StoreError
from tests.support.postgres import PgError, PgServer
from tests.support.postgres_store import leading
from tests.support.records import batch, record, records_of
from tests.support.running import until


@contextmanager
def locked(postgres: PgServer, url: str, table: str) -> Iterator[None]:
    """Let another client hold a lock on a table."""
    name = url.rpartition("/")[2]
    sql = f"BEGIN; LOCK TABLE openred.{table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)"
    sleeping = f"FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'PgSleep'"
    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(postgres.execute, sql, name)
        try:
            until(lambda: postgres.execute(f"SELECT count(*) {sleeping}") == "1", "the lock")
            yield
        finally:
            postgres.execute(f"SELECT pg_terminate_backend(pid) {sleeping}")
            with pytest.raises(PgError):
                holding.result(30)


def test_a_lock_of_another_client_holds_up_a_commit_and_not_the_lease(
    postgres: PgServer, database_url: str
) -> None:
    with leading(database_url) as store:
        store.commit(batch(record(1)))
        with locked(postgres, database_url, "node"):
            for _ in range(2):
                with pytest.raises(PassingError, match=r"55P03.*another client holds a lock"):
                    store.commit(batch(record(2)))
                store.renew()
            assert store.watch().seq == 1
        store.commit(batch(record(2)))
        assert (store.watch().seq, records_of(store)) == (2, [record(1), record(2)])


def test_a_renewal_has_its_turn_between_attempts_at_a_commit(
    postgres: PgServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than pass while the test looks.
    monkeypatch.setattr("openred_central.storage.postgres.writing.WRITE_ATTEMPTS_MAX", 100)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with leading(database_url) as store, ThreadPoolExecutor(1) as threads:
        with locked(postgres, database_url, "node"):
            committing = threads.submit(store.commit, batch(record(1)))
            until(lambda: postgres.execute(waiting) != "0", "the commit to wait")
            store.renew()
            assert not committing.done()
        committing.result(30)
        assert records_of(store) == [record(1)]


def test_a_lock_on_the_row_of_the_lease_is_reported(postgres: PgServer, database_url: str) -> None:
    with leading(database_url) as store:
        with locked(postgres, database_url, "cluster"), pytest.raises(PassingError, match="55P03"):
            store.renew()
        store.renew()


@pytest.mark.parametrize(
    ("sqlstate", "passes", "what_to_do"),
    [
        ("53100", True, "make room on the disk of the database"),
        ("53200", True, "lacks memory"),
        ("40P01", True, "it is tried again"),
        ("57014", True, "another client holds it up"),
        ("XX001", False, "restore a backup"),
        ("42501", False, "grant the user of the URL"),
        ("22003", False, "see the log of the database"),
    ],
)
def test_a_commit_that_the_database_refuses_is_not_in_it(
    sqlstate: str, passes: bool, what_to_do: str, postgres: PgServer, database_url: str
) -> None:
    name = database_url.rpartition("/")[2]
    with leading(database_url) as store:
        store.commit(batch(record(1)))
        postgres.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = E'on\npurpose'; END $$;"
            " CREATE TRIGGER fail BEFORE INSERT ON openred.node EXECUTE FUNCTION fail()",
            name,
        )
        with pytest.raises(
            StoreError, match=rf"on purpose \(SQLSTATE {sqlstate}\); .*{what_to_do}"
        ) as raised:
            store.commit(batch(record(2)))
        assert isinstance(raised.value, PassingError) == passes
        assert not isinstance(raised.value, Interrupted)
        postgres.execute("DROP TRIGGER fail ON openred.node", name)
        store.commit(batch(record(3)))
        assert (store.watch().seq, records_of(store)) == (2, [record(1), record(3)])


@pytest.mark.parametrize("sqlstate", ["55P03", "40P01"])
def test_a_commit_is_tried_again_when_another_client_was_in_the_way_for_a_moment(
    sqlstate: str, postgres: PgServer, database_url: str
) -> None:
    name = database_url.rpartition("/")[2]
    with leading(database_url) as store:
        # A sequence goes on when the commit is rolled back.
        postgres.execute(
            "CREATE SEQUENCE tries; CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('public.tries') < 3 THEN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END IF;"
            " RETURN NULL; END $$;"
            " CREATE TRIGGER hinder BEFORE INSERT ON openred.node EXECUTE FUNCTION hinder()",
            name,
        )
        store.commit(batch(record(1)))
        assert (store.watch().seq, records_of(store)) == (1, [record(1)])
        assert postgres.execute("SELECT last_value FROM tries", name) == "3"


@pytest.mark.parametrize(
    ("error", "passes", "what_to_do"),
    [
        (ConnectionRefusedError(111, "Connection refused"), True, "start the database"),
        (TimeoutError(), True, "no answer in time"),
        (
            ssl.SSLCertVerificationError(1, "verify failed"),
            False,
            "check sslmode and sslrootcert",
        ),
        (asyncpg.ClientConfigurationError("what is written there"), False, "correct the URL"),
        (asyncpg.InterfaceError("connection is closed"), True, "it is made anew"),
        (asyncpg.InvalidPasswordError("password"), False, "OPENRED_DATABASE_PASSWORD_FILE"),
        (asyncpg.TooManyConnectionsError("too many"), True, "raise max_connections"),
        (asyncpg.CannotConnectNowError("the database system is starting up"), True, "wait for it"),
    ],
)
def test_each_error_says_what_to_do(error: Exception, passes: bool, what_to_do: str) -> None:
    found = fault("use a database", error)
    assert str(found).startswith("cannot use a database: ")
    assert what_to_do in str(found)
    assert isinstance(found, PassingError) == passes


def test_errors_that_end_a_connection_settle_nothing() -> None:
    settled = (asyncpg.LockNotAvailableError("a"), asyncpg.QueryCanceledError("a"), asyncpg.DataError("a"))
    open_ends = (
        *(asyncpg.AdminShutdownError("a"), asyncpg.CrashShutdownError("a"), asyncpg.InterfaceError("a")),
        *(asyncpg.ConnectionDoesNotExistError("a"), ConnectionResetError(), TimeoutError()),
    )
    assert list(map(is_settled, settled)) == [True] * 3
    assert list(map(is_settled, open_ends)) == [False] * 6

"""A write whose answer is lost is neither told as saved nor sent again before its outcome is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from openred_central.storage.postgres import writing
from openred_central.storage.postgres.leasing import Fenced, RolledBack
from openred_central.storage.postgres.store import PostgresStore
from openred_central.storage.store import StoreError
from tests.support.postgres import Bench, PgServer
from tests.support.postgres_store import LeadingStore, leading
from tests.support.proxy import Proxy
from tests.support.records import batch, record, records_of
from tests.support.running import until

# Lets each insertion into `node` take as long as `slow` has a row.
SLOW = """
CREATE TABLE slow (one integer);
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    WHILE EXISTS (SELECT FROM public.slow) LOOP PERFORM pg_sleep(0.01); END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER slow BEFORE INSERT ON openred.node FOR EACH ROW EXECUTE FUNCTION slow();
INSERT INTO slow VALUES (1);
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LOOK_AGAIN_S", 0.02)


class Case:
    """A store that leads through a proxy, a thread that writes, and the database behind the proxy."""

    def __init__(self, server: PgServer, url: str, proxy: Proxy, store: LeadingStore) -> None:
        self.server, self.proxy, self.store = server, proxy, store
        self.database = url.rpartition("/")[2]
        self._writer = ThreadPoolExecutor(1)

    def execute(self, sql: str) -> str:
        return self.server.execute(sql, self.database)

    def begin(self, write: Callable[[PostgresStore], None]) -> Future[None]:
        return self._writer.submit(write, self.store)

    def backend(self, event: str) -> str:
        """Wait for a process of the database that waits for `event`, and return its id."""
        found = f"SELECT min(pid) FROM pg_stat_activity WHERE datname = '{self.database}'"
        waiting = f"{found} AND wait_event = '{event}'"
        pid: str = until(lambda: self.execute(waiting), f"a backend that waits for {event}")
        return pid

    def seq(self) -> int:
        return int(self.execute("SELECT seq FROM openred.cluster"))


@contextmanager
def case_on(server: PgServer, url: str) -> Iterator[Case]:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        through = url.replace(str(server.port), str(proxy.port))
        with leading(through) as store:
            store.commit(batch(record(1)))
            yield Case(server, url, proxy, store)


@pytest.fixture
def case(postgres: PgServer, database_url: str) -> Iterator[Case]:
    with case_on(postgres, database_url) as made:
        yield made


def commit(store: PostgresStore) -> None:
    store.commit(batch(record(2)))


def test_a_commit_that_landed_is_told_once_and_not_sent_again(case: Case) -> None:
    case.proxy.swallow("to_client")
    pending = case.begin(commit)
    until(lambda: case.seq() == 2, "the commit to land")
    tag = case.execute("SELECT tag FROM openred.cluster")
    assert not pending.done()
    case.proxy.cut()
    case.proxy.restore()
    pending.result(30)
    assert case.execute("SELECT tag FROM openred.cluster") != tag, "a further fenced statement came first"
    assert (case.store.seq, case.seq()) == (2, 2)
    assert records_of(case.store) == [record(1), record(2)]
    case.store.commit(batch(record(3)))
    assert case.seq() == 3


def test_a_commit_that_did_not_land_is_sent_again(case: Case) -> None:
    case.execute(SLOW)
    pending = case.begin(commit)
    pid = case.backend("PgSleep")
    case.execute(f"SELECT pg_terminate_backend({pid})")
    until(lambda: case.backend("PgSleep") != pid, "the second attempt")
    case.execute("DELETE FROM slow")
    pending.result(30)
    assert (case.store.seq, case.seq()) == (2, 2)
    assert records_of(case.store) == [record(1), record(2)]


def test_a_commit_that_still_runs_is_waited_for(case: Case) -> None:
    case.execute(SLOW)
    pending = case.begin(commit)
    case.backend("PgSleep")
    case.proxy.cut()
    case.proxy.restore()
    # The renewal that would settle it waits for the row.
    case.backend("transactionid")
    assert not pending.done()
    case.execute("DELETE FROM slow")
    pending.result(30)
    assert (case.store.seq, case.seq()) == (2, 2)
    assert case.execute("SELECT commit_number FROM openred.node WHERE slot = 2") == "2"


@pytest.mark.parametrize("landed", [True, False])
def test_a_revocation_whose_answer_was_lost_is_stored(case: Case, landed: bool) -> None:
    # Prepared once, a statement is one message and its answer.
    case.store.save_revocations({"other": None})
    case.proxy.swallow("to_client" if landed else "to_server")
    pending = case.begin(lambda store: store.save_revocations({"token": 1.5}))
    if landed:
        until(lambda: case.execute("SELECT count(*) FROM openred.revocation") == "1", "the revocation")
    else:
        until(lambda: case.proxy.holds(b"token"), "the statement to be on its way")
    case.proxy.cut()
    case.proxy.restore()
    pending.result(30)
    assert case.execute("SELECT token_id, seq FROM openred.revocation, openred.cluster") == "token|1"


def test_a_commit_in_doubt_under_another_leader_is_fenced(case: Case, database_url: str) -> None:
    case.proxy.swallow("to_client")
    pending = case.begin(commit)
    until(lambda: case.seq() == 2, "the commit to land")
    case.proxy.cut()
    with leading(database_url, "other"):
        case.proxy.restore()
        with pytest.raises(Fenced):
            pending.result(30)


def test_a_commit_in_doubt_in_a_database_that_went_back_is_none(case: Case) -> None:
    before = case.execute("SELECT seq, tag FROM openred.cluster").replace("|", ", ")
    case.store.commit(batch(record(3)))
    case.proxy.swallow("to_client")
    pending = case.begin(commit)
    until(lambda: case.seq() == 3, "the commit to land")
    case.proxy.cut()
    case.execute(f"UPDATE openred.cluster SET (seq, tag) = ({before})")
    case.proxy.restore()
    with pytest.raises(RolledBack) as raised:
        pending.result(30)
    assert raised.value.seq == 1
    assert raised.value.common_s is not None


def test_nothing_else_is_sent_while_a_commit_is_in_doubt(case: Case) -> None:
    case.proxy.swallow("to_client")
    pending = case.begin(commit)
    until(lambda: case.seq() == 2, "the commit to land")
    case.proxy.cut()
    with ThreadPoolExecutor(2) as others:
        waiting = [others.submit(case.store.renew), others.submit(case.store.save_revocations, {"a": 1.5})]
        renewals = case.execute("SELECT renewals FROM openred.cluster")
        assert not any(each.done() for each in waiting)
        assert case.execute("SELECT renewals FROM openred.cluster") == renewals
        case.proxy.restore()
        pending.result(30)
        for each in waiting:
            each.result(30)
    assert case.store.load_revocations() == [(b"a", 1.5)]


def test_closing_ends_a_commit_in_doubt(case: Case) -> None:
    case.proxy.swallow("to_client")
    pending = case.begin(commit)
    until(lambda: case.seq() == 2, "the commit to land")
    case.proxy.cut()
    case.store.close()
    with pytest.raises(StoreError, match=r"were closed meanwhile|is closed"):
        pending.result(30)


def test_a_commit_that_was_not_sent_fails_at_once(case: Case) -> None:
    case.proxy.cut()
    # It finds the connection broken, and makes no other one.
    with pytest.raises(StoreError):
        case.store.renew()
    with pytest.raises(StoreError, match=r"cannot use 127\.0\.0\.1"):
        commit(case.store)
    case.proxy.restore()
    commit(case.store)
    assert case.seq() == 2


class TestSynchronousStandby:
    """A commit that a standby has not is visible at most; it is not told as saved."""

    @pytest.fixture
    def case(self, postgres_bench: Bench) -> Iterator[Case]:
        server = postgres_bench.server()
        url = server.create_database()
        with case_on(server, url) as made:
            server.configure("synchronous_standby_names", "nobody")
            until(lambda: server.execute("SHOW synchronous_standby_names") == "nobody", "the setting")
            # Commits wait as soon as the checkpointer has read it, too, as it does before a checkpoint.
            server.execute("CHECKPOINT")
            yield made
        server.end()

    def test_a_cancelled_wait_for_a_standby_saves_nothing(self, case: Case) -> None:
        pending = case.begin(commit)
        pid = case.backend("SyncRep")
        case.execute(f"SELECT pg_cancel_backend({pid})")
        until(lambda: case.seq() == 2, "the commit to be visible")
        # The renewal that would settle it waits as well.
        case.backend("SyncRep")
        assert not pending.done()
        case.server.configure("synchronous_standby_names", "")
        pending.result(30)
        assert (case.store.seq, case.seq()) == (2, 2)

    def test_a_commit_that_waits_too_long_stays_invisible(
        self, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writing, "WRITE_TIMEOUT_S", 0.2)
        monkeypatch.setattr(writing, "RENEW_TIMEOUT_S", 0.2)
        pending = case.begin(commit)
        case.backend("SyncRep")
        # The connection is given up, and another one looks at the row again and again.
        case.backend("transactionid")
        assert (case.seq(), pending.done()) == (1, False)
        case.server.configure("synchronous_standby_names", "")
        pending.result(30)
        assert (case.store.seq, case.seq()) == (2, 2)

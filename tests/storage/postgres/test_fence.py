"""Only the run that leads writes, from its own last commit on; nothing else ever gets into the database."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from openred_central.directory.state.changes import Vitals
from openred_central.storage.postgres.leasing import Conflict, Fenced, RolledBack
from openred_central.storage.postgres.store import PostgresStore
from openred_central.storage.store import StoreError
from tests.support.postgres import PgServer
from tests.support.postgres_store import LeadingStore, access, leading
from tests.support.records import batch, pages_of, record, records_of, tombstone, tombstones_of
from tests.support.running import until

# Each write of a store, by its name.
WRITES: dict[str, Callable[[PostgresStore], object]] = {
    "commit": lambda store: store.commit(
        batch(record(1), tombstones=[tombstone("name")], pages=pages_of([record(2)]), kept=[("a", b"a")])
    ),
    "secret": lambda store: store.save_secret("name", b"value"),
    "revocations": lambda store: store.save_revocations({"token": 1.5}),
    "renew": lambda store: store.renew(),
    "goodbye": lambda store: store.goodbye(),
}
TABLES = ("cluster", "node", "tombstone", "seen", "kept", "revocation", "secret")


def content(postgres: PgServer, url: str) -> str:
    """All that a database holds."""
    name = url.rpartition("/")[2]
    return "\n".join(postgres.execute(f"SELECT * FROM openred.{table} ORDER BY 1", name) for table in TABLES)


def change(postgres: PgServer, url: str, sql: str) -> str:
    """Change a database as another program would."""
    return postgres.execute(sql, url.rpartition("/")[2])


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_run_that_lost_the_lease_writes_nothing(
    write: Callable[[PostgresStore], object], postgres: PgServer, database_url: str
) -> None:
    with leading(database_url, "former") as former:
        former.commit(batch(record(1)))
        with leading(database_url, "next"):
            before = content(postgres, database_url)
            with pytest.raises(Fenced, match=r"next leads in term 2, this run led in term 1"):
                write(former)
            assert content(postgres, database_url) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_run_that_never_led_writes_nothing(
    write: Callable[[PostgresStore], object], postgres: PgServer, database_url: str
) -> None:
    store = PostgresStore(database_url, access())
    store.open()
    before = content(postgres, database_url)
    with pytest.raises(Fenced, match="does not lead"):
        write(store)
    assert content(postgres, database_url) == before
    store.close()


def test_a_fenced_run_stays_fenced_until_it_takes_the_lease_again(database_url: str) -> None:
    with leading(database_url, "former") as former:
        with leading(database_url, "next") as following:
            following.commit(batch(record(1)))
            with pytest.raises(Fenced):
                former.commit(batch(record(2)))
        with pytest.raises(Fenced):
            former.renew()
        former.lead()
        former.commit(batch(record(2)))
        assert (former.watch().term, former.watch().seq, former.seq) == (3, 2, 2)
        assert records_of(former) == [record(1), record(2)]


def test_the_lease_is_taken_only_as_it_was_seen(database_url: str) -> None:
    with leading(database_url, "one") as one:
        other = PostgresStore(database_url, access("other"))
        other.open()
        seen = other.watch()
        one.renew()
        assert not other.take_lease(seen, 0, {}, 0.0), "the leader has renewed it since"
        seen = other.watch()
        assert other.take_lease(seen, 7, {"name": "other"}, 5.5)
        row = one.watch()
        assert (row.term, row.holder, row.leader, row.at) == (8, "other", {"name": "other"}, 5.5)
        assert not one.take_lease(seen, 0, {}, 0.0)
        other.close()


def test_commits_are_numbered_without_gaps(database_url: str) -> None:
    with leading(database_url) as store:
        assert (store.seq, store.watch().seq) == (0, 0)
        tags = set()
        for number in range(1, 4):
            store.commit(batch(record(number), vitals=Vitals(float(number), number, 0.5)))
            store.save_secret("name", b"%d" % number)
            store.save_revocations({"token": 1.5})
            store.renew()
            row = store.watch()
            assert (store.seq, row.seq, row.attended_s) == (number, number, number)
            tags.add(row.tag)
        assert len(tags) == 3, "each commit has a tag of its own"


def test_each_success_confirms_that_this_run_led_when_it_was_sent(database_url: str) -> None:
    now = [100.0]
    with leading(database_url, elapsed_s=lambda: now[0]) as store:
        assert store.confirmed_s == 100.0
        for write in (WRITES["renew"], WRITES["commit"], WRITES["secret"], WRITES["revocations"]):
            now[0] += 1
            write(store)
            assert store.confirmed_s == now[0]
        with leading(database_url, "other"):
            now[0] += 1
            with pytest.raises(Fenced):
                store.renew()
            assert store.confirmed_s == now[0] - 1


def test_a_lease_that_was_given_back_has_no_holder(database_url: str) -> None:
    with leading(database_url) as store:
        store.goodbye()
        row = store.watch()
        assert (row.holder, row.leader) == ("", {})
        with pytest.raises(Fenced):
            store.commit(batch(record(1)))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE openred.node SET revision = 100 WHERE slot = 3",
        "UPDATE openred.node SET node_id = 'node-2' WHERE slot = 1",
    ],
    ids=["a newer record", "a name in another slot"],
)
def test_rows_of_a_second_writer_are_never_written_over(
    statement: str, postgres: PgServer, database_url: str
) -> None:
    with leading(database_url) as store:
        store.commit(batch(record(1), record(3)))
        change(postgres, database_url, statement)
        before = content(postgres, database_url)
        refused = batch(record(2), record(3, region="new"), tombstones=[tombstone("name")])
        for write in (lambda: store.commit(refused), lambda: store.commit(batch(record(4))), store.renew):
            # This run does not know what is stored: in this term it writes nothing any more.
            with pytest.raises(Conflict, match="another program has written to it, or this is a bug"):
                write()
        assert content(postgres, database_url) == before, "nothing of the batch is there"
        store.lead()
        with pytest.raises(Conflict):
            store.commit(refused)
        # Another term did not help, and the next one would not either.
        store.commit(batch(record(4)))
        assert store.watch().seq == 2


def test_names_may_swap_their_slots(database_url: str) -> None:
    with leading(database_url) as store:
        store.commit(batch(record(1), record(2)))
        swapped = [record(1, node_id="node-2", revision=9), record(2, node_id="node-1", revision=9)]
        store.commit(batch(*swapped))
        assert records_of(store) == swapped


class TestRollback:
    """A database that went back is found before anything is written into it."""

    def rolled_back(self, postgres: PgServer, store: LeadingStore, statement: str) -> RolledBack:
        change(postgres, store.location, statement)
        before = content(postgres, store.location)
        with pytest.raises(RolledBack) as raised:
            store.commit(batch(record(5)))
        assert content(postgres, store.location) == before
        with pytest.raises(RolledBack):
            store.save_secret("name", b"value")
        return raised.value

    def test_the_last_common_commit_is_told(self, postgres: PgServer, database_url: str) -> None:
        now = [100.0]
        with leading(database_url, elapsed_s=lambda: now[0]) as store:
            store.commit(batch(record(1)))
            tag = store.watch().tag
            now[0] += 50
            store.commit(batch(record(2)))
            now[0] += 7
            store.commit(batch(record(3)))
            found = self.rolled_back(postgres, store, f"UPDATE openred.cluster SET seq = 1, tag = {tag}")
            assert (found.seq, found.common_s) == (1, 7.0)

    def test_a_commit_of_another_past_is_no_common_one(self, postgres: PgServer, database_url: str) -> None:
        with leading(database_url) as store:
            store.commit(batch(record(1)))
            found = self.rolled_back(postgres, store, "UPDATE openred.cluster SET tag = 5")
            assert (found.seq, found.common_s) == (1, None)

    def test_the_loss_of_a_secret_is_found_too(self, postgres: PgServer, database_url: str) -> None:
        with leading(database_url) as store:
            store.commit(batch(record(1)))
            tag = store.watch().tag
            store.save_secret("name", b"value")
            found = self.rolled_back(postgres, store, f"UPDATE openred.cluster SET tag = {tag}")
            assert found.common_s is not None

    def test_the_run_goes_on_with_numbers_above_all_known(
        self, postgres: PgServer, database_url: str
    ) -> None:
        with leading(database_url) as store:
            tags = []
            for number in range(3):
                store.commit(batch(record(number)))
                tags.append(store.watch().tag)
            self.rolled_back(postgres, store, f"UPDATE openred.cluster SET seq = 1, tag = {tags[0]}")
            store.go_on_after_rollback()
            store.commit(batch(record(5)))
            row = store.watch()
            assert (row.term, row.seq, store.seq) == (1, 4, 4)
            store.commit(batch(record(6)))
            assert store.watch().seq == 5

    def test_the_lease_is_renewed_again(self, postgres: PgServer, database_url: str) -> None:
        with leading(database_url, timing=access().timing._replace(renew_s=0.01, shown_s=1e9)) as store:
            store.shown_s = 0.0
            tag = store.watch().tag
            store.commit(batch(record(1)))
            self.rolled_back(postgres, store, f"UPDATE openred.cluster SET seq = 0, tag = {tag}")
            # Meanwhile the renewals have ended.
            time.sleep(0.1)
            store.go_on_after_rollback()
            renewals = store.watch().renewals
            until(lambda: store.watch().renewals > renewals + 3, "renewals")

    def test_a_lost_term_is_taken_again(self, postgres: PgServer, database_url: str) -> None:
        with leading(database_url, "former") as former:
            former.commit(batch(record(1)))
            before = former.watch()
            with leading(database_url) as store:
                store.commit(batch(record(2)))
                found = self.rolled_back(
                    postgres,
                    store,
                    f"UPDATE openred.cluster SET term = 1, holder = 'former', seq = 1, tag = {before.tag}",
                )
                assert found.common_s is not None, "there this run took the lease"
                store.go_on_after_rollback()
                row = store.watch()
                assert (row.term, row.holder, row.leader) == (3, "run-1", {"name": "run-1"})
                store.commit(batch(record(3)))
                assert store.watch().seq == 3
            with pytest.raises(Fenced):
                former.commit(batch(record(9)))

    def test_a_past_in_which_a_former_leader_goes_on_is_left_to_it(
        self, postgres: PgServer, database_url: str
    ) -> None:
        with leading(database_url, "former") as former:
            former.commit(batch(record(1)))
            before = former.watch()
            with leading(database_url) as store:
                self.rolled_back(
                    postgres,
                    store,
                    f"UPDATE openred.cluster SET term = 1, holder = 'former', seq = 1, tag = {before.tag}",
                )
                former.commit(batch(record(9)))
                after = content(postgres, database_url)
                for attempt in (store.go_on_after_rollback, lambda: store.commit(batch(record(2)))):
                    with pytest.raises(RolledBack) as raised:
                        attempt()
                    assert raised.value.common_s is None
                assert content(postgres, database_url) == after

    def test_another_leader_of_the_other_past_is_not_pushed_aside(
        self, postgres: PgServer, database_url: str
    ) -> None:
        with leading(database_url) as store:
            store.commit(batch(record(1)))
            self.rolled_back(postgres, store, "UPDATE openred.cluster SET seq = 0, tag = 0")
            with leading(database_url, "other"):
                with pytest.raises(Fenced):
                    store.go_on_after_rollback()
                with pytest.raises(Fenced):
                    store.commit(batch(record(2)))


def test_another_holder_of_the_same_term_fences(postgres: PgServer, database_url: str) -> None:
    """After a database went back to before the lease was taken, another run may take the term."""
    with leading(database_url) as store:
        store.commit(batch(record(1)))
        change(postgres, database_url, "UPDATE openred.cluster SET holder = 'other', seq = 0, tag = 0")
        with pytest.raises(Fenced, match="leads in term 1"):
            store.commit(batch(record(2)))
        with pytest.raises(StoreError, match="nothing was rolled back"):
            store.go_on_after_rollback()


@pytest.mark.parametrize("leader", ["[1]", "null", '"a"', "7"])
def test_a_leader_that_is_described_by_hand_has_no_description(
    leader: str, postgres: PgServer, database_url: str
) -> None:
    with leading(database_url) as store:
        change(postgres, database_url, f"UPDATE openred.cluster SET leader = '{leader}'")
        assert store.watch().leader == {}
        with leading(database_url, "other"), pytest.raises(Fenced, match="other leads"):
            store.renew()


def test_another_directory_in_the_same_place_is_refused(postgres: PgServer, database_url: str) -> None:
    with leading(database_url) as store:
        change(postgres, database_url, "UPDATE openred.cluster SET lineage = 'another'")
        with pytest.raises(StoreError, match=r"holds another directory \(another\) than before"):
            store.watch()


def test_the_lease_is_renewed_while_the_main_loop_is_seen(database_url: str) -> None:
    with leading(database_url, timing=access().timing._replace(renew_s=0.02)) as store:
        store.shown_s = time.monotonic()
        first = store.watch().renewals
        deadline_s = time.monotonic() + 20
        while store.watch().renewals < first + 3:
            assert time.monotonic() < deadline_s
            store.shown_s = time.monotonic()
        store.shown_s = time.monotonic() - 3
        # One may be on its way.
        store.renew()
        renewals = store.watch().renewals
        time.sleep(0.2)
        assert store.watch().renewals == renewals


def test_tombstones_and_records_come_back_from_one_commit(database_url: str) -> None:
    with leading(database_url) as store:
        WRITES["commit"](store)
        assert (records_of(store), tombstones_of(store)) == ([record(1)], [tombstone("name")])

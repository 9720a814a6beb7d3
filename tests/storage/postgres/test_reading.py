"""All loads of a reading show one moment, whatever is committed meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.pages import PAGE_SLOTS
from openred_central.storage.seen import rows_of
from openred_central.storage.store import DamageError, StoreError
from tests.support.postgres import PgServer
from tests.support.postgres_store import leading
from tests.support.records import VITALS, batch, page, pages_of, record, records_of, tombstone
from tests.support.running import until


def test_a_reading_shows_one_moment(database_url: str) -> None:
    with leading(database_url) as store:
        rows = [record(slot) for slot in range(3)]
        store.commit(batch(*rows, tombstones=[tombstone("name")], kept=[("a", b"a")]))
        store.save_revocations({"token": 1.5})
        with store.reading() as reading:
            assert reading.load_vitals() == VITALS
            store.commit(
                batch(
                    record(1, region="new"),
                    freed_slots=[2],
                    lifted_id_hashes=["name"],
                    pages=pages_of([record(0, last_seen_s=7.0)]),
                    kept=[("a", b"b")],
                    vitals=Vitals(99.0, 99, 9.0),
                )
            )
            store.save_revocations({"token": None})
            assert [row for part in reading.load_records(2) for row in part] == rows
            assert list(reading.load_tombstones(9)) == [[tombstone("name")]]
            assert list(reading.load_kept()) == [("a", b"a")]
            assert reading.load_revocations() == [(b"token", 1.5)]
            assert reading.load_vitals() == VITALS
        assert [row.slot for row in records_of(store)] == [0, 1]


def test_any_text_and_number_is_read_as_it_was_written(database_url: str) -> None:
    text = "".join(map(chr, range(1, 0x100))) + "\u2028\U0001f600"
    odd = {"node_id": text, "profile": text.encode(), "history": text, "region": text, "next_key": text}
    largest = {"revision": (1 << 63) - 1, "generation": 1 << 62, "longest": 255, "flags": 255}
    with leading(database_url) as store:
        rows = [
            record(0, node_id="", services="", region="", profile=b""),
            record(3, **odd),
            record(PAGE_SLOTS * 5, **largest, registered_at=-1.5, last_seen_s=5e-324, since_s=1.7e308),
            record((1 << 63) - 1, revision=1),
        ]
        store.commit(batch(*rows, pages=pages_of([record(3, last_seen_s=7.0)])))
        rows[1] = rows[1]._replace(last_seen_s=7.0)
        for rows_max in (1, 2, 3, 9):
            assert [row for part in store.load_records(rows_max) for row in part] == rows


def test_two_loads_may_take_turns(database_url: str) -> None:
    with leading(database_url) as store:
        rows = [record(slot) for slot in range(5)]
        store.commit(batch(*rows))
        with store.reading() as reading:
            pairs = zip(reading.load_records(1), reading.load_columns(1), strict=True)
            assert [(one[0].slot, list(two.slot)) for one, two in pairs] == [(n, [n]) for n in range(5)]


def test_a_load_that_is_given_up_leaves_nothing_open(postgres: PgServer, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
    with leading(database_url) as store:
        store.commit(batch(*(record(slot) for slot in range(5))))
        # The connection of the start may take a while to end.
        until(lambda: postgres.execute(count) == "2", "the connections to watch and to write alone")
        loading = store.load_columns(1)
        next(loading)
        assert postgres.execute(count) == "3"
        loading.close()  # type: ignore[attr-defined]
        until(lambda: postgres.execute(count) == "2", "the connection of the load to end")


def test_a_damaged_page_is_told_by_its_number(postgres: PgServer, database_url: str) -> None:
    with leading(database_url) as store:
        store.commit(batch(record(0), record(PAGE_SLOTS), pages=pages_of([record(PAGE_SLOTS)])))
        postgres.execute("UPDATE openred.seen SET signs = '\\x0203'", database_url.rpartition("/")[2])
        with pytest.raises(
            DamageError, match=r"page 1 of the signs of life is of format 02.*restore a backup"
        ):
            records_of(store)


def test_signs_of_life_of_unserved_records_stay_as_they_are(postgres: PgServer, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    stored = "SELECT encode(signs, 'hex') FROM openred.seen WHERE page = 0"
    with leading(database_url) as store:
        store.commit(batch(record(1), record(2), pages=pages_of([record(1, last_seen_s=7.0), record(2)])))
        store.leave_alone([1])
        heard = record(2, last_seen_at=8.0, last_seen_s=8.0)
        store.commit(batch(pages=pages_of([heard])))
        ((_, expected),) = rows_of(page(0, [record(1, last_seen_s=7.0), heard]))
        assert postgres.execute(stored, name) == expected.hex()
        assert records_of(store) == [record(1), heard], "nothing is laid over what is left alone"


def test_any_thread_may_call_a_store(database_url: str) -> None:
    with leading(database_url) as store:
        store.commit(batch(record(1)))
        store.save_secret("name", b"value")
        calls = (store.watch, store.renew, lambda: store.load_secret("name"), lambda: records_of(store)) * 10
        with ThreadPoolExecutor(8) as threads:
            for call in [threads.submit(call) for call in calls]:
                call.result(60)
        assert store.watch().seq == 1


def test_a_store_that_is_closed_says_so(database_url: str) -> None:
    with leading(database_url) as store:
        store.commit(batch(record(1)))
    with pytest.raises(StoreError, match="is not open"):
        store.load_vitals()
    store.close()


def test_a_secret_that_was_sealed_elsewhere_is_told(postgres: PgServer, database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    with leading(database_url) as store:
        store.save_secret("one", b"value")
        lineage = store.watch().lineage
        sealed = postgres.execute("SELECT convert_from(value, 'UTF8') FROM openred.secret", name)
        assert sealed == f"sealed {lineage}/one value", "it is sealed for this directory and this name"
        postgres.execute("UPDATE openred.secret SET name = 'two'", name)
        with pytest.raises(StoreError, match=r"cannot unseal 'two'.*give the secret file"):
            store.load_secret("two")
        assert store.load_secret("one") is None

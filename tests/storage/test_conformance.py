"""Every kind of store keeps what it was told, and gives it back alike.

The store in memory keeps nothing, and promises no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.columns import RecordColumns, record_of
from openred_central.directory.state.node import Record, Tombstone
from openred_central.directory.state.pages import PAGE_SLOTS
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import MemoryStore, RowsRefused, Store
from tests.support.building import DictStore
from tests.support.postgres_store import LeadingStore
from tests.support.records import VITALS, batch, pages_of, record, records_of, tombstone, tombstones_of

from .model import Model, held, random_batch
from .sqlite.test_rows import BAD

# A hundred times as many when soaking.
ROUNDS = settings().max_examples

INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NARROW_FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
RECORDS = st.builds(
    Record,
    slot=st.integers(0, 2**63 - 1),
    node_id=TEXTS,
    state=INTEGERS,
    flags=INTEGERS,
    registered_at=FLOATS,
    last_seen_at=FLOATS,
    last_seen_s=FLOATS,
    since_s=FLOATS,
    usual_gap_s=FLOATS,
    revision=INTEGERS,
    services=TEXTS,
    region=TEXTS,
    profile=TEXTS.map(str.encode),
    away_from_s=FLOATS,
    away_until_s=FLOATS,
    history=TEXTS,
    generation=INTEGERS,
    next_key=TEXTS,
    longest=INTEGERS,
)


class Opened:
    """A store under test; `reopen` closes it and opens it again, or another one in the same place."""

    def __init__(self, make: Callable[[], Store]) -> None:
        self._make = make
        self.store = make()
        self.store.open()

    def reopen(self) -> Store:
        self.store.close()
        self.store = self._make()
        self.store.open()
        return self.store


def in_dictionaries(_: pytest.FixtureRequest) -> Callable[[], Store]:
    kept = DictStore()
    return lambda: kept


def in_sqlite(request: pytest.FixtureRequest) -> Callable[[], Store]:
    folder: Path = request.getfixturevalue("tmp_path")
    return lambda: SqliteStore(folder / "openred.db")


def in_postgres(request: pytest.FixtureRequest) -> Callable[[], Store]:
    url: str = request.getfixturevalue("database_url")
    return lambda: LeadingStore(url)


@pytest.fixture(params=[in_sqlite, in_dictionaries, in_postgres])
def place(request: pytest.FixtureRequest) -> Iterator[Opened]:
    opened = Opened(request.param(request))
    yield opened
    opened.store.close()


@pytest.fixture
def store(place: Opened) -> Store:
    return place.store


# The store stays the same for all examples of a test.
repeated = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def emptied(store: Store, *records: Record) -> None:
    """Leave no other record in the store than these."""
    store.commit(batch(*records, freed_slots=[former.slot for former in records_of(store)]))


@repeated
@given(st.lists(RECORDS, max_size=5, unique_by=lambda record: record.slot))
def test_every_field_of_a_record_comes_back(store: Store, records: list[Record]) -> None:
    named = [row._replace(node_id=f"{place}{row.node_id}") for place, row in enumerate(records)]
    emptied(store, *named)
    assert records_of(store) == sorted(named)


@repeated
@given(st.builds(Tombstone, TEXTS, TEXTS, FLOATS, FLOATS, TEXTS, INTEGERS, INTEGERS, TEXTS))
def test_every_field_of_a_tombstone_comes_back(store: Store, stone: Tombstone) -> None:
    lifted = [former.id_hash for former in tombstones_of(store)]
    store.commit(batch(tombstones=[stone], lifted_id_hashes=lifted))
    assert tombstones_of(store) == [stone]


@repeated
@given(st.integers(0, 2**62), FLOATS, FLOATS.filter(lambda s: s >= 0), NARROW_FLOATS)
def test_every_field_of_a_sign_of_life_comes_back(
    store: Store, slot: int, at: float, seen_s: float, gap_s: float
) -> None:
    heard = record(slot, last_seen_at=at, last_seen_s=seen_s, usual_gap_s=gap_s)
    emptied(store, record(slot))
    store.commit(batch(pages=pages_of([heard])))
    assert records_of(store) == [heard]


def test_commits_survive_closing_and_opening(place: Opened) -> None:
    store = place.store
    assert store.load_vitals() is None
    store.commit(batch(record(2), record(0), tombstones=[tombstone("late", 9.0), tombstone("early", 1.0)]))
    store.save_secret("key", b"\0\xff")
    store = place.reopen()
    assert records_of(store) == [record(0), record(2)]
    assert tombstones_of(store) == [tombstone("early", 1.0), tombstone("late", 9.0)]
    assert store.load_vitals() == VITALS
    assert store.load_secret("key") == b"\0\xff"
    assert store.load_secret("other") is None


def test_records_come_in_lists_of_the_size_asked_for(store: Store) -> None:
    store.commit(batch(*(record(slot) for slot in range(0, 70, 10))))
    store.commit(batch(tombstones=[tombstone(f"{number}", number) for number in range(5)]))
    slots = [[row.slot for row in rows] for rows in store.load_records(3)]
    assert slots == [[0, 10, 20], [30, 40, 50], [60]]
    assert [len(rows) for rows in store.load_tombstones(2)] == [2, 2, 1]
    loaded = records_of(store)[0]
    assert type(loaded) is Record
    assert type(loaded.profile) is bytes


def test_records_come_by_columns_with_what_was_heard(place: Opened) -> None:
    rows = [record(slot, node_id=f"nöde-{slot}") for slot in range(5)]
    store = place.store
    store.commit(batch(*rows))
    assert list(map(of, store.load_columns(2))) == [rows[:2], rows[2:4], rows[4:]]
    rows[3] = rows[3]._replace(last_seen_at=7.0, last_seen_s=8.0, usual_gap_s=9.0)
    store.commit(batch(pages=pages_of(rows)))
    assert list(map(of, store.load_columns(10))) == [rows]
    # Other text is read as before.
    assert records_of(store) == rows
    assert list(map(of, place.reopen().load_columns(10))) == [rows]


def of(columns: RecordColumns) -> list[Record]:
    """The records that stand in columns."""
    return list(map(record_of, zip(*columns, strict=True)))


def test_a_slot_freed_and_filled_at_once_holds_the_record(place: Opened) -> None:
    store = place.store
    store.commit(batch(record(1), record(2), tombstones=[tombstone("name"), tombstone("other")]))
    store.commit(
        batch(
            record(1, node_id="successor"),
            freed_slots=[1, 2],
            tombstones=[tombstone("name", 7.0)],
            lifted_id_hashes=["name", "other"],
        )
    )
    assert records_of(store) == [record(1, node_id="successor")]
    store = place.reopen()
    assert records_of(store) == [record(1, node_id="successor")]
    assert tombstones_of(store) == [tombstone("name", 7.0)]


def test_the_later_commit_wins(store: Store) -> None:
    store.commit(batch(record(1, region="first")))
    store.commit(batch(record(1, region="second")))
    second = record(1, region="second", last_seen_at=7.0, last_seen_s=8.0, usual_gap_s=9.0)
    store.commit(batch(record(2), pages=pages_of([second, record(2)])))
    store.commit(batch(vitals=Vitals(20.5, 8, 1.5)))
    assert records_of(store) == [second, record(2)]
    assert store.load_vitals() == Vitals(20.5, 8, 1.5)
    store.commit(batch(record(1, region="third")))
    assert records_of(store)[0] == record(1, region="third")


def test_a_sign_of_life_of_an_empty_slot_is_nothing(store: Store) -> None:
    store.commit(batch(pages=pages_of([record(5)])))
    store.commit(batch(pages=pages_of([record(6)]), freed_slots=[6]))
    assert records_of(store) == []


def test_pages_tell_signs_of_life(place: Opened) -> None:
    store = place.store
    store.commit(batch(*(record(slot) for slot in (0, 5, PAGE_SLOTS, 3 * PAGE_SLOTS))))
    rows = [record(slot, last_seen_s=7.0) for slot in (0, PAGE_SLOTS, PAGE_SLOTS + 1)]
    store.commit(batch(pages=pages_of(rows)))
    expected = [rows[0], record(5), rows[1], record(3 * PAGE_SLOTS)]
    assert records_of(store) == expected
    while store.tidy_due:
        store.tidy()
    assert records_of(store) == expected
    assert records_of(place.reopen()) == expected


@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
def test_a_record_that_cannot_be_stored_is_refused_alone(
    changes: dict[str, Any], reason: str, store: Store
) -> None:
    with pytest.raises(RowsRefused, match=reason) as refused:
        store.commit(batch(record(1), record(2, **changes), record(3)))
    assert records_of(store) == [], "nothing of the batch was committed"
    store.commit(refused.value.remaining)
    assert records_of(store) == [record(1), record(3)]


def test_revocations_are_kept_and_removed_one_by_one(place: Opened) -> None:
    place.store.save_revocations({"one": 1.5, "two": 2.5})
    place.store.save_revocations({"one": None, "two": 2.5, "three": 3.5, "never": None})
    assert place.store.load_revocations() == [(b"three", 3.5), (b"two", 2.5)]
    assert place.reopen().load_revocations() == [(b"three", 3.5), (b"two", 2.5)]


def test_values_are_kept_and_removed_by_name(place: Opened) -> None:
    place.store.commit(batch(kept=[("b/2", b"\0two"), ("b/1", b""), ("a", b"a"), ("c", bytes(65_536))]))
    place.store.commit(batch(record(1), kept=[("a", None), ("b/1", b"one"), ("never", None)]))
    store = place.reopen()
    assert [*store.load_kept()] == [("b/1", b"one"), ("b/2", b"\0two"), ("c", bytes(65_536))]


def test_a_refused_record_takes_no_kept_value_with_it(store: Store) -> None:
    changes, _ = next(iter(BAD.values()))
    with pytest.raises(RowsRefused) as refused:
        store.commit(batch(record(1, **changes), kept=[("name", b"value")]))
    assert [*store.load_kept()] == []
    store.commit(refused.value.remaining)
    assert [*store.load_kept()] == [("name", b"value")]


@repeated
@given(st.dictionaries(TEXTS, st.binary(), max_size=40))
def test_every_value_comes_back_under_its_name(store: Store, kept: dict[str, bytes]) -> None:
    former = [(name, None) for name, _ in store.load_kept() if name not in kept]
    store.commit(batch(kept=[*former, *kept.items()]))
    assert [*store.load_kept()] == sorted(kept.items())


def test_a_store_holds_what_the_naive_one_holds(place: Opened, seed: int) -> None:
    random, model = Random(seed), Model()
    for number in range(1, ROUNDS + 1):
        place.store.commit(random_batch(random, number, model))
        for _ in range(random.randrange(4)):
            if place.store.tidy_due:
                place.store.tidy()
        if random.random() < 0.1:
            place.reopen()
        assert held(place.store) == model.contents(), f"after commit {number}"


def test_the_store_in_memory_takes_all_and_keeps_nothing() -> None:
    store = MemoryStore()
    store.open()
    store.commit(batch(record(1), tombstones=[tombstone("name")], pages=pages_of([record(1)])))
    store.save_secret("key", b"value")
    store.save_revocations({"one": 1.5})
    assert (store.durable, store.tidy_due) == (False, False)
    assert held(store) == ([], [], None, [])
    assert (store.load_secret("key"), store.load_revocations()) == (None, [])
    store.close()

"""Pages of signs of life hold for the records that were written before them, and for no others."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings

from openred_central.directory.state.pages import PAGE_SLOTS, PageRun
from openred_central.storage.seen import FORMAT_VERSION, rows_of
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import StoreError
from tests.support.records import alter, batch, opened, page, pages_of, record, records_of

from ..conftest import Fallible
from ..model import Model, copy_of, expect_after_a_crash, held, random_batch

# A hundred times as many when soaking.
ROUNDS = settings().max_examples


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "openred.db"


def told(*heard: tuple[int, float]) -> list[PageRun]:
    return pages_of(record(slot, last_seen_s=seen_s) for slot, seen_s in heard)


def seen(store: SqliteStore) -> dict[int, float]:
    return {row.slot: row.last_seen_s for row in records_of(store)}


def test_a_row_is_a_version_and_the_page() -> None:
    ((_, row),) = rows_of(page(0, [record(1, last_seen_at=1.0, last_seen_s=2.0, usual_gap_s=0.5)]))
    assert row[0] == FORMAT_VERSION
    assert struct.unpack_from("<dd", row, 1) == (0.0, 1.0)
    assert struct.unpack_from("<dd", row, 1 + 8 * PAGE_SLOTS) == (-1.0, 2.0)
    assert struct.unpack_from("<ff", row, 1 + 16 * PAGE_SLOTS) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (b"", "is of format none, this server knows 01"),
        (b"\2" + bytes(40), "is of format 02, this server knows 01"),
        (b"\1" + bytes(39), "has 39 bytes, which no page has"),
        (b"\1" + bytes(20 * 201), "has 4020 bytes, which no page has"),
    ],
)
def test_a_page_that_we_cannot_have_written_is_named(row: bytes, found: str, path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
    alter(path, f"INSERT INTO seen VALUES (0, 1, x'{row.hex()}')")
    with opened(path) as store, pytest.raises(StoreError) as raised:
        records_of(store)
    expected = f"cannot read {path}: page 0 of the signs of life {found}; the file is damaged: restore"
    assert str(raised.value).startswith(expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_time_that_is_no_number_is_not_told(column: int, value: float, path: Path) -> None:
    damaged = page(0, [record(slot, last_seen_s=7.0) for slot in (1, 2)])
    damaged[1 + column][1] = value
    with opened(path) as store:
        store.commit(batch(record(1), record(2)))
        store.commit(batch(pages=[damaged]))
        assert records_of(store) == [record(1), record(2, last_seen_s=7.0)]


def test_the_latest_page_counts_whatever_its_times(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        for seen_s in (500.0, 400.0, 300.0):
            store.commit(batch(pages=told((1, seen_s))))
            assert seen(store) == {1: seen_s}


def test_an_older_page_overwrites_no_record(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1), record(2), record(3)))
        store.commit(batch(pages=told((1, 900.0), (2, 900.0), (3, 900.0))))
        # Written again, freed, and freed and filled by somebody else.
        store.commit(batch(record(1, last_seen_s=5.0), freed_slots=[2, 3]))
        store.commit(batch(record(3, node_id="another", last_seen_s=6.0)))
        assert seen(store) == {1: 5.0, 3: 6.0}
        store.commit(batch(pages=told((1, 5.0), (3, 1.0))))
        assert seen(store) == {1: 5.0, 3: 1.0}
    with opened(path) as store:
        assert seen(store) == {1: 5.0, 3: 1.0}


def test_a_page_may_be_shorter_and_tell_less(path: Path) -> None:
    count = PAGE_SLOTS + 3
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(count))))
        whole = page(0, [record(slot, last_seen_s=slot) for slot in range(PAGE_SLOTS) if slot != 5])
        short = page(1, [record(PAGE_SLOTS, last_seen_s=7.0)])
        store.commit(batch(pages=[whole, PageRun(1, *(column[:1] for column in short[1:]))]))
        expected = {slot: float(slot) for slot in range(PAGE_SLOTS)} | {5: 100.5, PAGE_SLOTS: 7.0}
        expected |= {PAGE_SLOTS + 1: 100.5, PAGE_SLOTS + 2: 100.5}
        assert seen(store) == expected
        store.commit(batch(record(9, last_seen_s=3.0)))
        assert seen(store) == expected | {9: 3.0}


def test_a_short_page_tells_nothing_of_slots_behind_its_end(path: Path) -> None:
    heard = page(0, [record(slot, last_seen_s=7.0) for slot in (0, 1)])
    with opened(path) as store:
        store.commit(batch(record(0), record(2)))
        store.commit(batch(pages=[PageRun(0, *(column[:2] for column in heard[1:]))]))
        assert seen(store) == {0: 7.0, 2: 100.5}


def test_whole_columns_and_single_records_are_read_alike(path: Path) -> None:
    """Records that all have their pages are read by another way than others."""
    rows = [record(slot, last_seen_at=slot + 0.5, last_seen_s=slot + 0.25) for slot in range(900)]
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(900))))
        store.commit(batch(pages=pages_of(rows)))
        for rows_max in (1, 7, 200, 300, 1_000):
            assert [row for part in store.load_records(rows_max) for row in part] == rows
            columns = list(store.load_columns(rows_max))
            assert [seen_s for part in columns for seen_s in part.last_seen_s] == [row[6] for row in rows]


def test_a_crash_between_any_two_transactions_loses_nothing(path: Path, seed: int) -> None:
    random, model, beside = Random(seed), Model(), path.parent
    store = SqliteStore(path)
    store.open()
    for number in range(1, ROUNDS + 1):
        store.commit(random_batch(random, number, model))
        expect_after_a_crash(path, model, f"commit {number}")
        if store.tidy_due:
            store.tidy()
            expect_after_a_crash(path, model, f"a step after commit {number}")
        chance = random.random()
        if chance < 0.1:
            assert held(store) == model.contents(), "read in the middle of it all"
        elif chance < 0.15:
            store.close()
            store.open()
        elif chance < 0.2:
            # Killed, and started again by somebody else where it lay.
            left = copy_of(path, f"killed-{number}", beside)
            store.close()
            path, store = left, SqliteStore(left)
            store.open()
    store.close()
    with opened(path) as store:
        assert held(store) == model.contents()


@pytest.mark.parametrize("known", [False, True])
def test_nothing_is_applied_to_a_slot_that_is_left_alone(
    connections: list[Fallible], path: Path, known: bool
) -> None:
    with opened(path) as store:
        store.commit(batch(record(1, last_seen_s=1.0), record(2, last_seen_s=1.0)))
        if known:
            store.commit(batch(pages=told((1, 7.0), (2, 8.0))))
        store.leave_alone([2, 900])
        assert seen(store) == {1: 7.0 if known else 1.0, 2: 1.0}
        # The directory does not serve it, so its slot is free there.
        store.commit(batch(pages=told((1, 9.0))))
        assert seen(store) == {1: 9.0, 2: 1.0}
        # Also where the connection has to be made anew.
        connections[-1].fail("BEGIN")
        with suppress(StoreError):
            store.commit(batch())
        assert seen(store) == {1: 9.0, 2: 1.0}
        store.commit(batch(pages=told((1, 10.0))))
    with opened(path) as store:
        assert seen(store) == {1: 10.0, 2: 8.0 if known else 1.0}, "what was known of it is kept"


def test_an_outdated_page_is_not_renewed_for_a_slot_that_is_left_alone(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1), record(2)))
        store.commit(batch(pages=told((1, 50.0), (2, 50.0))))
        store.commit(batch(record(2, node_id="another", last_seen_s=500.0)))
        store.leave_alone([2])
        store.commit(batch(pages=told((1, 60.0))))
    with opened(path) as store:
        assert seen(store) == {1: 60.0, 2: 500.0}


def test_a_slot_that_is_left_alone_behind_the_end_is_kept(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1), record(5)))
        store.commit(batch(pages=told((1, 50.0), (5, 900.0))))
        store.leave_alone([5, 7])
        short = page(0, [record(1, last_seen_s=60.0)])
        store.commit(batch(pages=[PageRun(0, *(column[:3] for column in short[1:]))]))
    with opened(path) as store:
        assert seen(store) == {1: 60.0, 5: 900.0}


def test_commits_are_counted_on_up_to_a_bound(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
    alter(path, "UPDATE vitals SET commit_number = 41")
    with opened(path) as store:
        store.commit(batch(pages=told((1, 8.0))))
        assert seen(store) == {1: 8.0}
    alter(path, "UPDATE vitals SET commit_number = 9223372036854775807")
    with pytest.raises(StoreError, match=r"its last commit has the number 9223372036854775807; the file is"):
        SqliteStore(path).open()

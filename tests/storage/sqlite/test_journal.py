"""Signs of life come back as the latest ones said, whatever was folded by then and wherever it stopped."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.node import SignOfLife
from openred_central.storage.sqlite import journal
from openred_central.storage.sqlite.journal import FOLD_INTERVAL_S, pack, unpack
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import StoreError
from tests.support.records import alter, batch, opened, record, records_of

from ..conftest import Fallible
from ..model import Model, copy_of, expect_after_a_crash, held, random_batch

FLOATS = st.floats(allow_nan=False)
SIGNS = st.builds(SignOfLife, st.integers(-(2**63), 2**63 - 1), FLOATS, FLOATS, FLOATS)

# A hundred times as many when soaking.
ROUNDS = settings().max_examples


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "openred.db"


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds come often and take many steps, so that everything happens between two of them."""
    for name, value in {
        "FOLD_INTERVAL_S": 4.0,
        "FOLD_SIGNS": 30,
        "STEP_SIGNS": 5,
        "STEP_RECORDS": 2,
        "STATEMENT_SIGNS": 2,
    }.items():
        monkeypatch.setattr(journal, name, value)


def at(attended_s: float) -> Vitals:
    return Vitals(attended_s, 1, 0.0)


def heard(slot: int, seen: float) -> SignOfLife:
    return SignOfLife(slot, seen, seen, seen)


def seen(store: SqliteStore) -> dict[int, float]:
    return {row.slot: row.last_seen_s for row in records_of(store)}


def rows_of(path: Path) -> list[int]:
    """The rows of the journal, as any program sees them."""
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT commit_number FROM journal ORDER BY 1")]


def in_table(path: Path) -> dict[int, float]:
    """Read the records without the journal."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT slot, last_seen_s FROM node"))


def steps(store: SqliteStore) -> Iterator[int]:
    """The steps of a fold."""
    step = 0
    while store.tidy_due:
        store.tidy()
        yield (step := step + 1)


# The rows of the journal.


@given(st.lists(SIGNS, max_size=50))
def test_signs_of_life_come_back_as_they_were_packed(signs: list[SignOfLife]) -> None:
    assert list(unpack(pack(signs))) == signs


def test_a_journal_row_is_packed_little_endian() -> None:
    packed = pack([SignOfLife(258, 1.0, -2.0, 0.5)])
    assert (
        packed.hex()
        == "01" + "0201000000000000" + "000000000000f03f" + "00000000000000c0" + "000000000000e03f"
    )


@pytest.mark.parametrize(
    ("packed", "found"),
    [
        (b"", "is of format none, this server knows 01"),
        (b"\2" + bytes(32), "is of format 02, this server knows 01"),
        (b"\1" + bytes(31), "has 32 bytes, which no row has"),
    ],
)
def test_a_row_that_we_cannot_have_written_is_named(packed: bytes, found: str, path: Path) -> None:
    with pytest.raises(ValueError, match=found):
        unpack(packed)
    expect_damage(path, packed, rf"row 7 of the journal {found}")


def test_a_time_that_is_not_a_number_is_named(path: Path) -> None:
    packed = pack([SignOfLife(1, 1.0, float("nan"), 3.0)])
    expect_damage(path, packed, "a row of the journal up to 7 has a time that is not a number")


def expect_damage(path: Path, packed: bytes, found: str) -> None:
    """A server with this row in its journal names it, and never throws it away."""
    with opened(path) as store:
        store.commit(batch(record(1)))
    alter(path, f"INSERT INTO journal VALUES (7, x'{packed.hex()}')")
    store = SqliteStore(path)
    store.open()
    with pytest.raises(StoreError, match=rf"^cannot read {path}: {found}; the file is damaged: restore"):
        records_of(store)
    with pytest.raises(StoreError, match=rf"^cannot close {path}: {found}"):
        store.close()
    assert rows_of(path) == [7]


def test_a_slot_beyond_64_bits_is_no_row() -> None:
    with pytest.raises(struct.error):
        pack([SignOfLife(2**63, 1.0, 2.0, 3.0)])


# Rules of precedence.


def test_signs_of_life_are_one_row_of_the_journal(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1), record(2)))
        before = in_table(path)
        store.commit(batch(signs_of_life=[heard(1, 7.0), heard(2, 8.0)]))
        assert rows_of(path) == [2]
        assert in_table(path) == before
        assert seen(store) == {1: 7.0, 2: 8.0}
        store.commit(batch(record(3)))
        assert rows_of(path) == [2], "no row where nobody was heard"


@pytest.mark.parametrize("folded", [False, True])
def test_the_latest_sign_of_life_counts_whatever_its_time(folded: bool, path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        store.commit(batch(signs_of_life=[heard(1, 500.0), heard(1, 400.0)]))
        assert seen(store) == {1: 400.0}
        store.commit(batch(signs_of_life=[heard(1, 300.0)], vitals=at(FOLD_INTERVAL_S * 2 if folded else 0)))
        list(steps(store))
        assert (in_table(path) == {1: 300.0}) is folded
        assert seen(store) == {1: 300.0}


@pytest.mark.parametrize("folded", [False, True])
def test_an_older_sign_of_life_overwrites_no_record(folded: bool, path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1), record(2), record(3), vitals=at(0.0)))
        store.commit(batch(signs_of_life=[heard(1, 900.0), heard(2, 900.0), heard(3, 900.0)], vitals=at(0.0)))
        # Written again, freed, and freed and filled by somebody else.
        store.commit(batch(record(1, last_seen_s=5.0), freed_slots=[2, 3], vitals=at(0.0)))
        store.commit(batch(record(3, node_id="another", last_seen_s=6.0), vitals=at(FOLD_INTERVAL_S)))
        if folded:
            list(steps(store))
            assert rows_of(path) == []
        assert seen(store) == {1: 5.0, 3: 6.0}
        store.commit(batch(signs_of_life=[heard(3, 1.0), heard(2, 1.0)]))
        assert seen(store) == {1: 5.0, 3: 1.0}
    assert in_table(path) == {1: 5.0, 3: 1.0}


def test_records_written_during_a_fold_stay(path: Path, small_steps: None) -> None:
    """A slot that the fold has yet to come to, by what was written since, is left to the next one."""
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(20)), vitals=at(0.0)))
        for number in range(5):
            signs = [heard(slot, 100.0 + number) for slot in range(20)]
            store.commit(batch(signs_of_life=signs, vitals=at(number)))
        expected = dict.fromkeys(range(20), 104.0)
        for step in steps(store):
            if step <= 20:
                slot = 20 - step
                store.commit(batch(record(slot, last_seen_s=float(step)), vitals=at(5.0)))
                expected[slot] = float(step)
            assert seen(store) == expected, f"after step {step}"
        assert rows_of(path) == []
        assert in_table(path) == expected


def test_signs_of_life_during_a_fold_wait_for_the_next(path: Path, small_steps: None) -> None:
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(10)), vitals=at(0.0)))
        store.commit(batch(signs_of_life=[heard(slot, 50.0) for slot in range(10)], vitals=at(0.0)))
        store.commit(batch(vitals=at(4.0)))
        for step in steps(store):
            store.commit(batch(signs_of_life=[heard(0, step), heard(9, step)], vitals=at(4.0)))
            if step == 3:
                break
        # Also what was read on in the middle of it is not lost.
        assert seen(store) == {0: 3.0, **dict.fromkeys(range(1, 9), 50.0), 9: 3.0}
        assert len(list(steps(store))) > 3
        assert rows_of(path) == [4, 5, 6]
        assert seen(store) == {0: 3.0, **dict.fromkeys(range(1, 9), 50.0), 9: 3.0}
        store.commit(batch(vitals=at(8.0)))
        list(steps(store))
        assert rows_of(path) == []
        assert in_table(path)[9] == 3.0


def test_the_oldest_rows_go_first(path: Path, small_steps: None) -> None:
    with opened(path) as store:
        store.commit(batch(record(1), vitals=at(0.0)))
        for number in range(12):
            store.commit(batch(signs_of_life=[heard(1, float(number))] * 3, vitals=at(number / 4)))
        left = [rows_of(path) for _ in steps(store)]
        assert left[-1] == []
        assert all(rows == list(range(14 - len(rows), 14)) for rows in left)
        assert len({len(rows) for rows in left}) > 4


@pytest.mark.usefixtures("small_steps")
def test_a_crash_between_any_two_transactions_loses_nothing(path: Path, seed: int) -> None:
    random, model, beside = Random(seed), Model(), path.parent
    store = SqliteStore(path)
    store.open()
    for number in range(1, ROUNDS + 1):
        changes = random_batch(random, number)
        store.commit(changes)
        model.commit(changes)
        expect_after_a_crash(path, model, f"commit {number}")
        for step in range(random.randrange(4)):
            if store.tidy_due:
                store.tidy()
                expect_after_a_crash(path, model, f"step {step} after commit {number}")
        chance = random.random()
        if chance < 0.1:
            assert held(store) == model.contents(), "read in the middle of it all"
        elif chance < 0.15:
            store.close()
            assert rows_of(path) == []
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


@pytest.mark.parametrize("read_before", [False, True])
def test_nothing_is_applied_to_a_slot_that_is_left_alone(
    connections: list[Fallible], path: Path, read_before: bool
) -> None:
    with opened(path) as store:
        store.commit(batch(record(1, last_seen_s=1.0), record(2, last_seen_s=1.0), vitals=at(0.0)))
        store.commit(batch(signs_of_life=[heard(1, 7.0), heard(2, 8.0)], vitals=at(0.0)))
        if read_before:
            assert seen(store) == {1: 7.0, 2: 8.0}
        store.leave_alone([2, 9])
        assert seen(store) == {1: 7.0, 2: 1.0}
        store.commit(batch(signs_of_life=[heard(1, 9.0), heard(2, 9.0)], vitals=at(0.0)))
        assert seen(store) == {1: 9.0, 2: 1.0}
        # Also where the connection has to be made anew.
        connections[-1].fail("BEGIN")
        with pytest.raises(StoreError):
            store.commit(batch(vitals=at(0.0)))
        assert seen(store) == {1: 9.0, 2: 1.0}
    assert in_table(path) == {1: 9.0, 2: 1.0}


def test_commits_are_counted_on_from_the_highest_number(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
    alter(path, f"INSERT INTO journal VALUES (41, x'{pack([heard(1, 7.0)]).hex()}')")
    with opened(path) as store:
        store.commit(batch(signs_of_life=[heard(1, 8.0)]))
        assert rows_of(path) == [41, 42]
    alter(path, "UPDATE vitals SET commit_number = 9223372036854775807")
    with pytest.raises(StoreError, match=r"its last commit has the number 9223372036854775807; the file is"):
        SqliteStore(path).open()


# When, and how long.


def test_a_fold_is_due_after_a_minute(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1), vitals=at(1_000.0)))
        assert not store.tidy_due
        store.commit(batch(signs_of_life=[heard(1, 1.0)], vitals=at(1_000.0)))
        store.commit(batch(signs_of_life=[heard(1, 2.0)], vitals=at(1_059.9)))
        assert not store.tidy_due
        store.commit(batch(vitals=at(1_060.0)))
        assert store.tidy_due
        list(steps(store))
        assert rows_of(path) == []
        store.commit(batch(signs_of_life=[heard(1, 3.0)], vitals=at(1_100.0)))
        assert not store.tidy_due


def test_many_signs_of_life_are_folded_early(path: Path, small_steps: None) -> None:
    with opened(path) as store:
        for _ in range(29):
            store.commit(batch(signs_of_life=[heard(1, 1.0)]))
        assert not store.tidy_due
        store.commit(batch(signs_of_life=[heard(1, 1.0)]))
        assert store.tidy_due


def test_a_killed_servers_journal_is_folded_first(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(record(1)))
        store.commit(batch(signs_of_life=[heard(1, 9.0)]))
        left = copy_of(path, "left")
    with opened(left) as store:
        assert store.tidy_due
        list(steps(store))
        assert rows_of(left) == []
        assert in_table(left) == {1: 9.0}


def test_a_step_is_short_whatever_there_is_to_fold(path: Path) -> None:
    count = 3_000
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(count)), vitals=at(0.0)))
        store.commit(batch(signs_of_life=[heard(slot, 9.0) for slot in range(count)], vitals=at(0.0)))
        store.commit(batch(vitals=at(FOLD_INTERVAL_S)))
        folded = [0, *(list(in_table(path).values()).count(9.0) for _ in steps(store))]
        assert folded[-1] == count
        assert max(after - before for before, after in pairwise(folded)) <= 1_000


def test_closing_folds_all(path: Path) -> None:
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(5_000))))
        for number in range(3):
            store.commit(batch(signs_of_life=[heard(slot, float(number)) for slot in range(5_000)]))
    assert rows_of(path) == []
    assert in_table(path) == dict.fromkeys(range(5_000), 2.0)


def test_a_fold_that_failed_begins_anew(connections: list[Fallible], path: Path, small_steps: None) -> None:
    with opened(path) as store:
        store.commit(batch(*(record(slot) for slot in range(10)), vitals=at(0.0)))
        store.commit(batch(signs_of_life=[heard(slot, 7.0) for slot in range(10)], vitals=at(4.0)))
        store.commit(batch(vitals=at(9.0)))
        store.tidy()
        store.tidy()
        connection = connections[-1]
        connection.execute(
            "CREATE TEMP TRIGGER full BEFORE UPDATE ON node BEGIN SELECT raise(FAIL, 'full'); END"
        )
        with pytest.raises(StoreError, match="full"):
            list(steps(store))
        assert store.tidy_due
        connection.execute("DROP TRIGGER full")
        assert seen(store) == dict.fromkeys(range(10), 7.0)
        list(steps(store))
        assert rows_of(path) == []
        assert in_table(path) == dict.fromkeys(range(10), 7.0)

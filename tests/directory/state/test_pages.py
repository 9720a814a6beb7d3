"""Pages tell the latest signs of life of all their slots, and each is pending once until it is taken."""

from __future__ import annotations

from array import array
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openred_central.directory.state.pages import (
    NO_SIGN_S,
    PAGE_SLOTS,
    SLOT_BYTES,
    HeardPages,
    PageRun,
    pack,
    unpack,
)
from tests.support.records import SignOfLife, signs_on

FLOATS = st.floats(allow_nan=False)
ROWS = st.lists(st.tuples(FLOATS, FLOATS, st.floats(allow_nan=False, width=32)), max_size=2 * PAGE_SLOTS + 1)


def run_of(number: int, rows: list[tuple[float, float, float]]) -> PageRun:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return PageRun(number, array("d", columns[0]), array("d", columns[1]), array("f", columns[2]))


@settings(suppress_health_check=[HealthCheck.large_base_example, HealthCheck.data_too_large])
@given(st.integers(0, 2**40), ROWS)
def test_pages_come_back_as_they_were_packed(number: int, rows: list[tuple[float, float, float]]) -> None:
    run = run_of(number, rows)
    packed = pack(run)
    assert sum(map(len, packed)) == SLOT_BYTES * len(rows)
    assert len(packed) == len(run.numbers)
    for place, (each, of_page) in enumerate(zip(run.numbers, packed, strict=True)):
        page = run_of(each, rows[place * PAGE_SLOTS : (place + 1) * PAGE_SLOTS])
        assert unpack(each, of_page) == unpack(each, memoryview(of_page)) == page


def test_columns_are_packed_little_endian_one_after_the_other() -> None:
    (packed,) = pack(run_of(7, [(1.0, -2.0, 0.5), (0.0, 0.0, 0.0)]))
    assert packed.hex() == (
        "000000000000f03f" + "0000000000000000"
        "00000000000000c0" + "0000000000000000"
        "0000003f" + "00000000"
    )  # fmt: skip


@pytest.mark.parametrize("length", [1, 19, 21, SLOT_BYTES * (PAGE_SLOTS + 1)])
def test_bytes_of_another_length_are_no_page(length: int) -> None:
    with pytest.raises(ValueError, match=f"has {length} bytes, which no page has"):
        unpack(0, bytes(length))


def test_a_page_tells_the_signs_of_life_of_its_nodes() -> None:
    page = run_of(2, [(1.0, 2.0, 3.0), (0.0, NO_SIGN_S, 0.0), (4.0, 0.0, 6.0)])
    first = 2 * PAGE_SLOTS
    assert page.slots == range(first, first + 3)
    assert signs_on([page]) == [SignOfLife(first, 1.0, 2.0, 3.0), SignOfLife(first + 2, 4.0, 0.0, 6.0)]


def test_pages_gather_until_a_flush_and_are_taken_once() -> None:
    heard = HeardPages()
    for slot in (5 * PAGE_SLOTS, 6 * PAGE_SLOTS, 5 * PAGE_SLOTS + 1, 7 * PAGE_SLOTS - 1, 9 * PAGE_SLOTS):
        heard.add(slot)
    assert (len(heard), heard.due, heard.take(9)) == (3, 0, [])
    heard.flush()
    assert (len(heard), heard.due, heard.take(0)) == (3, 3, [])
    assert heard.take(1) == [range(5, 6)]
    heard.add(5 * PAGE_SLOTS)
    assert heard.take(9) == [range(6, 7), range(9, 10)], "what was heard since waits"
    assert (len(heard), heard.due) == (1, 0)
    heard.put_back([7, 6])
    assert heard.take(9) == [range(6, 8)]
    heard.put_back([6, 7, 8])
    assert heard.take(9) == [range(8, 9), range(6, 8)], "round and round"
    heard.flush()
    assert heard.take(9) == [range(5, 6)]
    assert (heard.take(9), len(heard)) == ([], 0)


def test_runs_are_bounded() -> None:
    heard = HeardPages()
    heard.make_room(40 * PAGE_SLOTS)
    heard.put_back(range(40))
    assert heard.take(100) == [range(16), range(16, 32), range(32, 40)]


def test_every_page_is_taken_once(seed: int) -> None:
    """Beside plain sets."""
    random, heard, gathering, due = Random(seed), HeardPages(), set[int](), set[int]()
    for _ in range(300):
        for page in random.choices(range(60), k=random.randrange(40)):
            heard.add(page * PAGE_SLOTS)
            gathering.add(page)
        if random.random() < 0.5:
            heard.flush()
            due, gathering = due | gathering, set()
        count = random.randrange(30)
        taken = [page for run in heard.take(count) for page in run]
        assert len(taken) == len(set(taken)) == min(count, len(due))
        assert due.issuperset(taken)
        due.difference_update(taken)
        assert (heard.due, len(heard)) == (len(due), len(due) + len(gathering))


def test_no_page_starves_where_a_flush_marks_more_than_is_stored() -> None:
    heard, stored = HeardPages(), dict.fromkeys(range(30), 0)
    for flush in range(1, 20):
        for page in range(30):
            heard.add(page * PAGE_SLOTS)
        heard.flush()
        for run in heard.take(10):
            stored |= dict.fromkeys(run, flush)
        # The first page always waits for a record.
        heard.put_back([0])
    assert min(stored.values()) >= 19 - 4


def test_the_heartbeat_path_keeps_what_it_was_given() -> None:
    """`Directory.hear` holds `marks` from the start on."""
    heard = HeardPages()
    marks = heard.marks
    heard.make_room(4 * PAGE_SLOTS)
    for _ in range(3):
        marks[3] = 1
        heard.flush()
        assert heard.take(1) == [range(3, 4)]
    assert heard.marks is marks
    assert len(marks) == 4


def test_each_sign_of_life_is_news_once_and_freed_slots_are_none() -> None:
    heard = HeardPages()
    assert not heard.is_news()
    heard.add_freed(0)
    assert not heard.is_news()
    heard.add(1)
    assert (heard.is_news(), heard.is_news()) == (True, False)
    assert len(heard) == 1, "the page still gathers"
    heard.marks[0] = 1
    heard.add_freed(0)
    heard.flush()
    assert (heard.is_news(), heard.is_news()) == (True, False), "also what was flushed since"
    heard.add(PAGE_SLOTS)
    assert heard.is_news()
    heard.flush()
    assert not heard.is_news()
    assert heard.take(9) == [range(2)]


def test_a_process_without_a_store_tells_each_slot_that_was_heard() -> None:
    heard = HeardPages(slots_each=1)
    for slot in (7, 3, 7):
        heard.add(slot)
    heard.add_freed(5)
    assert heard.take_heard() == [3, 7]
    assert heard.take_heard() == []
    assert len(heard) == 0

"""Learned values wait for the store: packed late, bounded, put back, and never in the way of records."""

from __future__ import annotations

import pytest

from openred_central.directory.state.kept import BYTES_PER_BATCH, ENTRIES_PER_BATCH, VALUE_BYTES_MAX, Kept


def test_a_value_is_packed_when_it_is_taken() -> None:
    kept, value = Kept(), b"then"
    kept.note("name", lambda: value)
    kept.note("gone", lambda: None)
    value = b"now"
    assert len(kept) == 2
    assert kept.take(ENTRIES_PER_BATCH) == [("name", b"now"), ("gone", None)]
    assert (len(kept), kept.take(ENTRIES_PER_BATCH)) == (0, [])


def test_a_later_note_takes_the_place_of_a_former_one() -> None:
    kept = Kept()
    kept.note("first", lambda: b"1")
    kept.note("second", lambda: b"2")
    kept.note("first", lambda: b"3")
    assert kept.take(ENTRIES_PER_BATCH) == [("first", b"3"), ("second", b"2")]


def test_a_batch_takes_few_values_and_few_bytes() -> None:
    kept = Kept()
    for number in range(3 * ENTRIES_PER_BATCH):
        kept.note(f"{number}", lambda: bytes(BYTES_PER_BATCH // 8))
    assert len(kept.take(ENTRIES_PER_BATCH)) == 8
    for number in range(3 * ENTRIES_PER_BATCH):
        kept.note(f"{number}", lambda: b"small")
    assert len(kept.take(ENTRIES_PER_BATCH)) == ENTRIES_PER_BATCH
    assert len(kept) == 2 * ENTRIES_PER_BATCH
    assert kept.take(0) == []


def test_values_that_were_not_saved_come_again_as_they_are_then() -> None:
    kept = Kept()
    kept.note("same", lambda: b"1")
    kept.note("changed", lambda: b"2")
    kept.take(ENTRIES_PER_BATCH)
    kept.note("changed", lambda: b"3")
    kept.put_back()
    assert dict(kept.take(ENTRIES_PER_BATCH)) == {"same": b"1", "changed": b"3"}
    kept.take(ENTRIES_PER_BATCH)
    kept.put_back()
    assert len(kept) == 0


@pytest.mark.parametrize("value", [bytes(VALUE_BYTES_MAX + 1), "text", 7])
def test_a_value_that_is_none_is_left_out(value: object) -> None:
    kept = Kept()
    kept.note("bad", lambda: value)  # type: ignore[arg-type, return-value]
    kept.note("good", lambda: bytes(VALUE_BYTES_MAX))
    assert kept.take(ENTRIES_PER_BATCH) == [("good", bytes(VALUE_BYTES_MAX))]
    assert [*kept.set_aside] == ["bad"]
    assert len(kept) == 0


def test_an_error_keeps_no_other_value_from_being_stored() -> None:
    kept = Kept()
    kept.note("broken", lambda: b"%d" % (1 // 0))
    kept.note("sound", lambda: b"value")
    assert kept.take(ENTRIES_PER_BATCH) == [("sound", b"value")]
    assert "ZeroDivisionError" in kept.set_aside["broken"]
    kept.note("broken", lambda: b"repaired")
    assert kept.take(ENTRIES_PER_BATCH) == [("broken", b"repaired")]
    assert kept.set_aside == {}


def test_a_value_to_store_at_once_waits_for_no_flush() -> None:
    kept = Kept()
    kept.note("learned", lambda: b"1")
    for number in range(2 * ENTRIES_PER_BATCH):
        kept.note(f"block/{number}", lambda: b"2", at_once=True)
    assert (len(kept), kept.at_once) == (2 * ENTRIES_PER_BATCH + 1, 2 * ENTRIES_PER_BATCH)
    taken = kept.take(0)
    assert (len(taken), len(kept), kept.at_once) == (2 * ENTRIES_PER_BATCH, 1, 0)
    kept.note("block/0", lambda: None, at_once=True)
    kept.put_back()
    assert dict(kept.take(0)) == {**dict(taken), "block/0": None}
    assert kept.take(1) == [("learned", b"1")]

"""A row that no store could keep is refused alone, and named."""

from __future__ import annotations

from typing import Any

import pytest

from openred_central.directory.state.pages import PAGE_SLOTS
from openred_central.storage.sqlite.rows import encode, refuse_rows, text_of
from openred_central.storage.store import RowsRefused
from tests.support.records import batch, pages_of, record, tombstone

GOOD = record(7)

# Values that `encode` finds by itself; the columns refuse infinite numbers and those beyond 64 bits.
SEEN = {
    "a NUL": ({"region": "eu\0west"}, "region contains a NUL character"),
    "half a character": ({"node_id": "node\ud800"}, "node_id is not Unicode text"),
    "bytes that are no text": ({"profile": b"[\xff]"}, "profile is not Unicode text"),
    "a NUL in bytes": ({"profile": b"[\0]"}, "profile contains a NUL character"),
    "a huge integer": ({"revision": 2**64}, "revision does not fit into 64 bits"),
    "a huge negative integer": ({"revision": -(2**63) - 1}, "revision does not fit into 64 bits"),
}
SEEN_BY_COLUMNS = {
    "an integer that only fits without its sign": ({"revision": 2**63}, "revision does not fit into 64 bits"),
    "not a number": ({"since_s": float("nan")}, "since_s is not a finite number"),
    "infinity": ({"away_until_s": float("inf")}, "away_until_s is not a finite number"),
    "nothing": ({"history": None}, "history is None"),
}
BAD = SEEN | SEEN_BY_COLUMNS


@pytest.mark.parametrize(("changes", "reason"), SEEN.values(), ids=SEEN)
def test_a_bad_record_is_refused_before_any_write(changes: dict[str, Any], reason: str) -> None:
    bad = record(5, **changes)
    with pytest.raises(RowsRefused) as refused:
        encode(batch(record(4), bad, GOOD, freed_slots=[1]), 1)
    assert refused.value.refused == [f"Record of 5: {reason}"]
    assert refused.value.remaining == batch(record(4), GOOD, freed_slots=[1])
    assert reason in str(refused.value)


@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
def test_every_bad_record_is_recognised(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowsRefused) as refused:
        refuse_rows(batch(record(5, **changes), GOOD))
    assert refused.value.refused == [f"Record of 5: {reason}"]
    assert refused.value.remaining.records == [GOOD]


def test_bad_tombstones_are_refused_alike() -> None:
    with pytest.raises(RowsRefused) as refused:
        refuse_rows(batch(GOOD, tombstones=[tombstone("a\0"), tombstone("b")]))
    assert refused.value.remaining == batch(GOOD, tombstones=[tombstone("b")])
    assert refused.value.refused == ["Tombstone of 'a\\x00': id_hash contains a NUL character"]


def test_an_escaped_nul_within_a_profile_is_ordinary_text() -> None:
    assert len(encode(batch(record(1, profile=b'{"name":"\\u0000"}')), 1)) == 1


def test_a_batch_is_few_statements_of_few_kinds() -> None:
    given = batch(
        *(record(slot) for slot in range(100)),
        freed_slots=list(range(100, 200)),
        pages=pages_of(record(slot) for slot in range(0, 65 * PAGE_SLOTS, 90)),
        tombstones=[tombstone(f"{number}") for number in range(65)],
        lifted_id_hashes=[f"{number}" for number in range(100, 200)],
    )
    statements = encode(given, 1)
    kinds = [(each.sql.split()[0], each.sql.count("(") - 1) for each in statements]
    assert kinds[1:4] == [("REPLACE", 64), ("REPLACE", 32), ("REPLACE", 4)]
    assert kinds[5:7] == [("REPLACE", 64), ("REPLACE", 1)]
    assert kinds[7:] == [("REPLACE", 64), ("REPLACE", 1)]
    assert [kinds[place][0] for place in (0, 4)] == ["DELETE", "DELETE"]
    assert encode(given, 1)[1].sql is statements[1].sql
    assert encode(batch(), 1) == []


def test_numbers_in_a_record_that_are_only_large_are_kept() -> None:
    assert len(encode(batch(record(1, since_s=1.7e308, last_seen_s=1.7e308)), 1)) == 1


def test_stored_bytes_that_are_no_text_are_read() -> None:
    assert text_of("Jürgen".encode()) == "Jürgen"
    assert text_of(b"a\xff").encode("utf-8", "surrogateescape") == b"a\xff"

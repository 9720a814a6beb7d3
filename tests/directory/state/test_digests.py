"""Whatever was acknowledged of a record shows in its digest, and nothing else does."""

from __future__ import annotations

import pytest

from openred_central.directory.lifecycle import State
from openred_central.directory.state.digests import record_digest, record_digests
from openred_central.directory.state.node import DISCOVERABLE, LEFT

from ..building import columns_of, record


@pytest.mark.parametrize(
    "changed",
    [
        {"revision": 8},
        {"flags": DISCOVERABLE | LEFT},
        {"registered_at": 9.0},
        {"services": "chat"},
        {"services": "chat,mai", "region": "leu"},
        {"region": "us"},
        {"profile": b"{}"},
        {"away_until_s": 5.0},
        {"generation": 1},
        {"next_key": "key"},
    ],
)
def test_whatever_was_acknowledged_shows_in_the_digest(changed: dict[str, object]) -> None:
    assert record_digest(record(0, **changed)) != record_digest(record(0))


def test_what_follows_from_time_and_where_a_record_lies_do_not_show_in_the_digest() -> None:
    moved = record(5, state=State.COMA, last_seen_s=9.0, since_s=9.0, history="1.000,active,coma,left")
    assert record_digest(moved) == record_digest(record(0))


def test_the_digests_of_many_are_those_of_each() -> None:
    records = [record(0), record(1, "ü", away_until_s=5.0), record(2, services="", revision=2**63 - 1)]
    rare = [record(3, generation=2), record(4, next_key="key")]
    for many in (records, records + rare):
        assert list(record_digests(columns_of(many))) == list(map(record_digest, many))

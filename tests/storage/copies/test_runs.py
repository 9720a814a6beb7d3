"""Copies of a database know whether one came from the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from openred_central.directory.state.changes import Vitals
from openred_central.storage.copies.runs import RUNS, RUNS_MAX, Run, begin_run, is_earlier, load_runs
from openred_central.storage.store import DamageError, MemoryStore
from tests.support.records import VITALS, batch, opened, record

FIRST, SECOND, OTHER = (Run(name * 8, 10, 5.0) for name in (b"1", b"2", b"3"))


def test_every_run_leaves_its_mark(tmp_path: Path) -> None:
    with opened(tmp_path / "openred.db") as store:
        assert load_runs(store) == []
        begin_run(store, b"first123")
        store.commit(batch(record(1)))
    with opened(tmp_path / "openred.db") as store:
        begin_run(store, b"second12")
        assert load_runs(store) == [
            Run(b"first123", 0, 0.0),
            Run(b"second12", VITALS.revision, VITALS.attended_s),
        ]


def test_the_marks_are_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    with opened(tmp_path / "openred.db") as store:
        mark = b"a" * 8 + bytes(16)
        store.save_secret(RUNS, mark * RUNS_MAX)
        begin_run(store, b"b" * 8)
        runs = load_runs(store)
    assert (len(runs), runs[-1].name, runs[0].name) == (RUNS_MAX, b"b" * 8, b"a" * 8)


def test_marks_that_are_none_are_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path / "openred.db") as store:
        store.save_secret(RUNS, b"short")
        with pytest.raises(DamageError, match="its runs have 5 bytes"):
            load_runs(store)
        # They serve nobody: a server that begins gives them up, and says so.
        begin_run(store, b"first123")
        assert load_runs(store) == [Run(b"first123", 0, 0.0)]
    assert "its runs have 5 bytes; the marks of earlier runs are dropped" in caplog.text


def test_a_store_that_keeps_nothing_keeps_no_marks() -> None:
    begin_run(MemoryStore(), b"first123")
    assert load_runs(MemoryStore()) == []


@pytest.mark.parametrize(
    ("then", "revision", "attended_s", "now", "earlier"),
    [
        ([FIRST], 12, 9.0, [FIRST], True),
        # Made before the next run began, or at that moment.
        ([FIRST], 10, 5.0, [FIRST, SECOND], True),
        ([FIRST], 9, 4.0, [FIRST, SECOND], True),
        # The next run began from an older copy.
        ([FIRST], 11, 5.0, [FIRST, SECOND], False),
        ([FIRST], 10, 5.5, [FIRST, SECOND], False),
        # A run that was lost as a whole.
        ([FIRST, OTHER], 10, 5.0, [FIRST, SECOND], False),
        ([FIRST], 1, 1.0, [], False),
        # From before there were marks.
        ([], 99, 99.0, [FIRST], True),
    ],
)
def test_an_earlier_state_differs_from_a_lost_one(
    then: list[Run], revision: int, attended_s: float, now: list[Run], earlier: bool
) -> None:
    assert is_earlier(then, Vitals(attended_s, revision, 0.0), now) is earlier
    if earlier:
        assert is_earlier(then, None, now)

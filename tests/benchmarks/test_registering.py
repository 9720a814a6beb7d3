"""The floor of registrations takes the rows that the server writes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.suite.registering import bare_rows_per_s


def test_sqlite_alone_takes_our_rows_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert bare_rows_per_s(tmp_path, 3, 0.001) > 0
    assert list(tmp_path.iterdir()) == []

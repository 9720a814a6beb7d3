"""The floor of registrations writes the rows of the server."""

from __future__ import annotations

from pathlib import Path

from benchmarks.suite.registering import bare_rows_per_s


def test_sqlite_alone_writes_our_rows_and_cleans_up(tmp_path: Path) -> None:
    assert bare_rows_per_s(tmp_path, 3, 0.001) > 0
    assert list(tmp_path.iterdir()) == []

"""What every store offers, and how it says that rows are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from openred_central.storage.memory import MemoryStore
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import RowsRefused, Store, StoreError
from tests.support.records import batch, record


@pytest.mark.parametrize("kind", [MemoryStore, SqliteStore])
def test_every_store_offers_all_that_the_directory_asks(kind: type, tmp_path: Path) -> None:
    store = kind() if kind is MemoryStore else kind(tmp_path / "openred.db")
    asked = {name for name in vars(Store) if not name.startswith("_")}
    assert {"open", "load_records", "commit", "tidy_due", "close"} <= asked
    assert sorted(asked - set(dir(store))) == []


def test_refused_rows_are_told_in_one_line_and_the_rest_is_at_hand() -> None:
    remaining = batch(record(1))
    error = RowsRefused(remaining, ["Record of 5: region contains a NUL character", "Record of 6: another"])
    assert isinstance(error, StoreError)
    assert str(error) == "2 rows cannot be stored: Record of 5: region contains a NUL character"
    assert error.remaining is remaining

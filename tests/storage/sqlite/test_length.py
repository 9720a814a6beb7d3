"""A database of which a part was cut off is noticed before anything more is promised."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.storage.store import StoreError
from tests.support.records import batch, opened, record, records_of


@pytest.mark.parametrize("left_bytes", [0, 4_096, 16_384])
@pytest.mark.parametrize("copied", [False, True])
def test_nothing_is_promised_in_a_file_that_was_cut(tmp_path: Path, left_bytes: int, copied: bool) -> None:
    path = tmp_path / "openred.db"
    with opened(path):
        pass
    with opened(path) as store:
        store.commit(batch(record(1)))
        if copied:
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.truncate(path, left_bytes)
        for doing in (lambda: store.commit(batch(record(2))), lambda: store.look(0.0)):
            with pytest.raises(StoreError, match=rf"{path} was cut to {left_bytes} bytes of .*snapshot$"):
                doing()
        store.release()


def test_a_file_that_was_made_compact_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    many = [record(slot) for slot in range(1_000)]
    with opened(path) as store:
        store.commit(batch(*many))
    before_bytes = path.stat().st_size
    with opened(path) as store:
        store.commit(batch(freed_slots=tuple(range(1, 1_000))))
        with closing(sqlite3.connect(path)) as other:
            other.executescript("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size < before_bytes
        store.look(0.0)
        store.commit(batch(record(1)))
        assert records_of(store) == many[:2]

"""A file that is removed, replaced, cut or that grows is noticed before anything more is promised."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.storage.sqlite.open_files import (
    ENDINGS,
    Companions,
)
from openred_central.storage.sqlite.schema import companion
from openred_central.storage.store import StoreError
from tests.support.records import batch, opened, record, records_of


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_removed_or_replaced_is_named(tmp_path: Path, ending: str, replaced: bool) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        store.commit(batch(record(1)))
        companions, file = Companions(path), companion(path, ending)
        assert companions.lost() is None
        kept = file.rename(tmp_path / "kept")
        if replaced:
            shutil.copy(kept, file)
        assert companions.lost() == file
        kept.replace(file)
        assert companions.lost() is None


@pytest.mark.parametrize("left_bytes", [0, 4_096, 16_384])
@pytest.mark.parametrize("copied", [False, True])
def test_a_cut_file_takes_no_commits(tmp_path: Path, left_bytes: int, copied: bool) -> None:
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


def test_a_vacuumed_file_is_used_on(tmp_path: Path) -> None:
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

"""A log or index that is no longer the one that is open is seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from openred_central.storage.sqlite.companions import ENDINGS, Companions
from openred_central.storage.sqlite.schema import companion
from tests.support.records import batch, opened, record


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


def test_the_size_of_the_log_is_that_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    with opened(path) as store:
        store.commit(batch(record(1)))
        companions = Companions(path)
        assert companions.log_bytes == companion(path, "-wal").stat().st_size > 0
    assert companions.log_bytes == 0

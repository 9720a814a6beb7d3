"""What the database setting may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from openred_central.storage.locate import open_store
from openred_central.storage.store import StoreError


def test_memory_keeps_nothing() -> None:
    store = open_store("memory:")
    assert not store.durable
    store.close()


def test_anything_else_is_a_path_and_the_store_is_open(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "openred.db"
    store = open_store(str(path))
    assert store.durable
    assert store.location == str(path)
    assert store.load_vitals() is None
    store.close()


@pytest.mark.parametrize("database", ["", ":memory:", "postgresql://localhost/openred", "data/\0.db"])
def test_text_that_names_no_store_is_refused_and_creates_nothing(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"names no database; give the path of a file .* 'memory:'"):
        open_store(database)
    assert list(tmp_path.iterdir()) == []

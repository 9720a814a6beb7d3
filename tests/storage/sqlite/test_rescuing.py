"""The content of a file without a name is kept under another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from openred_central.storage.sqlite.rescuing import STEP_BYTES, keep_copy

CONTENT = os.urandom(STEP_BYTES + 4_096)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "openred.db"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def descriptor(database: Path) -> Iterator[int]:
    descriptor = os.open(database, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_removed_file_is_copied_under_a_free_name(database: Path, descriptor: int) -> None:
    database.unlink()
    for number in (1, 2):
        kept = keep_copy(descriptor, database)
        assert kept == database.with_name(f"openred.db.lost-{number}")
        assert kept.read_bytes() == CONTENT
        assert kept.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in database.parent.iterdir()) == [
        "openred.db.lost-1",
        "openred.db.lost-2",
    ]


def test_a_file_that_has_a_name_still_is_not_copied(database: Path, descriptor: int) -> None:
    database.rename(database.with_name("moved.db"))
    assert keep_copy(descriptor, database) is None
    assert [path.name for path in database.parent.iterdir()] == ["moved.db"]


def test_a_copy_that_fails_leaves_nothing(database: Path, descriptor: int) -> None:
    database.unlink()
    database.parent.rmdir()
    with pytest.raises(FileNotFoundError):
        keep_copy(descriptor, database)

"""A database takes the place of another one as a whole, wherever the process dies on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from openred_central.errors import InternalBug
from openred_central.storage.copies import swapping
from openred_central.storage.copies.swapping import decided_swaps, finish_swap, swap_in

OLD = {"openred.db": "old", "openred.db-wal": "old log", "openred.db-shm": "old index"}
SWAPPED = {
    "openred.db": "new",
    "openred.db.damaged": "old",
    "openred.db.damaged-wal": "old log",
    "openred.db.damaged-shm": "old index",
}

# Renames and fsyncs on the way.
STEPS = 8


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def make(folder: Path) -> Path:
    """The old database with its companions, and a new one, in `folder`."""
    folder.mkdir(exist_ok=True)
    for name, content in OLD.items():
        (folder / name).write_text(content)
    (folder / "copy").write_text("new")
    return folder / "openred.db"


def test_the_old_one_is_kept_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    database = make(tmp_path)
    assert swap_in(database, tmp_path / "copy", "damaged") == tmp_path / "openred.db.damaged"
    assert files(tmp_path) == SWAPPED
    assert decided_swaps(database) == []


def test_an_older_file_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    database = make(tmp_path)
    (tmp_path / "openred.db.damaged-wal").write_text("older log")
    assert swap_in(database, tmp_path / "copy", "damaged").name == "openred.db.damaged-2"
    assert (tmp_path / "openred.db.damaged-wal").read_text() == "older log"
    assert (tmp_path / "openred.db.damaged-2-wal").read_text() == "old log"


def test_where_there_is_none_the_new_one_takes_the_place(tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("new")
    swap_in(tmp_path / "openred.db", tmp_path / "copy", "damaged")
    assert files(tmp_path) == {"openred.db": "new"}


def test_a_database_that_is_not_closed_is_not_taken(tmp_path: Path) -> None:
    database = make(tmp_path)
    (tmp_path / "copy-wal").write_text("commits")
    with pytest.raises(InternalBug, match="was not closed"):
        swap_in(database, tmp_path / "copy", "damaged")


class Died(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_wherever_the_process_dies_either_all_is_old_or_the_next_one_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    done = 0

    def dying(call: Callable[..., object]) -> Callable[..., object]:
        def one(*arguments: object) -> object:
            nonlocal done
            if done == steps:
                raise Died
            done += 1
            return call(*arguments)

        return one

    database = make(tmp_path)
    with monkeypatch.context() as patched, contextlib.suppress(Died):
        patched.setattr(Path, "rename", dying(Path.rename))
        patched.setattr(swapping, "sync", dying(swapping.sync))
        swap_in(database, tmp_path / "copy", "damaged")
    assert done == steps
    finish_swap(database)
    assert files(tmp_path) == (SWAPPED if steps else {**OLD, "copy": "new"})


def test_nothing_is_done_where_nothing_was_decided(tmp_path: Path) -> None:
    database = make(tmp_path)
    finish_swap(database)
    assert files(tmp_path) == {**OLD, "copy": "new"}
    assert decided_swaps(tmp_path / "missing" / "openred.db") == []

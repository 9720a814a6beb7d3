"""Puts a finished database in the place of another one, which is set aside, never overwritten.

A database is up to three files, and three files cannot be renamed at once. So the new one first gets a name
that tells what is to happen, `<database>.instead-of.<what the old one will be called>`: from then on the swap
is decided, and if the process dies in the middle, the next one finishes it before it opens anything. A new
database never meets the log of the old one, and a start never finds nothing and takes it for a first start.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import InternalBug
from ..private_files import give, sync
from ..sqlite.schema import COMPANIONS, companion

DECIDED = ".instead-of."


def swap_in(database: Path, new: Path, called: str) -> Path:
    """Put the file `new` in the place of `database`; returns where that is now, if there was one.

    `new` is complete, on the disk, on the same file system, and needs no file beside it. `called` is what is
    put behind the name of the old one, such as ``damaged-20270115T080000Z``; a number follows where there is
    such a file already. To be called with the database locked and closed. Raises `OSError`.
    """
    if any(path.exists() for path in _files(new)[1:]):
        raise InternalBug(f"{new} was not closed: a part of it is still beside it")
    free, count = called, 1
    while any(path.exists() for path in _files(database.with_name(f"{database.name}.{free}"))):
        count += 1
        free = f"{called}-{count}"
    give(new, database if database.exists() else database.parent)
    new.rename(database.with_name(f"{database.name}{DECIDED}{free}"))
    sync(database.parent)
    finish_swap(database)
    return database.with_name(f"{database.name}.{free}")


def decided_swaps(database: Path) -> list[Path]:
    """The new databases that were to be put in the place of `database` when a process died."""
    prefix = f"{database.name}{DECIDED}"
    if not database.parent.is_dir():
        return []
    return sorted(path for path in database.parent.iterdir() if path.name.startswith(prefix))


def finish_swap(database: Path) -> None:
    """Finish what `swap_in` has decided; harmless where nothing is. To be called like `swap_in`."""
    for new in decided_swaps(database):
        aside = database.with_name(f"{database.name}.{new.name.removeprefix(database.name + DECIDED)}")
        for old, kept in zip(_files(database), _files(aside), strict=True):
            if old.exists() and not kept.exists():
                old.rename(kept)
        sync(database.parent)
        new.rename(database)
        sync(database.parent)


def _files(database: Path) -> list[Path]:
    return [database, *(companion(database, ending) for ending in COMPANIONS)]

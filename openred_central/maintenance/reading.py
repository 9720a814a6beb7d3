"""Reading a database as it is at one moment, without getting in the way of a server that uses it.

A copy is read: so the moment lasts as long as reading takes, the server need not keep its log for it, and an
older format is migrated without touching the original.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from ..storage.copies.snapshots import Snapshot, copy_database
from ..storage.loading import Kind, database_path, kind_of
from ..storage.postgres.address import redacted
from ..storage.private_files import scratch_folder
from ..storage.sqlite.faults import reported
from ..storage.sqlite.sqlite import SqliteStore
from ..storage.store import StoreError

READ_ROWS = 10_000


def existing_database(database: str) -> Path:
    """Return the file that the setting `database` names. Raises `StoreError` where there is none."""
    path = database_path(database)
    if kind_of(database) is Kind.SERVER:
        raise StoreError(
            f"{redacted(database)} is on a server, whose own backups take the place of snapshots; "
            "name the file of a database with --database"
        )
    if path is None:
        raise StoreError(f"{database} keeps nothing; name the file of a database with --database")
    if not path.is_file():
        raise StoreError(f"there is no database {path}; name another one with --database")
    return path


def reading(database: Path, progress: Callable[[int, int], None]) -> AbstractContextManager[SqliteStore]:
    """Open a store on a copy of `database` as it is now. Raises `StoreError` where it cannot be read."""
    return _opened_copy(database, lambda copy: copy_database(database, copy, progress))


def reading_snapshot(database: Path, snapshot: Snapshot) -> AbstractContextManager[SqliteStore]:
    """Open a store on a copy of a snapshot of `database`. Raises `StoreError` where it cannot be read."""
    return _opened_copy(database, lambda copy: shutil.copyfile(snapshot.database, copy))


@contextmanager
def _opened_copy(database: Path, make: Callable[[Path], object]) -> Iterator[SqliteStore]:
    with ExitStack() as stack:
        with reported("read", database):
            copy = stack.enter_context(scratch_folder(database.parent)) / database.name
            make(copy)
            store = SqliteStore(copy)
            try:
                store.open()
            except StoreError as error:
                # The operator does not know the copy.
                raise StoreError(str(error).replace(str(copy), str(database))) from error
        stack.callback(store.close)
        yield store

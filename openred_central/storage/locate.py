"""From the `database` setting to a store."""

from __future__ import annotations

from pathlib import Path

from .memory import MemoryStore
from .sqlite.sqlite import SqliteStore
from .store import Store, StoreError

MEMORY = "memory:"


def open_store(database: str, *, check_beside: bool = False) -> Store:
    """The store that `database` names, opened: ``memory:`` keeps nothing, anything else is a file's path.

    `check_beside` as in `Store.open`. Raises `StoreError` where the text names no store, or where the store
    cannot be opened.
    """
    store: Store
    if database == MEMORY:
        store = MemoryStore()
    elif not database or "\0" in database or "://" in database or database.startswith(":"):
        raise StoreError(
            f"{database!r} names no database; give the path of a file such as data/openred.db, "
            f"or {MEMORY!r} to keep nothing"
        )
    else:
        store = SqliteStore(Path(database))
    store.open(check_beside=check_beside)
    return store

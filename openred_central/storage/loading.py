"""From the `database` setting to a store, and from a store to a checked directory."""

from __future__ import annotations

import logging
import math
import os
import struct
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from ..clock import AttendedTime, Clock
from ..collector import paused
from ..directory.consistency import check_restored
from ..directory.directory import Directory
from ..directory.soundness import COUNTER_MAX, TIME_S_MAX
from ..directory.state.changes import Vitals
from ..errors import InternalBug
from ..security.tokens.revocations import find_fault, is_token_id
from .postgres.access import Access
from .sqlite.sqlite import SqliteStore
from .store import DamageError, Loads, MemoryStore, Store, StoreError

if TYPE_CHECKING:
    from .postgres.store import PostgresStore

log = logging.getLogger("openred.storage")

MEMORY = "memory:"
SERVER_SCHEMES = ("postgresql", "postgres")
# The secret with the revocations of exports and of databases of earlier versions.
REVOCATIONS = "revocations"

# Each part costs a way to the database, and its records should still fit into the processor's caches.
LOAD_ROWS = 2_000
# Errors that a value which no directory ever wrote can cause.
MISFITS = (InternalBug, ValueError, TypeError, LookupError, ArithmeticError, struct.error)


class Kind(Enum):
    """A kind of place that the setting `database` may name."""

    MEMORY = auto()
    FILE = auto()
    # A PostgreSQL server, which several instances share.
    SERVER = auto()
    # No place at all.
    NONE = auto()


def kind_of(database: str) -> Kind:
    """Return the kind of place that `database` names."""
    if database == MEMORY:
        return Kind.MEMORY
    scheme, separator, _ = database.partition("://")
    if separator:
        return Kind.SERVER if scheme in SERVER_SCHEMES else Kind.NONE
    return Kind.NONE if not database or "\0" in database or database.startswith(":") else Kind.FILE


def database_path(database: str) -> Path | None:
    """Return the file that the setting `database` names; None where it names none."""
    return Path(os.path.realpath(database)) if kind_of(database) is Kind.FILE else None


def open_store(database: str, *, check_beside: bool = False) -> Store:
    """Return the opened store that `database` names: ``memory:``, or the path of a file.

    `check_beside` as in `Store.open`. For a server see `open_shared`. Raises `StoreError` where the text
    names no store, or where the store cannot be opened.
    """
    store: Store
    kind = kind_of(database)
    if kind is Kind.MEMORY:
        store = MemoryStore()
    elif kind is not Kind.FILE:
        raise StoreError(
            f"{database!r} names no database; give the path of a file such as data/openred.db, "
            f"or {MEMORY!r} to keep nothing"
        )
    else:
        store = SqliteStore(Path(database))
    store.open(check_beside=check_beside)
    return store


def open_shared(database: str, access: Access) -> PostgresStore:
    """Return the opened store on the PostgreSQL server at the URL `database`. Raises `StoreError`.

    It reads at once, and writes with the lease alone.
    """
    try:
        # The client of PostgreSQL is an extra.
        from .postgres.store import PostgresStore  # noqa: PLC0415
    except ImportError as error:
        raise StoreError(
            f"{error.name} is missing, by which PostgreSQL is reached; install openred-central[postgres]"
        ) from error
    store = PostgresStore(database, access)
    store.open()
    return store


def load(directory: Directory, store: Loads, clock: Clock, *, tick_s: float) -> AttendedTime:
    """Fill an empty `directory` from `store`, check it, and return attended time, which goes on.

    Rows that cannot be served stay as they are in the store: `directory.nodes.unserved` has them with the
    reason. Raises `DamageError` where the content of the store does not fit together as a whole, `StoreError`
    where it cannot be read.
    """
    vitals = store.load_vitals()
    if vitals is not None:
        _check_vitals(store, vitals)
    attended_s = vitals.attended_s if vitals is not None else 0.0
    attended = AttendedTime(clock, attended_s=attended_s, tick_s=tick_s)
    with paused():
        try:
            if vitals is not None:
                directory.saving.restore_vitals(vitals)
            directory.saving.restore_records(store.load_columns(LOAD_ROWS))
            for tombstones in store.load_tombstones(LOAD_ROWS):
                directory.saving.restore_tombstones(tombstones)
            _check_time(directory, store, vitals)
            problems = check_restored(directory, attended.now())
            if problems and directory.saving.set_dead_aside():
                problems = check_restored(directory, attended.now())
            if problems:
                raise DamageError(f"{store.location} does not fit together: {problems[0]}")
        except MISFITS as error:
            raise DamageError(f"{store.location} cannot be loaded: {error}") from error
    # None of it is needed: what cannot be used is learned anew.
    for fault in directory.restore_kept(store.load_kept()):
        log.warning("left out what %s keeps as %s", store.location, fault)
    store.leave_alone(row.slot for row in directory.nodes.unserved)
    return attended


def _check_vitals(store: Loads, vitals: Vitals) -> None:
    """Raise `DamageError` where a directory cannot go on from `vitals`."""
    for name, value, most in zip(Vitals._fields, vitals, (TIME_S_MAX, COUNTER_MAX, TIME_S_MAX), strict=True):
        if not (isinstance(value, int | float) and 0 <= value <= most):
            raise DamageError(
                f"{store.location} does not fit together: its vitals have {name} {value!r}, which is not in "
                f"0 to {most:g}"
            )


def _check_time(directory: Directory, store: Loads, vitals: Vitals | None) -> None:
    """Raise `DamageError` where the vitals are wrong, and not single rows."""
    unserved = directory.nodes.unserved
    if vitals is None and (unserved or len(directory)):
        raise DamageError(f"{store.location} does not fit together: it holds nodes, and no vitals")
    ahead = sum(row.is_ahead for row in unserved)
    if vitals is not None and ahead > len(directory):
        raise DamageError(
            f"{store.location} does not fit together: its vitals have attended_s {vitals.attended_s}, and "
            f"{ahead} nodes were seen after that, more than before"
        )


def load_revocations(store: Loads) -> tuple[dict[str, float], list[str]]:
    """Return the revocations in `store`, token id → expiry, and a line for each damaged one.

    A damaged one stays in the store as it is. If its id can be read it counts, and does not expire. Raises
    `StoreError`.
    """
    revoked: dict[str, float] = {}
    damaged: list[str] = []
    for token_id, expires_at in store.load_revocations():
        fault = find_fault(token_id, expires_at)
        if fault is not None:
            damaged.append(fault)
        if is_token_id(token_id):
            revoked[token_id.decode("ascii")] = expires_at if fault is None else math.inf
    left = store.load_secret(REVOCATIONS)
    if left is not None:
        damaged.append(f"not all revocations of an earlier version can be read, in {len(left)} bytes")
    return revoked, damaged

"""From a store to a directory, checked: at the start of a server, and wherever a store is verified."""

from __future__ import annotations

import gc
import struct

from .clock import AttendedTime, Clock
from .directory.consistency import check_restored
from .directory.directory import Directory
from .errors import InternalBug
from .storage.store import DamageError, Store

# So many rows, their columns and what is made of them fit into the processor's nearer caches: with 10,000 a
# start took a third longer.
LOAD_ROWS = 500
# What a value that no directory ever wrote can do to one.
MISFITS = (InternalBug, ValueError, TypeError, LookupError, ArithmeticError, struct.error)


def load(directory: Directory, store: Store, clock: Clock, *, tick_s: float) -> AttendedTime:
    """Fill an empty `directory` from `store` and check it; attended time goes on where it stood.

    Raises `DamageError` where what the store holds does not fit together, `StoreError` where it cannot be
    read.
    """
    vitals = store.load_vitals()
    attended_s = vitals.attended_s if vitals is not None else 0.0
    attended = AttendedTime(clock, attended_s=attended_s, tick_s=tick_s)
    # What is loaded stays; walking it again and again would only cost time.
    gc.disable()
    try:
        if vitals is not None:
            directory.saving.restore_vitals(vitals)
        directory.saving.restore_records(store.load_columns(LOAD_ROWS))
        for tombstones in store.load_tombstones(LOAD_ROWS):
            directory.saving.restore_tombstones(tombstones)
        problems = check_restored(directory, attended.now())
        if problems:
            raise DamageError(f"{store.location} does not fit together: {problems[0]}")
    except MISFITS as error:
        raise DamageError(f"{store.location} cannot be loaded: {error}") from error
    finally:
        gc.enable()
    gc.freeze()
    return attended

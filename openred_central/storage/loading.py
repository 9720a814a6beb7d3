"""From a store to a directory, checked: at the start of a server, and wherever a store is verified."""

from __future__ import annotations

import struct

from ..clock import AttendedTime, Clock
from ..collector import exempt_all, paused
from ..directory.consistency import check_restored
from ..directory.directory import Directory
from ..directory.soundness import COUNTER_MAX, TIME_S_MAX
from ..directory.state.batch import Vitals
from ..errors import InternalBug
from .store import DamageError, Store

# So many rows, their columns and what is made of them fit into the processor's nearer caches: with 10,000 a
# start took a third longer.
LOAD_ROWS = 500
# What a value that no directory ever wrote can do to one.
MISFITS = (InternalBug, ValueError, TypeError, LookupError, ArithmeticError, struct.error)


def load(directory: Directory, store: Store, clock: Clock, *, tick_s: float) -> AttendedTime:
    """Fill an empty `directory` from `store` and check it; attended time goes on where it stood.

    Rows that cannot be served are set aside and left as they are in the store: `directory.nodes.unserved`
    tells which and why. Raises `DamageError` where what the store holds does not fit together as a whole,
    `StoreError` where it cannot be read.
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
    exempt_all()
    store.leave_alone(row.slot for row in directory.nodes.unserved)
    return attended


def _check_vitals(store: Store, vitals: Vitals) -> None:
    """Raise `DamageError` where a directory cannot go on from `vitals`."""
    for name, value, most in zip(Vitals._fields, vitals, (TIME_S_MAX, COUNTER_MAX, TIME_S_MAX), strict=True):
        if not (isinstance(value, int | float) and 0 <= value <= most):
            raise DamageError(
                f"{store.location} does not fit together: its vitals have {name} {value!r}, which is not in "
                f"0 to {most:g}"
            )


def _check_time(directory: Directory, store: Store, vitals: Vitals | None) -> None:
    """Raise `DamageError` where it is the vitals that are wrong, and not single rows."""
    unserved = directory.nodes.unserved
    if vitals is None and (unserved or len(directory)):
        raise DamageError(f"{store.location} does not fit together: it holds nodes, and no vitals")
    ahead = sum(row.is_ahead for row in unserved)
    if vitals is not None and ahead > len(directory):
        raise DamageError(
            f"{store.location} does not fit together: its vitals have attended_s {vitals.attended_s}, and "
            f"{ahead} nodes were seen after that, more than before"
        )

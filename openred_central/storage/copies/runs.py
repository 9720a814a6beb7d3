"""The runs of a server that made a database: they show if one copy is an earlier state of another.

If an operator puts an older snapshot in the place of the database, later changes are lost, and revisions are
counted on from there: other changes get the numbers that newer snapshots have already. So every run leaves a
mark when it begins, a random name and the vitals at that time, and a copy has the marks of all runs that led
to it.
"""

from __future__ import annotations

import logging
import struct
from typing import NamedTuple

from ...directory.state.changes import Vitals
from ..store import DamageError, Loads, Store

log = logging.getLogger("openred.storage")

# The name under which a store keeps the marks.
RUNS = "runs"
RUN_BYTES = 8
# 24 bytes each. A copy from before so many runs can no longer be compared.
RUNS_MAX = 1_000
_RUN = struct.Struct(f"<{RUN_BYTES}sqd")


class Run(NamedTuple):
    """One run of a server: `name`, `RUN_BYTES` random bytes, and the vitals with which it began."""

    name: bytes
    revision: int
    attended_s: float


def load_runs(store: Loads) -> list[Run]:
    """Return the runs that have made the content of `store`, oldest first. Raises `StoreError`."""
    packed = store.load_secret(RUNS) or b""
    if len(packed) % _RUN.size:
        raise DamageError(f"{store.location} does not fit together: its runs have {len(packed)} bytes")
    return list(map(Run._make, _RUN.iter_unpack(packed)))


def begin_run(store: Store, name: bytes) -> None:
    """Leave the mark of a new run, before anything is changed. Raises `StoreError`.

    Damaged marks are dropped: they must not stop a start.
    """
    vitals = store.load_vitals()
    run = Run(name, vitals.revision, vitals.attended_s) if vitals is not None else Run(name, 0, 0.0)
    try:
        former = load_runs(store)
    except DamageError as error:
        log.error("%s; the marks of earlier runs are dropped: older snapshots cannot be compared", error)
        former = []
    runs = [*former, run][-RUNS_MAX:]
    store.save_secret(RUNS, b"".join(_RUN.pack(*one) for one in runs))


def is_earlier(then: list[Run], then_vitals: Vitals | None, now: list[Run]) -> bool:
    """Return whether a copy with the runs `then` is, or may be, an earlier state of one with the runs `now`.

    Its last run must be one of `now`, and the next of those must not have begun before the copy was made:
    the copy would hold changes that this run has never seen. A copy without any mark is older than the marks.
    """
    if not then:
        return True
    names = [run.name for run in now]
    if then[-1].name not in names:
        return False
    following = now[names.index(then[-1].name) + 1 :]
    if not following or then_vitals is None:
        return True
    next_run = following[0]
    return then_vitals.revision <= next_run.revision and then_vitals.attended_s <= next_run.attended_s

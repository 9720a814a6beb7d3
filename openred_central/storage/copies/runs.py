"""Which runs of a server have made a database: so two copies tell if one is an earlier state of the other.

Who puts an older snapshot in the place of the database gives up what came after it, and revisions are counted
on from there: the numbers in newer snapshots are given out again, to other changes. So every run leaves a
mark when it begins, a random name and where the directory stood, and a copy has the marks of all runs that
led to it.
"""

from __future__ import annotations

import logging
import struct
from typing import NamedTuple

from ...directory.state.changes import Vitals
from ..store import DamageError, Store

log = logging.getLogger("openred.storage")

# The name under which a store keeps the marks.
RUNS = "runs"
RUN_BYTES = 8
# 24 bytes each. Of a copy from before as many runs it can no longer be told what it is.
RUNS_MAX = 1_000
_RUN = struct.Struct(f"<{RUN_BYTES}sqd")


class Run(NamedTuple):
    """One run of a server: `name`, `RUN_BYTES` random bytes, and the vitals with which it began."""

    name: bytes
    revision: int
    attended_s: float


def load_runs(store: Store) -> list[Run]:
    """The runs that have made what is in `store`, oldest first. Raises `StoreError`."""
    packed = store.load_secret(RUNS) or b""
    if len(packed) % _RUN.size:
        raise DamageError(f"{store.location} does not fit together: its runs have {len(packed)} bytes")
    return list(map(Run._make, _RUN.iter_unpack(packed)))


def begin_run(store: Store, name: bytes) -> None:
    """Leave the mark of a new run, before anything is changed. Raises `StoreError`.

    Marks that are damaged tell nothing, and nobody is served by them: they are given up.
    """
    vitals = store.load_vitals()
    run = Run(name, vitals.revision, vitals.attended_s) if vitals is not None else Run(name, 0, 0.0)
    try:
        former = load_runs(store)
    except DamageError as error:
        log.error("%s; the marks of earlier runs are given up, and older snapshots cannot be compared", error)
        former = []
    runs = [*former, run][-RUNS_MAX:]
    store.save_secret(RUNS, b"".join(_RUN.pack(*one) for one in runs))


def is_earlier(then: list[Run], then_vitals: Vitals | None, now: list[Run]) -> bool:
    """Whether a copy with the runs `then` is an earlier state of one with the runs `now`, or may be.

    It is where its last run is one of those, unless the next one began before the copy was made: then the
    copy holds what that run has never seen. A copy without any mark is older than they are.
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

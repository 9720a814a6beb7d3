"""The changes of a directory on their way to its replicas: frames, and the parts of a load. Pure.

A frame is one commit. A load is the whole directory in bounded parts, for a replica that begins or begins
anew; all frames since its beginning follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .nodes import Nodes
from .state.changes import Batch
from .state.columns import DIGEST_MASK, RecordColumns
from .state.node import Tombstone
from .state.signs import SignColumns


class HabitChunk(NamedTuple):
    """The habits of one chunk of slots: `packed` by `Habits.pack`, and a byte of `Habits.odds` for each."""

    number: int
    packed: bytes
    odds: bytes


class Outlook(NamedTuple):
    """The part of forecasts that all nodes share; `returns` is `Returns.refreshed`."""

    usual_score: float
    fair_from_s: float
    pace_first: int
    returns: bytes


class Check(NamedTuple):
    """The sum of the digests of all records, the number of nodes in each state, and that of tombstones."""

    digest: int
    state_counts: tuple[int, ...]
    tombstones: int

    @classmethod
    def of(cls, nodes: Nodes) -> Check:
        registry = nodes.registry
        digest = sum(registry.shard_digests) & DIGEST_MASK
        return cls(digest, tuple(registry.state_counts), len(nodes.tombstones))


class Frame(NamedTuple):
    """One commit, number `seq` of the run, at wall time `at`.

    `batch` has no pages, and of kept values only what replicas need: blocks, and rows of figures. `signs` are
    the signs of life that the leader heard itself. `habits` and `outlook` are what changed since the former
    frame. `check` is the state after this frame; None while further changes are pending.
    """

    seq: int
    at: float
    batch: Batch
    signs: SignColumns = SignColumns()
    habits: Sequence[HabitChunk] = ()
    outlook: Outlook | None = None
    check: Check | None = None


class LoadPart(NamedTuple):
    """A part of a load. Records come first, in the order of their slots.

    All frames up to `seq` are in the load, and all changes numbered up to `as_of`; others up to `newest` may
    be in this part. `revision` and `transitions_per_h` are as in `Vitals`; `kept` as in `Batch.kept`.
    """

    seq: int
    as_of: int
    newest: int
    revision: int
    transitions_per_h: float
    records: RecordColumns | None = None
    tombstones: Sequence[Tombstone] = ()
    habits: Sequence[HabitChunk] = ()
    outlook: Outlook | None = None
    kept: Sequence[tuple[str, bytes | None]] = ()

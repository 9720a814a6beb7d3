"""What passes between the directory and a store."""

from __future__ import annotations

from typing import NamedTuple

from .node import Record, SignOfLife, Tombstone


class Vitals(NamedTuple):
    """What the directory must remember of itself, saved with every batch.

    `attended_s` is the clock of the life cycle; `revision` the counter of acknowledged changes;
    `transitions_per_h` how many nodes move on by silence in a usual hour.
    """

    attended_s: float
    revision: int
    transitions_per_h: float


class Batch(NamedTuple):
    """Changes to be committed in one transaction.

    `records` replace whatever their slots held; `freed_slots` hold nothing any more; `signs_of_life` update
    slots that stay otherwise the same (never one that is also in `records` or `freed_slots`); `tombstones`
    are put up and the tombstones of `lifted_id_hashes` taken away; `vitals` replace the former ones. Every
    change numbered up to `last_change` is in this batch or in an earlier one.
    """

    records: list[Record]
    freed_slots: list[int]
    signs_of_life: list[SignOfLife]
    tombstones: list[Tombstone]
    lifted_id_hashes: list[str]
    vitals: Vitals
    last_change: int

    @property
    def rows(self) -> int:
        """How many rows of a store the batch is about, the vitals left out."""
        return (
            len(self.records)
            + len(self.freed_slots)
            + len(self.signs_of_life)
            + len(self.tombstones)
            + len(self.lifted_id_hashes)
        )

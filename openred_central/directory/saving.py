"""The way between the directory and its store: batches of changes out, records back in."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..clock import Now
from ..errors import InternalBug
from .life.expiry import Expiry
from .nodes import Nodes
from .soundness import Screen, Unserved
from .state.changes import Batch, Vitals
from .state.columns import RecordColumns
from .state.kept import ENTRIES_PER_BATCH
from .state.node import Record, Tombstone
from .state.pages import PageRun, slots_of

# A page takes as much of the limit of a batch as so many rows.
PAGE_ROWS = 10
# Attended time is saved this often even if nothing else changes, so that a crash loses little of it.
VITALS_INTERVAL_S = 60.0


class Saving:
    """Source of batches for a store, and sink for its records at start."""

    def __init__(self, nodes: Nodes, expiry: Expiry) -> None:
        self._nodes = nodes
        self._expiry = expiry
        self._vitals_taken_s: float | None = None
        # Without vitals no time is too late.
        self._restored_s = math.inf
        # Keys of the batch that is being saved, in order.
        self._in_flight: list[int | str] = []

    @property
    def last_change(self) -> int:
        return self._nodes.changes.last

    @property
    def pending(self) -> int:
        """Number of records, tombstones, pages of signs of life and kept values that wait to be stored."""
        return len(self._nodes.changes) + len(self._nodes.kept)

    @property
    def due(self) -> int:
        """Number of rows that may be taken before the next flush; a page counts as `PAGE_ROWS`."""
        changes = self._nodes.changes
        return changes.noted + PAGE_ROWS * changes.heard.due + self._nodes.kept.at_once

    @property
    def pending_records(self) -> int:
        """Number of records and tombstones that wait to be stored, without signs of life."""
        return self._nodes.changes.noted

    def take_changes(
        self, limit: int, now: Now, *, closing: bool = False, flush: bool = True
    ) -> Batch | None:
        """Remove and return up to `limit` pending changes; None if there is nothing to save.

        Only a `flush` takes kept values, and what was heard since the last one. A batch without changes but
        with new vitals comes once a minute, and always when `closing`.
        """
        changes = self._nodes.changes
        taken_s = self._vitals_taken_s
        recent = taken_s is not None and now.attended_s - taken_s < VITALS_INTERVAL_S
        if flush:
            changes.heard.flush()
        if not self.due and recent and not closing and not (flush and self._nodes.kept):
            return None
        self._vitals_taken_s = now.attended_s
        self._in_flight = changes.take(limit)
        try:
            batch = self._batch(limit, now)
            return batch._replace(kept=self._nodes.kept.take(ENTRIES_PER_BATCH if flush else 0))
        except BaseException:
            # Memory may have run out, for example. Without this the changes would never be saved.
            changes.put_back(self._in_flight)
            changes.heard.put_back(range(len(changes.heard.marks)))
            self._nodes.kept.put_back()
            raise

    def _batch(self, limit: int, now: Now) -> Batch:
        """Return the batch of the changes taken, with pages up to `limit` rows in all."""
        nodes, changes = self._nodes, self._nodes.changes
        slots = [key for key in self._in_flight if isinstance(key, int)]
        freed_slots = list(filter(nodes.registry.is_free, slots))
        if freed_slots:
            slots = [slot for slot in slots if not nodes.registry.is_free(slot)]
        records = nodes.registry.records(slots)
        tombstones: list[Tombstone] = []
        lifted: list[str] = []
        for key in self._in_flight if len(slots) + len(freed_slots) < len(self._in_flight) else ():
            if isinstance(key, str):
                tombstone = nodes.tombstones.get(key)
                if tombstone is not None:
                    tombstones.append(tombstone)
                else:
                    lifted.append(key)
        vitals = Vitals(now.attended_s, nodes.revision, self._expiry.silence.usual_per_h)
        batch = Batch(records, freed_slots, tombstones, lifted, vitals, changes.covered())
        return batch._replace(pages=self._pages(max(1, (limit - batch.rows) // PAGE_ROWS)))

    def _pages(self, limit: int) -> list[PageRun]:
        """Take about `limit` pages on which a node was heard.

        No rest of less than a batch is left, since it would wait for the next flush. A page with a record
        that is still to be stored waits: the store would lay it over the former one.
        """
        changes, copied, waiting = self._nodes.changes, list[PageRun](), list[int]()
        due = changes.heard.due
        for run in changes.heard.take(due if due < 2 * limit else limit):
            settled = [run] if changes.are_settled(slots_of(run)) else []
            for page in () if settled else run:
                alone = range(page, page + 1)
                if changes.are_settled(slots_of(alone)):
                    settled.append(alone)
                else:
                    waiting.append(page)
            copied += map(self._nodes.registry.pages, settled)
        changes.heard.put_back(waiting)
        return copied

    def put_back(self, batch: Batch) -> None:
        """Make the changes of the last batch pending again. They will be saved as they are then."""
        # A batch of vitals alone is tried again, too; otherwise nothing would show that the store is back.
        self._vitals_taken_s = None
        self._nodes.changes.put_back(self._in_flight)
        for run in batch.pages:
            self._nodes.changes.heard.put_back(run.numbers)
        self._nodes.kept.put_back()

    def restore_vitals(self, vitals: Vitals) -> None:
        """Restore the state of the directory itself. To be called first."""
        self._nodes.revision = vitals.revision
        self._expiry.silence.usual_per_h = vitals.transitions_per_h
        # It is not known which tombstones went before.
        self._nodes.tombstones.note_gone(vitals.attended_s)
        self._restored_s = vitals.attended_s

    def restore_records(self, parts: Iterable[RecordColumns]) -> None:
        """Add all records of a store, in the order of their slots. To be called once.

        Records that cannot be served are set aside in `Nodes.unserved`, with the reason. Raise `InternalBug`
        if the slots are out of order.
        """
        nodes = self._nodes
        screen, aside = Screen(self._restored_s, nodes.free_slots_max), list[Unserved]()
        for columns in parts:
            sound = screen.sound_rows(columns)
            if sound is not None:
                aside += map(self._set_one_aside, nodes.registry.restore(sound))
        if screen.unserved or aside:
            nodes.set_aside([*screen.unserved, *aside])
        nodes.place_all()
        self._expiry.attendance.resume(nodes.registry.last_seen_s)

    def _set_one_aside(self, record: Record) -> Unserved:
        """Serve the younger one of `record` and the known one with its id. Return the other one."""
        registry = self._nodes.registry
        known = registry.slot_of(record.node_id)
        if known is None:
            raise InternalBug(f"{record.node_id!r} is not registered")
        served, aside = known, record
        if record.revision > registry.record(known).revision:
            served, aside = record.slot, registry.record(known)
            registry.remove(known)
            registry.put(record)
        return Unserved(aside.slot, aside.node_id, f"the node is also in slot {served}, which is served")

    def set_dead_aside(self) -> bool:
        """Set aside nodes that have a tombstone as well. Return whether there were any."""
        nodes = self._nodes
        found = [name for name in nodes.registry.node_ids() if nodes.tombstones.of_node(name) is not None]
        aside = []
        for name in found:
            slot = nodes.registry.slot_of(name)
            if slot is not None:
                nodes.discard(slot)
                aside.append(Unserved(slot, name, "there is a tombstone of the node as well"))
        nodes.set_aside(aside)
        return bool(aside)

    def restore_tombstones(self, tombstones: list[Tombstone]) -> None:
        """Add the tombstones of a store, oldest first, over several calls.

        A tombstone from the future counts from now, since it would keep all after it from expiring. A time
        that is no number, in a damaged row, is the earliest.
        """
        for tombstone in tombstones:
            if tombstone.died_s > self._restored_s:
                tombstone = tombstone._replace(died_s=self._restored_s)
            if not (math.isfinite(tombstone.died_s) and math.isfinite(tombstone.died_at)):
                tombstone = tombstone._replace(died_s=0.0, died_at=0.0)
            for crowded_out in self._nodes.tombstones.put_up(tombstone, self._restored_s):
                self._nodes.changes.note(crowded_out.id_hash)

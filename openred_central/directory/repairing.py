"""Find what a store lacks that went back to an earlier state, and have it written again. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from .nodes import Nodes
from .state.node import Record, Tombstone
from .state.pages import PAGE_SLOTS


class Repair:
    """The differences between `nodes` and a store, found in parts; then `note` them.

    Changes of `nodes` meanwhile are pending by themselves, so they do no harm here.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._next_slot = 0
        self._keys: dict[int | str, None] = {}
        self._stored_hashes = set[str]()

    def compare_records(self, records: Iterable[Record]) -> None:
        """Take a part of the records of the store, which come in the order of their slots."""
        registry = self._nodes.registry
        for record in records:
            self._miss(range(self._next_slot, record.slot))
            self._next_slot = record.slot + 1
            if registry.is_free(record.slot) or _lasting(registry.record(record.slot)) != _lasting(record):
                self._keys[record.slot] = None

    def compare_tombstones(self, tombstones: Iterable[Tombstone]) -> None:
        """Take a part of the tombstones of the store."""
        for tombstone in tombstones:
            self._stored_hashes.add(tombstone.id_hash)
            if self._nodes.tombstones.get(tombstone.id_hash) != tombstone:
                self._keys[tombstone.id_hash] = None

    def note(self) -> int:
        """Make all differences pending, in one batch, and all signs of life. Return the number of rows."""
        nodes = self._nodes
        self._miss(range(self._next_slot, nodes.registry.slots_count))
        for tombstones in nodes.tombstones.slices(PAGE_SLOTS):
            for tombstone in tombstones:
                if tombstone.id_hash not in self._stored_hashes:
                    self._keys[tombstone.id_hash] = None
        # Names may have moved between slots, which must not be seen half.
        nodes.changes.put_back(list(self._keys))
        nodes.changes.heard.put_back(range(len(nodes.changes.heard.marks)))
        return len(self._keys)

    def _miss(self, slots: range) -> None:
        """Note the nodes in `slots`, of which the store has nothing."""
        registry = self._nodes.registry
        self._keys |= dict.fromkeys(slot for slot in slots if not registry.is_free(slot))


def _lasting(record: Record) -> Record:
    """Return `record` without the signs of life, which are stored by pages."""
    return record._replace(last_seen_at=0.0, last_seen_s=0.0, usual_gap_s=0.0)

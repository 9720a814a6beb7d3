"""What answers for the names of the dead, until it too is forgotten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from .node import Tombstone, hash_id


class Tombstones:
    """Tombstones by the hash of the id, in the order in which they expire.

    All stand for the same time, so the order in which they were put up is the order in which they expire:
    no heap is needed. `count_max` bounds them; beyond it the oldest goes first.
    """

    def __init__(self, *, tombstone_s: float, count_max: int) -> None:
        self._tombstone_s = tombstone_s
        self._count_max = count_max
        # Not a plain dictionary, which looks for its first key among all that were ever taken away.
        self._by_hash: OrderedDict[str, Tombstone] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_hash)

    def __iter__(self) -> Iterator[Tombstone]:
        return iter(self._by_hash.values())

    def put_up(self, tombstone: Tombstone) -> list[Tombstone]:
        """Keep `tombstone`, instead of an older one of the same name. Returns those that had to make room."""
        self._by_hash.pop(tombstone.id_hash, None)
        self._by_hash[tombstone.id_hash] = tombstone
        crowded_out = []
        while len(self._by_hash) > self._count_max:
            crowded_out.append(self._by_hash.popitem(last=False)[1])
        return crowded_out

    def lift(self, id_hash: str) -> Tombstone | None:
        """Take the tombstone of `id_hash` away and return it; None where there is none."""
        return self._by_hash.pop(id_hash, None)

    def get(self, id_hash: str) -> Tombstone | None:
        """The tombstone of `id_hash`; None where there is none."""
        return self._by_hash.get(id_hash)

    def of_node(self, node_id: str) -> Tombstone | None:
        """The tombstone of a node by its id; None where there is none."""
        return self._by_hash.get(hash_id(node_id)) if self._by_hash else None

    def ends_s(self, tombstone: Tombstone) -> float:
        """When `tombstone` expires, in attended seconds."""
        return tombstone.died_s + self._tombstone_s

    def next_s(self) -> float | None:
        """When the next tombstone expires, in attended seconds; None where there is none."""
        for tombstone in self._by_hash.values():
            return self.ends_s(tombstone)
        return None

    def pop_expired(self, now_s: float) -> Tombstone | None:
        """The next tombstone that has expired at `now_s`, taken away; None where none has."""
        for tombstone in self._by_hash.values():
            if self.ends_s(tombstone) <= now_s:
                return self._by_hash.pop(tombstone.id_hash)
            return None
        return None

"""Tombstones, which answer for the names of dead nodes until they expire, too."""

from __future__ import annotations

from binascii import b2a_base64
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from operator import methodcaller

import orjson

from ..lifecycle import Event
from .changes import HASH_PARTS
from .node import Tombstone, hash_id, id_digest
from .registry import shard_of

_BASE64 = partial(b2a_base64, newline=False)
_URL_SAFE_TO_PLAIN = str.maketrans("-_", "+/")
# Longest time for which something granted to a node is valid after its death: `LIFETIME_S_MAX` of tokens.
GRANTED_S_MAX = 3_600.0
# Void entries of an order beyond those that are as many as the valid ones.
VOID_MAX = 1_000
# Entries that each removal looks at during a sweep.
SWEPT_PER_CALL = 4


class _Kind:
    """Tombstones of one kind, in the order in which they were added.

    Very many may come, or be removed, within seconds. So no dictionary grows by much at once, void entries of
    the order are swept a few at a time, and tombstones are kept as JSON, because the garbage collector never
    walks a dictionary of bytes.
    """

    __slots__ = ("_count", "_order", "_parts", "_swept")

    def __init__(self) -> None:
        self._parts: tuple[dict[str, bytes], ...] = tuple({} for _ in range(HASH_PARTS))
        # The encoded tombstones, oldest first: those that a sweep has passed, and then all others. One that
        # is not in the dictionaries any more is void.
        self._swept: deque[bytes] = deque()
        self._order: deque[bytes] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Tombstone]:
        """Iterate over the tombstones, oldest first."""
        return map(_decode, filter(self._is_valid, chain(self._swept, self._order)))

    def hashes(self) -> Iterator[str]:
        """Iterate over the hashes, in no order."""
        return chain.from_iterable(self._parts)

    def slices(self, count_max: int) -> Iterator[list[Tombstone]]:
        for part in self._parts:
            encoded = list(part.values())
            for first in range(0, len(encoded), count_max):
                yield list(map(_decode, encoded[first : first + count_max]))

    def put(self, tombstone: Tombstone) -> None:
        """Add a tombstone of a name that has none."""
        encoded = orjson.dumps(tuple(tombstone))
        self._part(tombstone.id_hash)[tombstone.id_hash] = encoded
        self._order.append(encoded)
        self._count += 1

    def get(self, id_hash: str) -> Tombstone | None:
        encoded = self._part(id_hash).get(id_hash)
        return None if encoded is None else _decode(encoded)

    def pop(self, id_hash: str) -> Tombstone | None:
        encoded = self._part(id_hash).pop(id_hash, None)
        if encoded is None:
            return None
        self._count -= 1
        # A name that dies and returns again and again must not fill the memory.
        if self._swept or len(self._order) > 2 * self._count + VOID_MAX:
            self.sweep_some()
        return _decode(encoded)

    def first(self) -> Tombstone | None:
        """Return the oldest tombstone; None if there is none."""
        for entries in (self._swept, self._order):
            while entries:
                if self._is_valid(entries[0]):
                    return _decode(entries[0])
                entries.popleft()
        return None

    def sweep_some(self) -> None:
        """Drop a few void entries from the order; a sweep that reached its end begins anew."""
        for _ in range(min(SWEPT_PER_CALL, len(self._order))):
            entry = self._order.popleft()
            if self._is_valid(entry):
                self._swept.append(entry)
        if not self._order:
            self._swept, self._order = self._order, self._swept

    def _is_valid(self, entry: bytes) -> bool:
        id_hash = _decode(entry).id_hash
        return self._part(id_hash).get(id_hash) is entry

    def _part(self, id_hash: str) -> dict[str, bytes]:
        return self._parts[shard_of(id_hash, HASH_PARTS)]


def _decode(encoded: bytes) -> Tombstone:
    return Tombstone._make(orjson.loads(encoded))


class Tombstones:
    """Tombstones by the hash of the id, of two kinds: nodes that died by silence, and forgotten nodes.

    All stand equally long, so in each kind they expire in the order in which they were added, and no heap is
    needed. `count_max` bounds each kind; beyond it the oldest one goes. Callers can have any number of nodes
    forgotten, so these crowd out only their own kind.
    """

    def __init__(self, *, tombstone_s: float, count_max: int) -> None:
        self._tombstone_s = tombstone_s
        self._count_max = count_max
        self._silent, self._forgotten = _Kind(), _Kind()
        # Until then, something granted to a node whose tombstone is gone may be valid.
        self._grants_end_s = 0.0

    def __len__(self) -> int:
        return len(self._silent) + len(self._forgotten)

    def __iter__(self) -> Iterator[Tombstone]:
        return chain(self._silent, self._forgotten)

    def put_up(self, tombstone: Tombstone, now_s: float) -> list[Tombstone]:
        """Add `tombstone` at attended `now_s`, in place of an older one of the same name.

        Return those that had to make room.
        """
        kind = self.take(tombstone)
        crowded_out = []
        while len(kind) > self._count_max and (oldest := kind.first()) is not None:
            kind.pop(oldest.id_hash)
            crowded_out.append(oldest)
            self.note_gone(now_s)
        return crowded_out

    def take(self, tombstone: Tombstone) -> _Kind:
        """Add `tombstone` in place of one of the same name, and let none make room. Return its kind."""
        self.lift(tombstone.id_hash)
        kind = self._forgotten if tombstone.reason == Event.FORGOTTEN else self._silent
        kind.put(tombstone)
        return kind

    def slices(self, count_max: int) -> Iterator[list[Tombstone]]:
        """Iterate over the tombstones, in no order, in lists of at most `count_max`.

        They may change meanwhile: what was put up or lifted since may be left out or told.
        """
        for kind in (self._silent, self._forgotten):
            yield from kind.slices(count_max)

    def lift(self, id_hash: str) -> Tombstone | None:
        """Remove and return the tombstone of `id_hash`; None if there is none."""
        return self._silent.pop(id_hash) or self._forgotten.pop(id_hash)

    def get(self, id_hash: str) -> Tombstone | None:
        return self._silent.get(id_hash) or self._forgotten.get(id_hash)

    def of_node(self, node_id: str) -> Tombstone | None:
        """Return the tombstone of a node by its id; None if there is none."""
        return self.get(hash_id(node_id)) if self else None

    def name_any(self, node_ids: Iterable[str]) -> bool:
        """Return whether any of these nodes has a tombstone: cheaper than `of_node` for each."""
        if not self:
            return False
        # Convert the few hashes to plain base64 with padding, instead of the many digests to base64url.
        hashes = {
            id_hash.translate(_URL_SAFE_TO_PLAIN).encode() + b"=="
            for id_hash in chain(self._silent.hashes(), self._forgotten.hashes())
        }
        digests = map(methodcaller("digest"), map(id_digest, map(str.encode, node_ids)))
        return not hashes.isdisjoint(map(_BASE64, digests))

    def ends_s(self, tombstone: Tombstone) -> float:
        """Return when `tombstone` expires, in attended seconds."""
        return tombstone.died_s + self._tombstone_s

    def next_s(self) -> float | None:
        """Return when the next tombstone expires, in attended seconds; None if there is none."""
        first = self._first()
        return self.ends_s(first) if first is not None else None

    def pop_expired(self, now_s: float) -> Tombstone | None:
        """Remove and return the next tombstone that has expired at `now_s`; None if none has."""
        first = self._first()
        if first is None or self.ends_s(first) > now_s:
            return None
        self.note_gone(now_s)
        return self.lift(first.id_hash)

    def may_have_grants(self, id_hash: str, now_s: float) -> bool:
        """Return whether something granted to an earlier bearer of the name may still be valid at `now_s`."""
        return now_s < self._grants_end_s or self.get(id_hash) is not None

    def note_gone(self, now_s: float) -> None:
        """Remember that a tombstone is gone whose node may have been granted something until `now_s`.

        The death may be dated earlier, if its deadline was handled late.
        """
        self._grants_end_s = max(self._grants_end_s, now_s + GRANTED_S_MAX)

    def _first(self) -> Tombstone | None:
        """Return the tombstone that expires first; None if there is none."""
        heads = (self._silent.first(), self._forgotten.first())
        return min((head for head in heads if head is not None), key=self.ends_s, default=None)

"""What has changed and is not yet stored: at most one entry per node, oldest first.

Changes are pulled, not pushed: a change only leaves a note here, and whoever saves takes a batch. Fifty
heartbeats of a node between two flushes are one entry, and one write.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

# Slots are kept in dictionaries of 16,384: one of a million stops everybody for 90 ms when it grows.
PART_BITS = 14


class _Noted:
    """Numbers by key, in the order in which the keys came: a dictionary that never grows by much at once."""

    def __init__(self) -> None:
        self._parts: defaultdict[int, dict[int | str, int]] = defaultdict(dict)
        # Each key and, behind it, its number, with which alone it counts. Not in pairs: a million of these
        # would hold up everybody for 50 ms whenever the garbage collector walks them.
        self._order: deque[Any] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int | str) -> bool:
        return key in self._parts[_part(key)]

    def __iter__(self) -> Iterator[tuple[int | str, int]]:
        """The keys with their numbers, in order. They must not change meanwhile."""
        flat = iter(self._order)
        for key, number in zip(flat, flat, strict=True):
            if self._parts[_part(key)].get(key) == number:
                yield key, number

    def add(self, key: int | str, number: int) -> None:
        """Take in `key` at the end; one that is there keeps its place and number."""
        part = self._parts[_part(key)]
        if key not in part:
            part[key] = number
            self._order.append(key)
            self._order.append(number)
            self._count += 1

    def remove(self, keys: Iterable[int | str]) -> None:
        """Take out `keys`, all of which are there."""
        for key in keys:
            del self._parts[_part(key)][key]
            self._count -= 1
        order, parts = self._order, self._parts
        while order and parts[_part(order[0])].get(order[0]) != order[1]:
            order.popleft()
            order.popleft()

    def put_first(self, keys: Sequence[int | str], number: int) -> None:
        """Take in `keys` ahead of all others, with `number`, whether they are there or not."""
        for key in reversed(keys):
            part = self._parts[_part(key)]
            self._count += key not in part
            part[key] = number
            self._order.appendleft(number)
            self._order.appendleft(key)


def _part(key: int | str) -> int:
    """In which dictionary a key is: neighbouring slots share one."""
    return key >> PART_BITS if isinstance(key, int) else -1 - (hash(key) >> 40) % 64


class Changes:
    """Notes of what to write: records by slot, tombstones by the hash of their id, signs of life by slot."""

    def __init__(self) -> None:
        # The key is a slot, or the hash of an id whose tombstone was put up or lifted. The value is the
        # number of the oldest change not yet taken; a key keeps its place when it changes again.
        self._noted = _Noted()
        # Keys that changed as one, each with the list of all that it is tied to.
        self._tied: dict[int | str, list[int | str]] = {}
        # A sign of life needs no number: nobody waits for it.
        self.signs_of_life: dict[int, None] = {}
        self.last = 0

    def __len__(self) -> int:
        """How many entries are pending, of both kinds."""
        return len(self._noted) + len(self.signs_of_life)

    def note(self, key: int | str) -> int:
        """Note that the record in a slot, or the tombstone of a hash, changed; its number."""
        self.last += 1
        self._noted.add(key, self.last)
        return self.last

    def note_together(self, id_hash: str, slot: int) -> int:
        """Note that a tombstone and a record changed as one: no batch will hold the one without the other.

        Nor without what either was noted together with before: the name may have moved from one slot to
        another, the slot from one name to another. Returns the number of the change.
        """
        self.note(id_hash)
        change = self.note(slot)
        self._tie(id_hash, slot)
        return change

    def take(self, limit: int) -> list[int | str]:
        """Noted keys, oldest first, which are then no longer pending.

        Up to `limit` of them, and more where that keeps together what was noted together.
        """
        if len(self._noted) <= limit:
            keys = [key for key, _ in self._noted]
            self._noted = _Noted()
            self._tied.clear()
            return keys
        taken: dict[int | str, None] = {}
        for key, _ in self._noted:
            if len(taken) >= limit:
                break
            if key not in taken:
                taken.update(dict.fromkeys(self._tied.get(key, (key,))))
        self._noted.remove(taken)
        for key in taken:
            self._tied.pop(key, None)
        return list(taken)

    def take_signs_of_life(self, limit: int) -> list[int]:
        """Up to `limit` slots that gave a sign of life, which are then no longer pending.

        The record of some of them may be pending as well (`is_noted`), or the slot free by now.
        """
        if len(self.signs_of_life) <= limit:
            slots = list(self.signs_of_life)
            self.signs_of_life.clear()
            return slots
        slots = [slot for slot, _ in zip(self.signs_of_life, range(limit), strict=False)]
        for slot in slots:
            del self.signs_of_life[slot]
        return slots

    def is_noted(self, key: int | str) -> bool:
        """Whether a change of the record in a slot, or of a tombstone, is pending."""
        return key in self._noted

    def unnoted(self, slots: list[int]) -> list[int]:
        """Those of `slots` of which no change of the record is pending."""
        noted = self._noted
        return [slot for slot in slots if slot not in noted] if noted else slots

    def covered(self) -> int:
        """Every change numbered up to this has been taken."""
        for _, number in self._noted:
            return number - 1
        return self.last

    def put_back(self, keys: list[int | str], slots: list[int]) -> None:
        """Make what was taken pending again, ahead of what came since, and whole."""
        # Number 0: nothing counts as covered before these are taken again.
        self._noted.put_first(keys, 0)
        for key in keys:
            self._tie(keys[0], key)
        self.signs_of_life.update(dict.fromkeys(slots))

    def _tie(self, first: int | str, second: int | str) -> None:
        """Let two noted keys, and all that either is tied to, be taken only together."""
        kept = self._tied.setdefault(first, [first])
        other = self._tied.setdefault(second, [second])
        if kept is other:
            return
        # The shorter list joins the longer one, so that a long chain of ties costs little for each.
        if len(kept) < len(other):
            kept, other = other, kept
        kept += other
        for key in other:
            self._tied[key] = kept

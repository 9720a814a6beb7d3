"""What has changed and is not yet stored: at most one entry per node, oldest first.

Changes are pulled, not pushed: a change only leaves a note here, and whoever saves takes a batch. Fifty
heartbeats of a node between two flushes are one entry, and one write.
"""

from __future__ import annotations


class Changes:
    """Notes of what to write: records by slot, tombstones by the hash of their id, signs of life by slot."""

    def __init__(self) -> None:
        # The key is a slot, or the hash of an id whose tombstone was put up or lifted. The value is the
        # number of the oldest change not yet taken; a key keeps its place when it changes again.
        self._noted: dict[int | str, int] = {}
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
        self._noted.setdefault(key, self.last)
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
            keys = list(self._noted)
            self._noted.clear()
            self._tied.clear()
            return keys
        taken: dict[int | str, None] = {}
        for key in self._noted:
            if len(taken) >= limit:
                break
            if key not in taken:
                taken.update(dict.fromkeys(self._tied.get(key, (key,))))
        for key in taken:
            del self._noted[key]
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
        for number in self._noted.values():
            return number - 1
        return self.last

    def put_back(self, keys: list[int | str], slots: list[int]) -> None:
        """Make what was taken pending again, ahead of what came since, and whole."""
        # Number 0: nothing counts as covered before these are taken again.
        returned = dict.fromkeys(keys, 0)
        self._noted = {**returned, **{key: n for key, n in self._noted.items() if key not in returned}}
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

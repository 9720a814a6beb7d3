"""What has changed and is not yet stored: at most one entry per node, oldest first.

Changes are pulled, not pushed: a change only leaves a note here, and whoever saves takes a batch. Fifty
heartbeats of a node between two flushes are one entry, and one write; who is heard while a flush goes on has
another in the next.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from itertools import repeat

from ...errors import InternalBug
from .registry import shard_of

# A run of notes is closed when it has so many.
RUN_KEYS = 4_096
# Hashes of ids are kept in so many parts: one of a million stops everybody for 70 ms when it grows.
HASH_PARTS = 64


class _Run:
    """Some notes that follow one another: the keys, the number of each, and how many were taken already."""

    __slots__ = ("keys", "numbers", "taken")

    def __init__(self, keys: list[int | str] | array[int]) -> None:
        # The garbage collector does not look into an array, walks a tuple of numbers and texts once, and a
        # list again and again: an array where they are all slots, and a tuple once the run is closed.
        self.keys: list[int | str] | array[int] | tuple[int | str, ...] = keys
        self.numbers = array("Q")
        self.taken = 0


class _Noted:
    """Keys in the order in which they came, each with a number: slots, and hashes of ids.

    There may be a million of them within seconds: nothing here grows by much at once, and nothing is long for
    the garbage collector to walk.
    """

    def __init__(self) -> None:
        # 1 for each slot that is noted.
        self._slots = bytearray()
        self._hashes: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self._runs: deque[_Run] = deque()
        # How many notes of a key do not count any more: they are older than the one that does.
        self._void: Counter[int | str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int | str) -> bool:
        if isinstance(key, str):
            return key in self._hashes[shard_of(key, HASH_PARTS)]
        return key < len(self._slots) and self._slots[key] == 1

    def add(self, key: int | str, number: int) -> None:
        """Take in `key` at the end; one that is there keeps its place and number."""
        if key in self:
            return
        if isinstance(key, str):
            self._hashes[shard_of(key, HASH_PARTS)][key] = None
        else:
            self._make_room(key)
            self._slots[key] = 1
        self._append((key,), number)

    def add_slots(self, slots: Sequence[int], number: int) -> None:
        """The same for many slots, none of them twice, with one number: 0.1 µs for each instead of 0.5."""
        self._make_room(max(slots, default=-1))
        noted = self._slots
        fresh = [slot for slot in slots if not noted[slot]]
        for slot in fresh:
            noted[slot] = 1
        self._append(fresh, number)

    def first(self) -> tuple[int | str, int] | None:
        """The oldest key with its number; None where there is none."""
        runs, void = self._runs, self._void
        while runs:
            run = runs[0]
            if run.taken == len(run.keys):
                runs.popleft()
                continue
            key = run.keys[run.taken]
            if not void or key not in void:
                return key, run.numbers[run.taken]
            run.taken += 1
            void[key] -= 1
            if not void[key]:
                del void[key]
        return None

    def take(self, limit: int) -> list[int | str]:
        """Take out the oldest keys, up to `limit`."""
        taken: list[int | str] = []
        while len(taken) < limit and self.first() is not None:
            run = self._runs[0]
            # Among those that do not count, each has to be looked at.
            end = run.taken + (1 if self._void else limit - len(taken))
            part = run.keys[run.taken : end]
            run.taken += len(part)
            taken += part
            self._unmark(part)
        return taken

    def remove(self, key: int | str) -> None:
        """Take out `key` out of turn. Raises `InternalBug` where it is not there.

        Whoever takes until nothing is left would otherwise go round for ever with what is gone already.
        """
        if key not in self:
            raise InternalBug(f"{key!r} is not noted and cannot be taken out")
        self._void[key] += 1
        self._unmark((key,))

    def _make_room(self, slot: int) -> None:
        if slot >= len(self._slots):
            self._slots.extend(bytes(slot + 1 - len(self._slots)))

    def _append(self, keys: Sequence[int | str], number: int) -> None:
        """Write `keys` down, which are slots or hashes, not both."""
        if not keys:
            return
        are_slots = not isinstance(keys[0], str)
        latest = self._runs[-1].keys if self._runs else ()
        # A tuple is closed; a list takes all keys, an array only slots.
        if (
            isinstance(latest, tuple)
            or len(latest) >= RUN_KEYS
            or not (are_slots or isinstance(latest, list))
        ):
            latest = array("Q") if are_slots else []
            self._runs.append(_Run(latest))
        latest.extend(keys)  # type: ignore[arg-type]
        run = self._runs[-1]
        run.numbers.extend(repeat(number, len(keys)))
        if isinstance(latest, list) and len(latest) >= RUN_KEYS:
            run.keys = tuple(latest)
        self._count += len(keys)

    def _unmark(self, keys: Sequence[int | str]) -> None:
        for key in keys:
            if isinstance(key, str):
                del self._hashes[shard_of(key, HASH_PARTS)][key]
            else:
                self._slots[key] = 0
        self._count -= len(keys)


class Changes:
    """Notes of what to write: records by slot, tombstones by the hash of their id, signs of life by slot."""

    def __init__(self) -> None:
        # A key is a slot, or the hash of an id whose tombstone was put up or lifted. Its number is that of
        # the oldest change not yet taken; it keeps its place when it changes again.
        self._noted = _Noted()
        # What was taken and could not be saved comes before all that is noted.
        self._returned: dict[int | str, None] = {}
        # Keys that changed as one, each with the list of all that it is tied to.
        self._tied: dict[int | str, list[int | str]] = {}
        # A sign of life needs no number: nobody waits for it.
        self.signs_of_life: dict[int, None] = {}
        # Those whose turn it is, the first one last. Taken out of the dictionary one by one they cost 0.3 µs
        # more.
        self._signs_leaving: list[int] = []
        self.last = 0

    def __len__(self) -> int:
        """How many entries are pending, of both kinds."""
        signs = len(self._signs_leaving) + len(self.signs_of_life)
        return len(self._noted) + len(self._returned) + signs

    def note(self, key: int | str) -> int:
        """Note that the record in a slot, or the tombstone of a hash, changed; its number."""
        self.last += 1
        if key not in self._returned:
            self._noted.add(key, self.last)
        return self.last

    def note_all(self, slots: Sequence[int]) -> int:
        """Note that the records in `slots`, none of them twice, changed; the number of it all."""
        self.last += 1
        if self._returned:
            slots = [slot for slot in slots if slot not in self._returned]
        self._noted.add_slots(slots, self.last)
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
        if len(self._returned) + len(self._noted) <= limit:
            keys = [*self._returned, *self._noted.take(limit)]
            self._returned.clear()
            self._tied.clear()
            return keys
        taken: dict[int | str, None] = {}
        while len(taken) < limit:
            if not self._returned and not self._tied:
                taken.update(dict.fromkeys(self._noted.take(limit - len(taken))))
                break
            oldest = next(iter(self._returned), None)
            if oldest is None:
                first = self._noted.first()
                if first is None:
                    break
                oldest = first[0]
            for key in self._tied.get(oldest, (oldest,)):
                taken[key] = None
                self._tied.pop(key, None)
                if key in self._returned:
                    del self._returned[key]
                else:
                    self._noted.remove(key)
        return list(taken)

    def take_signs_of_life(self, limit: int) -> list[int]:
        """Up to `limit` slots that gave a sign of life, which are then no longer pending.

        The record of some of them may be pending as well (`is_noted`), or the slot free by now.
        """
        slots = self._leave(limit)
        if len(slots) < limit and self.signs_of_life:
            self._signs_leaving, self.signs_of_life = list(reversed(self.signs_of_life)), {}
            # Some may have been heard twice meanwhile.
            slots = list(dict.fromkeys(slots + self._leave(limit - len(slots))))
        return slots

    def _leave(self, limit: int) -> list[int]:
        rest = max(0, len(self._signs_leaving) - limit)
        slots = self._signs_leaving[rest:]
        del self._signs_leaving[rest:]
        return slots[::-1]

    def is_noted(self, key: int | str) -> bool:
        """Whether a change of the record in a slot, or of a tombstone, is pending."""
        return key in self._returned or key in self._noted

    def unnoted(self, slots: list[int]) -> list[int]:
        """Those of `slots` of which no change of the record is pending."""
        if not self._returned and not self._noted:
            return slots
        return [slot for slot in slots if not self.is_noted(slot)]

    def covered(self) -> int:
        """Every change numbered up to this has been taken."""
        if self._returned:
            # Whose changes these were is not known any more: nothing counts before they are taken again.
            return 0
        oldest = self._noted.first()
        return oldest[1] - 1 if oldest is not None else self.last

    def put_back(self, keys: list[int | str], slots: list[int]) -> None:
        """Make what was taken pending again, ahead of what came since, and whole."""
        for key in keys:
            if key in self._noted:
                self._noted.remove(key)
            self._tie(keys[0], key)
        self._returned = dict.fromkeys(keys) | self._returned
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

"""Changes that are not yet stored, oldest first, and the batch for a store.

Changes are pulled, not pushed: a change of a record leaves one note, a sign of life marks its page
(`HeardPages`), and the saver takes a batch. A page on which a node is heard during a flush is marked for the
next one.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from ...errors import InternalBug
from .node import Record, Tombstone
from .pages import HeardPages, PageRun
from .registry import shard_of

# A run of notes is closed when it has this many keys.
RUN_KEYS = 4_096
# Dictionaries for the hashes of ids. One of a million entries would hold up everything when it grows.
HASH_PARTS = 64


class Vitals(NamedTuple):
    """State of the directory itself, stored with every batch.

    `attended_s` is the clock of the life cycle, `revision` the counter of acknowledged changes, and
    `transitions_per_h` the number of nodes that silence moves on in a usual hour.
    """

    attended_s: float
    revision: int
    transitions_per_h: float


class Batch(NamedTuple):
    """Changes to commit in one transaction.

    `records` replace whatever their slots held; `freed_slots` hold nothing any more. `tombstones` are added
    and the tombstones of `lifted_id_hashes` removed. `vitals` replace the former ones. Every change numbered
    up to `last_change` is in this batch or in an earlier one. `pages` have the latest signs of life of the
    records in their slots, as they are after this batch. `kept` are values by name that replace the former
    ones, or remove them if they are None.
    """

    records: list[Record]
    freed_slots: list[int]
    tombstones: list[Tombstone]
    lifted_id_hashes: list[str]
    vitals: Vitals
    last_change: int
    pages: Sequence[PageRun] = ()
    kept: Sequence[tuple[str, bytes | None]] = ()

    @property
    def rows(self) -> int:
        """Number of rows of a store that the batch touches, without the vitals."""
        return (
            len(self.records)
            + len(self.freed_slots)
            + len(self.tombstones)
            + len(self.lifted_id_hashes)
            + sum(len(run.numbers) for run in self.pages)
            + len(self.kept)
        )


class _Run:
    """Consecutive notes: the keys, the number of each, and how many were taken already."""

    __slots__ = ("keys", "numbers", "taken")

    def __init__(self, keys: list[int | str] | array[int]) -> None:
        # The garbage collector skips arrays, walks a tuple of numbers and texts once, and a list every time.
        # So the keys are an array if all of them are slots, and a tuple once the run is closed.
        self.keys: list[int | str] | array[int] | tuple[int | str, ...] = keys
        self.numbers = array("Q")
        self.taken = 0


class _Noted:
    """Keys in the order in which they came, each with a number: slots, and hashes of ids.

    A million of them may come within seconds. So nothing here grows by much at once or takes the garbage
    collector long to walk.
    """

    def __init__(self) -> None:
        # 1 for each noted slot.
        self._slots = bytearray()
        self._hashes: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self._runs: deque[_Run] = deque()
        # Number of notes of a key that are void because they are older than its valid one.
        self._void: Counter[int | str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int | str) -> bool:
        if isinstance(key, str):
            return key in self._hashes[shard_of(key, HASH_PARTS)]
        return key < len(self._slots) and self._slots[key] == 1

    def any_of_slots(self, first: int, end: int) -> bool:
        """Return whether any slot from `first` up to `end`, exclusive, is noted."""
        return self._slots.find(1, first, end) >= 0

    def add(self, key: int | str, number: int) -> None:
        """Add `key` at the end. A key that is noted already keeps its place and number."""
        if key in self:
            return
        if isinstance(key, str):
            self._hashes[shard_of(key, HASH_PARTS)][key] = None
        else:
            self._make_room(key)
            self._slots[key] = 1
        self._append((key,), number)

    def add_slots(self, slots: Sequence[int], number: int) -> None:
        """Add many distinct slots, as `add` does, with one number."""
        self._make_room(max(slots, default=-1))
        noted = self._slots
        fresh = [slot for slot in slots if not noted[slot]]
        for slot in fresh:
            noted[slot] = 1
        self._append(fresh, number)

    def first(self) -> tuple[int | str, int] | None:
        """Return the oldest key with its number; None if there is none."""
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
        """Remove and return the oldest keys, up to `limit`."""
        taken: list[int | str] = []
        while len(taken) < limit and self.first() is not None:
            run = self._runs[0]
            # While some notes are void, each has to be looked at.
            end = run.taken + (1 if self._void else limit - len(taken))
            part = run.keys[run.taken : end]
            run.taken += len(part)
            taken += part
            self._unmark(part)
        return taken

    def remove(self, key: int | str) -> None:
        """Remove `key` out of turn. Raise `InternalBug` if it is not noted.

        Otherwise a caller that takes until nothing is left would never end.
        """
        if key not in self:
            raise InternalBug(f"{key!r} is not noted and cannot be taken out")
        self._void[key] += 1
        self._unmark((key,))

    def _make_room(self, slot: int) -> None:
        if slot >= len(self._slots):
            self._slots.extend(bytes(slot + 1 - len(self._slots)))

    def _append(self, keys: Sequence[int | str], number: int) -> None:
        """Append `keys`, which are all slots or all hashes."""
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


class PendingChanges:
    """Notes of rows to write: records by slot, tombstones by the hash of the id, signs of life by page."""

    def __init__(self) -> None:
        # A key is a slot, or the hash of an id whose tombstone was added or lifted. Its number is that of the
        # oldest change not yet taken. A key that changes again keeps its place.
        self._noted = _Noted()
        # Keys that were taken and could not be saved. They come before all noted ones.
        self._returned: dict[int | str, None] = {}
        # Keys that changed together, each with the list of all keys that it is tied to.
        self._tied: dict[int | str, list[int | str]] = {}
        # Signs of life need no numbers: no caller waits for them.
        self.heard = HeardPages()
        self.last = 0

    def __len__(self) -> int:
        """Return how many notes are pending, of all kinds."""
        return self.noted + len(self.heard)

    @property
    def noted(self) -> int:
        """Number of records and tombstones that changed."""
        return len(self._noted) + len(self._returned)

    def note(self, key: int | str) -> int:
        """Note a change of the record in a slot, or of the tombstone of a hash. Return its number."""
        self.last += 1
        if key not in self._returned:
            self._noted.add(key, self.last)
        return self.last

    def number(self) -> int:
        """Return the number of a change that is no record and no tombstone; the next batch has it."""
        self.last += 1
        return self.last

    def note_all(self, slots: Sequence[int]) -> int:
        """Note a change of the records in distinct `slots`. Return the one number of it all."""
        self.last += 1
        if self._returned:
            slots = [slot for slot in slots if slot not in self._returned]
        self._noted.add_slots(slots, self.last)
        return self.last

    def note_together(self, id_hash: str, slot: int) -> int:
        """Note that a tombstone and a record changed together. Return the number of the change.

        No batch holds one without the other, nor without earlier partners of either: the name may have moved
        to another slot, and the slot to another name.
        """
        self.note(id_hash)
        change = self.note(slot)
        self._tie(id_hash, slot)
        return change

    def take(self, limit: int) -> list[int | str]:
        """Remove and return noted keys, oldest first.

        They are up to `limit`, and more if that keeps together what was noted together.
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

    def is_noted(self, key: int | str) -> bool:
        """Return whether a change of the record in a slot, or of a tombstone, is pending."""
        return key in self._returned or key in self._noted

    def are_settled(self, slots: range) -> bool:
        """Return whether no change of a record in `slots` is pending."""
        if self._noted.any_of_slots(slots.start, slots.stop):
            return False
        return not self._returned or self._returned.keys().isdisjoint(slots)

    def covered(self) -> int:
        """Return the number up to which every change has been taken."""
        if self._returned:
            # Their numbers are lost, so nothing counts as taken until they are taken again.
            return 0
        oldest = self._noted.first()
        return oldest[1] - 1 if oldest is not None else self.last

    def put_back(self, keys: list[int | str]) -> None:
        """Make keys that were taken pending again, together and ahead of all that came since."""
        for key in keys:
            if key in self._noted:
                self._noted.remove(key)
            self._tie(keys[0], key)
        self._returned = dict.fromkeys(keys) | self._returned

    def _tie(self, first: int | str, second: int | str) -> None:
        """Tie two noted keys, and all that either is tied to: they are only taken together."""
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

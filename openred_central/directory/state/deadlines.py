"""The heap of next-check deadlines: at most one live entry per node, re-armed when it pops.

To postpone a deadline, as every heartbeat does, costs nothing here: the entry stays, too early, and `Expiry`
arms the true deadline when it pops. Only a deadline *earlier* than its entry is pushed at once; the older
entry is then stale and dropped when it surfaces.

An entry is one integer, ``steps << 32 | slot``: it needs less memory than a tuple, and the heap compares it
without a call into Python.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from itertools import compress, repeat
from operator import and_, eq, lshift, or_, rshift

from ..lifecycle import DEADLINE_STEPS_PER_S

_SLOT_BITS = 32
_SLOT_MASK = (1 << _SLOT_BITS) - 1
NOT_ARMED = (1 << 64) - 1

# Stale entries are swept when they outnumber the live ones by more than this.
STALE_SLACK = 1_024
# Entries that each arming looks at during a sweep.
SWEPT_PER_CALL = 4


class Deadlines:
    """Time of the next look at each slot, in attended seconds on whole deadline steps."""

    def __init__(self) -> None:
        self._heap: list[int] = []
        # The heap that is being swept, from its last entry on.
        self._old: list[int] = []
        # Steps of the live entry of each slot. An entry in the heap that differs is stale.
        self._armed = array("Q")
        self._armed_count = 0

    def __len__(self) -> int:
        """Return how many slots have a live deadline."""
        return self._armed_count

    def arm(self, slot: int, at_s: float) -> None:
        """Let `slot` be looked at no later than `at_s`. Keep an entry that is early enough."""
        if slot >= len(self._armed):
            self._extend(slot)
        steps = int(at_s * DEADLINE_STEPS_PER_S)
        armed = self._armed[slot]
        if armed <= steps:
            return
        if armed == NOT_ARMED:
            self._armed_count += 1
        self._armed[slot] = steps
        heapq.heappush(self._heap, steps << _SLOT_BITS | slot)
        if self._old:
            self._sweep_some()
        elif len(self._heap) > 2 * self._armed_count + STALE_SLACK:
            # The old list is empty and becomes the heap. A new list would be walked by the garbage collector,
            # unlike the two that were made at the start.
            self._heap, self._old = self._old, self._heap

    def arm_all(self, slots: Sequence[int], steps: Sequence[int]) -> None:
        """Arm many slots without a deadline at the start, each at its own time in deadline steps."""
        self._extend(max(slots, default=-1))
        for slot, at in zip(slots, steps, strict=True):
            self._armed[slot] = at
        self._armed_count += len(slots)
        self._heap.extend(map(or_, map(lshift, steps, repeat(_SLOT_BITS)), slots))
        heapq.heapify(self._heap)

    def arm_again(self, slots: Sequence[int], steps: Sequence[int]) -> None:
        """Arm slots whose entries `pop_due` took, each at its own time in deadline steps.

        They have left no stale entries, so there is nothing to sweep.
        """
        armed, heap, push = self._armed, self._heap, heapq.heappush
        for slot, at in zip(slots, steps, strict=True):
            armed[slot] = at
            push(heap, at << _SLOT_BITS | slot)
        self._armed_count += len(slots)

    def disarm(self, slot: int) -> None:
        """Forget the deadline of `slot`; harmless if there is none."""
        if slot < len(self._armed) and self._armed[slot] != NOT_ARMED:
            self._armed[slot] = NOT_ARMED
            self._armed_count -= 1

    def pop_due(self, now_s: float, limit: int) -> tuple[list[int], int]:
        """Take up to `limit` entries that are due at `now_s`. Return their slots and the number of entries.

        The slots come in the order of their deadlines and are disarmed. Stale entries are dropped, but count:
        a million nodes that came back may have left theirs at one moment. Fewer than `limit` means that
        nothing more is due.
        """
        end = (int(now_s * DEADLINE_STEPS_PER_S) + 1) << _SLOT_BITS
        armed, slots, taken = self._armed, list[int](), 0
        while taken < limit:
            heap = self._first_heap()
            if not heap or heap[0] >= end:
                break
            entry = heapq.heappop(heap)
            taken += 1
            slot = entry & _SLOT_MASK
            if armed[slot] == entry >> _SLOT_BITS:
                armed[slot] = NOT_ARMED
                slots.append(slot)
        self._armed_count -= len(slots)
        return slots, taken

    def next_s(self) -> float | None:
        """Return when the earliest entry is due, even if it is stale; None if there is none."""
        heap = self._first_heap()
        return (heap[0] >> _SLOT_BITS) / DEADLINE_STEPS_PER_S if heap else None

    def armed_s(self, slot: int) -> float | None:
        """Return when `slot` is looked at next; None if it has no deadline."""
        if slot >= len(self._armed) or self._armed[slot] == NOT_ARMED:
            return None
        return self._armed[slot] / DEADLINE_STEPS_PER_S

    def live_slots(self) -> set[int]:
        """Return the slots that have a live entry in the heap; for the consistency check.

        A slot armed again at the very time of a stale entry has two equal entries. The first to pop disarms
        the slot, and the other one is stale again.
        """
        heap = self._heap + self._old
        slots = list(map(and_, heap, repeat(_SLOT_MASK)))
        armed = map(self._armed.__getitem__, slots)
        return set(compress(slots, map(eq, armed, map(rshift, heap, repeat(_SLOT_BITS)))))

    def _extend(self, slot: int) -> None:
        self._armed.extend(repeat(NOT_ARMED, slot + 1 - len(self._armed)))

    def _first_heap(self) -> list[int]:
        """Return the heap with the earliest entry; an empty one if there is none."""
        heap, old = self._heap, self._old
        return old if old and (not heap or old[0] < heap[0]) else heap

    def _sweep_some(self) -> None:
        """Move a few entries from the old heap to the new one, without the stale ones; never all at once.

        A list that loses its last entries is still a heap. More entries leave than come, so the sweep ends.
        """
        for _ in range(min(SWEPT_PER_CALL, len(self._old))):
            entry = self._old.pop()
            if self._armed[entry & _SLOT_MASK] == entry >> _SLOT_BITS:
                heapq.heappush(self._heap, entry)

"""The heap of next-check deadlines: at most one live entry per node, re-armed when it pops.

Postponing a deadline, which is what every heartbeat does, costs nothing here: the entry stays where it is,
too early, and whoever pops it finds the node's true deadline later and arms it again. Only a deadline that
comes *earlier* than its entry is pushed at once; the older entry is then stale and dropped when it surfaces.

An entry is one integer, ``steps << 32 | slot``: a third of the memory of a tuple, and the heap compares it
without calling back into Python.
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

# Stale entries are swept out when they outnumber the live ones by more than this many.
STALE_SLACK = 1_024
# How many entries each arming looks at while there are some to be swept.
SWEPT_PER_CALL = 4


class Deadlines:
    """When to look at which slot next. Times are attended seconds on whole deadline steps."""

    def __init__(self) -> None:
        self._heap: list[int] = []
        # What is being swept: a heap too, whose last entries are looked at and taken away.
        self._old: list[int] = []
        # The steps of each slot's live entry. An entry in the heap that differs is stale.
        self._armed = array("Q")
        self._armed_count = 0

    def __len__(self) -> int:
        """How many slots have a live deadline."""
        return self._armed_count

    def arm(self, slot: int, at_s: float) -> None:
        """Look at `slot` no later than `at_s`. Keeps an entry that is already early enough."""
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
            # The old list is empty and becomes the heap: the garbage collector walks neither of the two that
            # were there at the start, but would walk a new one.
            self._heap, self._old = self._old, self._heap

    def arm_all(self, slots: Sequence[int], steps: Sequence[int]) -> None:
        """Arm many slots that have no deadline, each at its own time in deadline steps; at a start."""
        self._extend(max(slots, default=-1))
        for slot, at in zip(slots, steps, strict=True):
            self._armed[slot] = at
        self._armed_count += len(slots)
        self._heap.extend(map(or_, map(lshift, steps, repeat(_SLOT_BITS)), slots))
        heapq.heapify(self._heap)

    def arm_again(self, slots: Sequence[int], steps: Sequence[int]) -> None:
        """Arm slots whose entries were taken by `pop_due`, each at its own time in deadline steps.

        They leave nothing stale behind, so that there is nothing to sweep: half of arming one by one.
        """
        armed, heap, push = self._armed, self._heap, heapq.heappush
        for slot, at in zip(slots, steps, strict=True):
            armed[slot] = at
            push(heap, at << _SLOT_BITS | slot)
        self._armed_count += len(slots)

    def disarm(self, slot: int) -> None:
        """Forget the deadline of `slot`; harmless where there is none."""
        if slot < len(self._armed) and self._armed[slot] != NOT_ARMED:
            self._armed[slot] = NOT_ARMED
            self._armed_count -= 1

    def pop_due(self, now_s: float, limit: int) -> tuple[list[int], int]:
        """Take up to `limit` entries that are due at `now_s`: the slots, and how many entries they were.

        The slots come in the order of their deadlines and are disarmed by this. Stale entries are dropped,
        but count: a million nodes that came back may have left theirs at one moment. Fewer than `limit` means
        that nothing more is due. Many at once, because each then takes 0.7 µs instead of 1.4.
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
        """When the earliest entry is due, stale ones included; None where there is none."""
        heap = self._first_heap()
        return (heap[0] >> _SLOT_BITS) / DEADLINE_STEPS_PER_S if heap else None

    def armed_s(self, slot: int) -> float | None:
        """When `slot` is looked at next; None where it has no deadline."""
        if slot >= len(self._armed) or self._armed[slot] == NOT_ARMED:
            return None
        return self._armed[slot] / DEADLINE_STEPS_PER_S

    def live_slots(self) -> set[int]:
        """The slots that have a live entry in the heap; for the consistency check.

        A slot armed again at the very time of a stale entry has two equal ones. They are one: the first to
        pop disarms the slot, and the other is stale again.
        """
        heap = self._heap + self._old
        slots = list(map(and_, heap, repeat(_SLOT_MASK)))
        armed = map(self._armed.__getitem__, slots)
        return set(compress(slots, map(eq, armed, map(rshift, heap, repeat(_SLOT_BITS)))))

    def _extend(self, slot: int) -> None:
        self._armed.extend(repeat(NOT_ARMED, slot + 1 - len(self._armed)))

    def _first_heap(self) -> list[int]:
        """The heap with the earliest entry; an empty one where there is none."""
        heap, old = self._heap, self._old
        return old if old and (not heap or old[0] < heap[0]) else heap

    def _sweep_some(self) -> None:
        """Take a few entries over from the old heap, the stale ones not: never all at once.

        A list that loses its last entries is still a heap. More go than come, so this ends; sweeping a
        million nodes in one call took 0.5 s of processor time.
        """
        for _ in range(min(SWEPT_PER_CALL, len(self._old))):
            entry = self._old.pop()
            if self._armed[entry & _SLOT_MASK] == entry >> _SLOT_BITS:
                heapq.heappush(self._heap, entry)

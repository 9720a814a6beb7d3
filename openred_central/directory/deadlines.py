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

from .lifecycle import DEADLINE_STEPS_PER_S

_SLOT_BITS = 32
_SLOT_MASK = (1 << _SLOT_BITS) - 1
NOT_ARMED = (1 << 64) - 1

# Stale entries are swept out when they outnumber the live ones by more than this many.
STALE_SLACK = 1_024


class Deadlines:
    """When to look at which slot next. Times are attended seconds on whole deadline steps."""

    def __init__(self) -> None:
        self._heap: list[int] = []
        # The steps of each slot's live entry. An entry in the heap that differs is stale.
        self._armed = array("Q")
        self._armed_count = 0

    def __len__(self) -> int:
        """How many slots have a live deadline."""
        return self._armed_count

    def arm(self, slot: int, at_s: float) -> None:
        """Look at `slot` no later than `at_s`. Keeps an entry that is already early enough."""
        while slot >= len(self._armed):
            self._armed.append(NOT_ARMED)
        steps = int(at_s * DEADLINE_STEPS_PER_S)
        armed = self._armed[slot]
        if armed <= steps:
            return
        if armed == NOT_ARMED:
            self._armed_count += 1
        self._armed[slot] = steps
        heapq.heappush(self._heap, steps << _SLOT_BITS | slot)
        if len(self._heap) > 2 * self._armed_count + STALE_SLACK:
            self._sweep()

    def disarm(self, slot: int) -> None:
        """Forget the deadline of `slot`; harmless where there is none."""
        if slot < len(self._armed) and self._armed[slot] != NOT_ARMED:
            self._armed[slot] = NOT_ARMED
            self._armed_count -= 1

    def pop_due(self, now_s: float) -> int | None:
        """The next slot whose entry is due at `now_s`, which is disarmed by this; None where none is."""
        heap = self._heap
        now_steps = int(now_s * DEADLINE_STEPS_PER_S)
        while heap:
            steps = heap[0] >> _SLOT_BITS
            if steps > now_steps:
                return None
            slot = heapq.heappop(heap) & _SLOT_MASK
            if self._armed[slot] == steps:
                self._armed[slot] = NOT_ARMED
                self._armed_count -= 1
                return slot
        return None

    def next_s(self) -> float | None:
        """When the earliest entry is due, stale ones included; None where there is none."""
        return (self._heap[0] >> _SLOT_BITS) / DEADLINE_STEPS_PER_S if self._heap else None

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
        return {entry & _SLOT_MASK for entry in self._live()}

    def _live(self) -> set[int]:
        armed = self._armed
        return {entry for entry in self._heap if armed[entry & _SLOT_MASK] == entry >> _SLOT_BITS}

    def _sweep(self) -> None:
        self._heap = list(self._live())
        heapq.heapify(self._heap)

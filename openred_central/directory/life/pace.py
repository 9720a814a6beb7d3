"""The pace of heartbeats: when each node is due to be heard next. Pure.

The dues of a node lie on a grid of attended time, one in each cell, whatever is heard in between. So a node
that registers at every start, or sleeps past a due, changes none of the later ones. A cell is a little longer
than the pace, so that a daily node is heard an hour later each day, and in the end at every hour. A hash
moves the due within its cell, and cells begin at another phase for each of sixteen nodes, so that nodes do
not send in step and some are due at any time.
"""

from __future__ import annotations

from typing import Final

# A cell, as a multiple of the pace.
CELL: Final = 25 / 24
# A due lies so far into its cell, and up to `SPREAD` further. All three are shares of a cell.
OFFSET: Final = 0.4
SPREAD: Final = 0.2
# A node is never told a due that is nearer.
AHEAD_MIN: Final = 0.15
# Into a cell by so much less than a whole one, all of its dues are too near.
_AHEAD: Final = 1 - OFFSET - SPREAD + AHEAD_MIN
# The longest time to a due, as a multiple of the pace: the nearest one just missed, and the next one late.
ADVICE_MAX: Final = CELL * (1 + SPREAD + AHEAD_MIN)
# Advice is in whole seconds from here on.
WHOLE_ADVICE_S_MIN: Final = 10.0
# Phases of the cells: a power of two.
PHASES: Final = 16
_LAST_PHASE: Final = PHASES - 1
_PHASE: Final = 1 / PHASES
# Two rounds of a multiplicative hash; one would leave the dues of a slot in a short cycle.
_WORD: Final = 0xFFFF_FFFF
_SLOT_FACTOR: Final = 2_654_435_761
_FACTOR: Final = 2_246_822_519


class Pace:
    """The grid for nodes that are to be heard every `pace_s` seconds on average."""

    __slots__ = ("_ahead_s", "_per_s", "_spread_s", "cell_s")

    def __init__(self, pace_s: float) -> None:
        self.cell_s = pace_s * CELL
        self._per_s = 1 / self.cell_s
        self._spread_s = SPREAD * self.cell_s / (_WORD + 1)
        self._ahead_s = AHEAD_MIN * self.cell_s

    def advice_s(self, slot: int, now_s: float) -> float:
        """Return the seconds from `now_s`, in attended time, to the due that the node in `slot` is told.

        They are rounded to whole seconds from `WHOLE_ADVICE_S_MIN` on, to milliseconds below.
        """
        at = now_s * self._per_s + (slot & _LAST_PHASE) * _PHASE
        # The first cell whose due may lie far enough ahead.
        cell = int(at + _AHEAD)
        mixed = (slot * _SLOT_FACTOR + cell * _FACTOR) & _WORD
        advice_s = (OFFSET + cell - at) * self.cell_s + self._spread_s * (
            (mixed ^ mixed >> 15) * _FACTOR & _WORD
        )
        if advice_s <= self._ahead_s:
            mixed = (mixed + _FACTOR) & _WORD
            advice_s = (OFFSET + 1 + cell - at) * self.cell_s + self._spread_s * (
                (mixed ^ mixed >> 15) * _FACTOR & _WORD
            )
        return round(advice_s) if advice_s >= WHOLE_ADVICE_S_MIN else max(0.001, round(advice_s, 3))

    def last_due_s(self, slot: int, at_s: float) -> float:
        """Return the last due of the node in `slot` up to `at_s`, both in attended seconds."""
        phase = (slot & _LAST_PHASE) * _PHASE
        # The last cell whose due may be so early.
        cell = int(at_s * self._per_s + phase - OFFSET)
        mixed = (slot * _SLOT_FACTOR + cell * _FACTOR) & _WORD
        begin_s = (OFFSET + cell - phase) * self.cell_s
        due_s = begin_s + self._spread_s * ((mixed ^ mixed >> 15) * _FACTOR & _WORD)
        if due_s <= at_s:
            return due_s
        mixed = (mixed - _FACTOR) & _WORD
        return begin_s - self.cell_s + self._spread_s * ((mixed ^ mixed >> 15) * _FACTOR & _WORD)

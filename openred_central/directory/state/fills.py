"""Which slots were filled lately, for signs of life from processes that may not know it yet. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

FILLS_KEPT: Final = 65_536


class Fills:
    """The numbers of the changes that filled slots lately; nothing is forgotten after change `known_from`."""

    def __init__(self, known_from: int, kept_max: int = FILLS_KEPT) -> None:
        self.known_from = known_from
        self._kept_max = kept_max
        self._last = 0
        self._by_slot: OrderedDict[int, int] = OrderedDict()

    def note(self, slot: int, change: int) -> None:
        """Note that this change filled `slot`."""
        self._last = self._by_slot[slot] = change
        self._by_slot.move_to_end(slot)
        if len(self._by_slot) > self._kept_max:
            _, self.known_from = self._by_slot.popitem(last=False)

    def any_after(self, change: int) -> bool:
        """Return whether any slot was filled after this change."""
        return self._last > change

    def after(self, slot: int, change: int) -> bool:
        """Return whether `slot` was filled after this change, which is not before `known_from`."""
        return self._by_slot.get(slot, 0) > change

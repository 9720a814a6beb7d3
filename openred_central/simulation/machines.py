"""The machines of a world: when each is up, in columns, for very many of them."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from random import Random
from typing import Final

from ..client.client import BACK_OFF_S_MAX
from .clients import START_S_MAX, tried_again_s
from .population import lives

# Regions by falling size: the share of each is in proportion to 1 / its place.
REGIONS: Final = 10
# The region that is cut off has about a tenth of all.
CUT_REGION: Final = 2


class Machines:
    """Machines of a mix, known by number. All times are whole seconds since the begin of the world.

    `starts` and `ends` have the times of all, one machine after the other; those of a machine lie from
    `firsts[number]` up to `firsts[number + 1]`.
    """

    def __init__(self, mix: str, count: int, length_s: int, seed: int) -> None:
        self.count, self.length_s = count, length_s
        self.starts, self.ends, self.firsts = array("I"), array("I"), array("I", [0])
        chance = Random(f"{seed} machines")
        for _, spans in lives(mix, count, length_s, chance):
            for start_s, end_s in spans:
                start, end = int(start_s), int(end_s)
                # A span of a part of a second is none.
                if end > start:
                    self.starts.append(start)
                    self.ends.append(end)
            self.firsts.append(len(self.starts))
        weights = [1 / place for place in range(1, REGIONS + 1)]
        self.regions = bytes(chance.choices(range(REGIONS), weights, k=count))

    def is_up(self, number: int, at: int) -> bool:
        """Return whether a machine is up."""
        place = self._place(number, at)
        return place >= self.firsts[number] and at < self.ends[place]

    def first(self, number: int, chance: Random) -> tuple[int, int] | None:
        """Return the first sign of life of a machine, and the place of that; None if none comes."""
        place = self.firsts[number]
        if place == self.firsts[number + 1]:
            return None
        start, end = self.starts[place], self.ends[place]
        return min(start + int(chance.random() * START_S_MAX), (start + end) // 2), place

    def again(self, number: int, at: int, chance: Random) -> tuple[int, int] | None:
        """Return the sign of life of a machine whose client failed until `at`, as `first` does."""
        place = self._place(number, at)
        at += int(chance.random() * BACK_OFF_S_MAX)
        if place >= self.firsts[number] and at < self.ends[place]:
            return at, place
        return self.after(number, place, at, chance)

    def after(self, number: int, place: int, due: int, chance: Random) -> tuple[int, int] | None:
        """Return the sign of life of a machine that is down when it is `due`, in a later place, or None."""
        for later in range(place + 1, self.firsts[number + 1]):
            start = self.starts[later]
            at = due if due >= start else start + int(tried_again_s(start - due, chance))
            if at < self.ends[later]:
                return at, later
        return None

    def _place(self, number: int, at: int) -> int:
        return bisect_right(self.starts, at, self.firsts[number], self.firsts[number + 1]) - 1

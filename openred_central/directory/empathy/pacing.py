"""The pace that each node needs, and what the directory can bear. Pure."""

from __future__ import annotations

from typing import Final

from ..state.habits import DAYS_KNOWN, FULL, PACE_CODES, SLOWEST
from .paces import Paces

# A node is told the quickest pace until it is known, and while it is often away.
QUICK: Final = 0
# A pace for nodes that are nearly always there.
STEADY: Final = 4
# Shares of dues met: slower above, quicker below; in between the pace stays.
STEADY_ABOVE: Final = 0.985
QUICK_BELOW: Final = 0.93
# A node that hardly ever meets a due is not asked more often.
HOPELESS_BELOW: Final = 0.03
# The paces quicken again once they would take less than this share of the budget.
ROOM_SHARE: Final = 0.8
_ON_TIME: Final = tuple(byte / FULL for byte in range(FULL + 1))


def need_of(need: int, days: int, on_time: int, *, discoverable: bool) -> int:
    """Return the code of the pace that a node needs.

    `need` is the present one, `days` the number of days on which it was heard, `on_time` its share of dues
    met, of 255.
    """
    if not discoverable:
        return SLOWEST
    share = _ON_TIME[on_time]
    if days < DAYS_KNOWN or HOPELESS_BELOW <= share < QUICK_BELOW:
        return QUICK
    if share > STEADY_ABOVE or share < HOPELESS_BELOW:
        return STEADY
    return need if need in (QUICK, STEADY) else QUICK


class Pacing:
    """The shift of all paces by which the signs of life that are asked for stay within a budget.

    `heartbeats_per_s` is the budget. The needs of all nodes are counted in each round of visits.
    """

    def __init__(self, paces: Paces, heartbeats_per_s: float) -> None:
        self._seconds = paces.seconds
        self._heartbeats_per_s = heartbeats_per_s
        self._shift = 0
        self._needs = [0] * PACE_CODES
        # How many signs of life a second nodes were asked for, by the last round.
        self.advised_per_s = 0.0

    def code(self, need: int) -> int:
        """Return the code of the pace for a node that needs the one with code `need`."""
        return min(need + self._shift, SLOWEST)

    def count(self, need: int, nodes: int = 1) -> None:
        """Count nodes that need the pace with code `need`."""
        self._needs[need] += nodes

    def end_round(self) -> None:
        """Choose the shift by what was counted since the last round."""
        while self._shift < SLOWEST and self._load(self._shift) > self._heartbeats_per_s:
            self._shift += 1
        while self._shift and self._load(self._shift - 1) <= ROOM_SHARE * self._heartbeats_per_s:
            self._shift -= 1
        self.advised_per_s = self._load(self._shift)
        self._needs = [0] * PACE_CODES

    def _load(self, shift: int) -> float:
        seconds = self._seconds
        wanted: list[float] = [
            count / seconds[min(need + shift, SLOWEST)] for need, count in enumerate(self._needs)
        ]
        return sum(wanted)

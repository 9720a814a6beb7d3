"""The paces that nodes may be told, from the quickest to the slowest, and what may be expected of each."""

from __future__ import annotations

from typing import Final

from ..life.pace import AHEAD_MIN, CELL, Pace
from ..state.habits import PACE_CODES, SLOWEST

# A due is missed after this time; clients wait in slices, and networks are slow.
SLACK_S_MAX: Final = 120.0
# A client may be early by so much: it waits in slices.
EARLY_S_MAX: Final = 60.0
_SHARE: Final = 0.1
# A node that does not follow the advice is expected after this multiple of its usual gap.
USUAL_GAPS: Final = 1.3


class Paces:
    """Eight paces from `least_s` to `most_s`, in seconds, each longer than the one before by one factor.

    By code: `each` has the grids, `seconds` the paces, `slack_s` how late a due may be met, `early_s` how far
    ahead of it, `ahead_s` how far ahead of a due a sign of life must be for its node to be told that due.
    """

    def __init__(self, least_s: float, most_s: float) -> None:
        factor = (most_s / least_s) ** (1 / SLOWEST)
        self.seconds: tuple[float, ...] = tuple(
            most_s / factor ** (SLOWEST - code) for code in range(PACE_CODES)
        )
        self.each = tuple(map(Pace, self.seconds))
        self.slack_s = tuple(min(SLACK_S_MAX, _SHARE * pace_s) for pace_s in self.seconds)
        self.early_s = tuple(
            min(EARLY_S_MAX, _SHARE * pace_s) + slack_s
            for pace_s, slack_s in zip(self.seconds, self.slack_s, strict=True)
        )
        self.ahead_s = tuple(AHEAD_MIN * CELL * pace_s for pace_s in self.seconds)
        # By code, what returns the advice in seconds for a slot at an attended time.
        self.advise = tuple(pace.advice_s for pace in self.each)

    def due_s(self, slot: int, seen_s: float, code: int, usual_gap_s: float, *, obeys: bool) -> float:
        """Return when the node in `slot`, seen at `seen_s`, is due, without the slack; attended seconds."""
        if obeys:
            return seen_s + self.each[code].advice_s(slot, seen_s)
        return seen_s + USUAL_GAPS * usual_gap_s

"""Silence of all nodes is evidence against us: while nobody is heard, attended time stands still. Pure.

A cut of our own uplink silences every node at once, long before any deadline shows it. So the clock stops
once the silence is much longer than the usual gap between two signs of life, whoever they come from, and goes
on with the next one. Silence is measured in attended time since the latest sign of life in any record: a
restart in the middle of it does not begin it anew.

The usual gap is the mean of all gaps, weighted by their lengths: the gap in which any moment lies. So hours
that are quiet every night or weekend count, and a caller that sends very often for a while changes little.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import exp
from typing import Final

from ...clock import Now
from ..lifecycle import DAY_S
from .mass_silence import Hold

# The clock stops after a silence of so many usual gaps. If signs of life come by chance, that is 20 times
# their mean distance, and one gap in e^20 is as long.
GAPS: Final = 10.0
# The usual gap is that of about so long.
MEMORY_S: Final = 2 * DAY_S
# Records tell of the nodes that were heard within so long before the latest sign of life.
SPAN_S: Final = DAY_S
# The silence that begins a hold is at first no shorter than this: quiet hours are still unknown.
FIRST_SILENT_S: Final = DAY_S
# More nodes would shorten the usual gap to no effect.
NODES_COUNTED_MAX: Final = 1_000
# The clock goes on after so long without any sign of life, in monotonic seconds.
HOLD_S_MAX: Final = 180 * DAY_S


class Attendance:
    """Judge of the silence of all nodes, asked once a tick.

    Attended time stands still while there is a `hold`. `all_silent_s` is the shortest silence that begins
    one, in attended seconds; 0: none does.
    """

    def __init__(self, all_silent_s: float) -> None:
        self._all_silent_s = all_silent_s
        self._heard_s = 0.0
        # Signs of life within a tick count as one.
        self.usual_gap_s = 2 * SPAN_S
        self.hold: Hold | None = None
        # The clock goes on although nobody was heard, until somebody is.
        self.released = False

    @property
    def silent_s(self) -> float:
        """The silence that begins a hold, in attended seconds."""
        return max(self._all_silent_s, GAPS * self.usual_gap_s)

    def resume(self, last_seen_s: Sequence[float]) -> None:
        """Begin with the latest signs of life of all records of a store, in attended seconds."""
        self._heard_s = max(last_seen_s, default=0.0)
        recent_s = max(0.0, self._heard_s - SPAN_S)
        recent = islice(filter(recent_s.__lt__, last_seen_s), NODES_COUNTED_MAX)
        # Weighted by their lengths, gaps that come by chance are twice as long. A node that was heard twice
        # counts once, so this is rather too long.
        self.usual_gap_s = max(FIRST_SILENT_S / GAPS, 2 * SPAN_S / max(1, len(list(recent))))

    def look(self, *, heard: bool, active: int, now: Now) -> None:
        """Begin or end a hold. `heard`: some node was, since the last call; `active` nodes are expected."""
        if heard:
            # No single gap may spoil the usual one.
            gap_s = min(now.attended_s - self._heard_s, self.silent_s)
            self.usual_gap_s += (gap_s - self.usual_gap_s) * (1 - exp(-gap_s / MEMORY_S))
            self._heard_s, self.hold, self.released = now.attended_s, None, False
        elif self.hold is not None:
            if now.monotonic_s - self.hold.since_monotonic_s >= HOLD_S_MAX:
                self.release()
        elif self._all_silent_s and active and not self.released:
            silence_s = now.attended_s - self._heard_s
            if silence_s >= self.silent_s:
                self.hold = Hold(
                    now.wall_s,
                    now.monotonic_s,
                    f"none of {active} active nodes was heard for {silence_s:.0f} s; "
                    f"usual are {self.usual_gap_s:.0f} s",
                )

    def release(self) -> bool:
        """Let the clock go on until a node is heard and all fall silent again. Return whether it stood."""
        if self.hold is None:
            return False
        self.hold, self.released = None, True
        return True

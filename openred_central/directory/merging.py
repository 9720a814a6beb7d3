"""Signs of life that another process heard, merged by the later time. Pure.

Processes number slots alike, but learn of changes at different times: a slot may have been freed and filled
since the sender last looked. So pages come with the last change that their sender knew.
"""

from __future__ import annotations

from itertools import compress
from operator import gt

from ..clock import Now
from .directory import Directory
from .lifecycle import Event, State
from .state.fills import FILLS_KEPT, Fills
from .state.pages import PageRun


class Merger:
    """Merger of signs of life from other processes into `directory`. Make it before the directory changes."""

    def __init__(self, directory: Directory, kept_max: int = FILLS_KEPT) -> None:
        self._directory = directory
        self.fills = Fills(directory.nodes.changes.last, kept_max)
        directory.nodes.fills = self.fills

    def merge(self, run: PageRun, as_of: int, now: Now) -> list[int] | None:
        """Take the signs of life of `run`, whose sender knew all changes numbered up to `as_of`.

        Ignore free slots, slots filled after `as_of`, and signs of life that are not later than the known
        ones. Take a time after `now` as now. Return the slots that were heard; None, and change nothing, if
        `as_of` is before `Fills.known_from`.
        """
        if as_of < self.fills.known_from:
            return None
        slots, known_s = run.slots, self._directory.nodes.registry.last_seen_s
        newer = map(gt, run.last_seen_s, known_s[slots.start : slots.stop])
        places = compress(range(len(slots)), newer)
        return [slots[place] for place in places if self._take(run, place, as_of, now)]

    def _take(self, run: PageRun, place: int, as_of: int, now: Now) -> bool:
        registry, slot = self._directory.nodes.registry, run.slots[place]
        seen_s = min(run.last_seen_s[place], now.attended_s)
        if registry.is_free(slot) or self.fills.after(slot, as_of) or not seen_s > registry.last_seen_s[slot]:
            return False
        heard = Now(seen_s, run.last_seen_at[place], now.monotonic_s)
        if registry.states[slot] == State.ACTIVE:
            self._directory.hear(slot, heard)
        else:
            self._directory.expiry.sign_of_life(slot, Event.SIGN_OF_LIFE, heard)
        # The sender has seen all signs of life of the node; here there may be gaps between them.
        registry.usual_gap_s[slot] = run.usual_gap_s[place]
        return True

"""Signs of life that another process heard, merged by the later time. Pure.

Processes number slots alike, but learn of changes at different times: a slot may have been freed and filled
since the sender last looked. So signs of life come with the last change that their sender knew.
"""

from __future__ import annotations

from typing import Final

from ..clock import Now
from .directory import Directory
from .lifecycle import Event, State
from .state.fills import FILLS_KEPT, Fills
from .state.node import LEFT
from .state.pages import HEARD, PAGE_SLOTS
from .state.signs import SignColumns

# As a plain number, which compares faster.
_ACTIVE: Final = int(State.ACTIVE)


class Merger:
    """Merger of signs of life from other processes into `directory`. Make it before the directory changes."""

    def __init__(self, directory: Directory, kept_max: int = FILLS_KEPT) -> None:
        self._directory = directory
        self.fills = Fills(directory.nodes.changes.last, kept_max)
        directory.nodes.fills = self.fills

    def merge(self, signs: SignColumns, as_of: int, now: Now) -> list[int] | None:
        """Take `signs`, whose sender knew all changes numbered up to `as_of`.

        Ignore free slots, slots filled after `as_of`, and signs of life that are not later than the known
        ones. Ignore nodes that left: a sender that knew it had handed the sign of life on, and by time alone,
        by clocks that differ, one from before the departure could undo it. Take a time after `now` as now.
        Return the slots that were heard; None, and change nothing, if `as_of` is before `Fills.known_from`.
        """
        if as_of < self.fills.known_from:
            return None
        registry, expiry = self._directory.nodes.registry, self._directory.expiry
        states, flags, usual_gap_s = registry.states, registry.flags, registry.usual_gap_s
        last_seen_at, last_seen_s = registry.last_seen_at, registry.last_seen_s
        marks, set_aside, ignored = self._directory.nodes.changes.heard.marks, expiry.set_aside, set[int]()
        any_filled, now_s, end = self.fills.any_after(as_of), now.attended_s, len(last_seen_s)
        # A node is in question only after a longer silence, or if its transition failed, as in `hearing`.
        doubted_s = now_s - self._directory.lifecycle.heartbeat_tolerance_s
        any_unknown = any_filled or max(signs.slots, default=0) >= end
        for slot, at, seen_s, gap_s in zip(*signs, strict=True):
            if any_unknown and (slot >= end or self.fills.after(slot, as_of)):
                ignored.add(slot)
                continue
            is_usual = states[slot] == _ACTIVE and slot not in set_aside
            if is_usual and doubted_s < last_seen_s[slot] < seen_s <= now_s:
                last_seen_s[slot] = seen_s
                last_seen_at[slot] = at
                marks[slot // PAGE_SLOTS] = HEARD
            else:
                seen_s = min(seen_s, now_s)
                if not states[slot] or seen_s <= last_seen_s[slot] or flags[slot] & LEFT:
                    ignored.add(slot)
                    continue
                expiry.sign_of_life(slot, Event.SIGN_OF_LIFE, Now(seen_s, at, now.monotonic_s))
            # The sender has seen all signs of life of the node; here there may be gaps between them.
            usual_gap_s[slot] = gap_s
        return [slot for slot in signs.slots if slot not in ignored] if ignored else list(signs.slots)

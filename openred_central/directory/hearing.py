"""The signs of life of active nodes: the hottest path of the server. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..clock import Now
from .life.expiry import Expiry
from .lifecycle import Event
from .nodes import Nodes

# Gaps below this, and below this share of the usual one, do not count: a node may register and then send a
# heartbeat at each of its starts.
COUNTED_GAP_S_MIN: Final = 60.0
COUNTED_GAP_SHARE_MIN: Final = 1 / 8
# A longer gap raises the usual one by little, so that one absence cannot spoil it; a shorter one halves the
# difference.
USUAL_GAP_GROWTH: Final = 1.1
USUAL_GAP_WEIGHT: Final = 0.5


def hearing(nodes: Nodes, expiry: Expiry) -> Callable[[int, Now], None]:
    """Return what takes a sign of life, at a moment, of the active node in a slot.

    It is a closure, because looking up attributes takes longer than the rest.
    """
    registry, set_aside, heard = nodes.registry, expiry.set_aside, nodes.changes.heard
    marks, slots_each = heard.marks, heard.slots_each
    last_seen_s, last_seen_at, usual_gap_s = (
        registry.last_seen_s,
        registry.last_seen_at,
        registry.usual_gap_s,
    )
    tolerance_s = nodes.lifecycle.heartbeat_tolerance_s

    def hear(slot: int, now: Now) -> None:
        attended_s, wall_s, _ = now
        gap_s = attended_s - last_seen_s[slot]
        if gap_s >= COUNTED_GAP_S_MIN:
            # Comparisons, because `min` and `max` are slower.
            usual_s = usual_gap_s[slot]
            if gap_s > usual_s:
                most_s = USUAL_GAP_GROWTH * (usual_s if usual_s > COUNTED_GAP_S_MIN else COUNTED_GAP_S_MIN)
                usual_gap_s[slot] = gap_s if gap_s < most_s else most_s
            elif gap_s >= COUNTED_GAP_SHARE_MIN * usual_s:
                usual_gap_s[slot] = usual_s + USUAL_GAP_WEIGHT * (gap_s - usual_s)
        # A node is in question only after a longer silence, or if its transition failed.
        if not 0 <= gap_s < tolerance_s or slot in set_aside:
            expiry.sign_of_life(slot, Event.SIGN_OF_LIFE, now)
            return
        last_seen_s[slot] = attended_s
        last_seen_at[slot] = wall_s
        # `HEARD`, written out because a name is slower.
        marks[slot // slots_each] = 1

    return hear

"""The ranking of nodes by their silence alone, for directories that remember no habits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from .lifecycle import State
from .state.columns import picker
from .state.registry import Registry

# Shortest gap that counts as usual: a node that sends heartbeats every second is not away after two.
USUAL_GAP_S_MIN: Final = 60.0
# Availability is an estimate; more digits would mean nothing.
AVAILABILITY_DIGITS: Final = 3
# Nearly all nodes are fully available: saves rounding and formatting.
_ALWAYS: Final = '"availability":1.0'


class Ranking(Protocol):
    """The order in which discovery prefers nodes.

    A draw looks for no further candidates once enough have a score of `usual_score`.
    """

    usual_score: float

    def scores(self, slots: Sequence[int], now_s: float) -> list[float]:
        """Return the score of each of `slots` at attended `now_s`; the higher, the better."""

    def told(self, score: float) -> str:
        """Return what everybody is told of a node with `score`, as members of a JSON object."""


class SilenceRanking:
    """The ranking by the silence of a node, compared with its usual gap.

    For a node that is not active, `tolerance_s` is the longest gap that counts as usual.
    """

    usual_score = 1.0

    def __init__(self, registry: Registry, tolerance_s: float) -> None:
        self._registry = registry
        self._tolerance_s = tolerance_s

    def scores(self, slots: Sequence[int], now_s: float) -> list[float]:
        """Return how likely each of `slots` answers, from 0 to 1.

        It is 0 for a node in coma, and during an announced absence unless the node was heard since it began.
        """
        registry, active = self._registry, State.ACTIVE
        pick = picker(slots)
        rows = zip(
            *(pick(registry.last_seen_s), pick(registry.usual_gap_s), pick(registry.states)), strict=True
        )
        found = [
            availability(now_s - seen_s, gap_s)
            if state == active
            else self._not_active(now_s - seen_s, gap_s, state)
            for seen_s, gap_s, state in rows
        ]
        if registry.has_absences:
            for place, slot in enumerate(slots):
                if registry.is_away(slot, now_s):
                    found[place] = 0.0
        return found

    def told(self, score: float) -> str:
        return _ALWAYS if score == 1.0 else f'"availability":{round(score, AVAILABILITY_DIGITS)}'

    def _not_active(self, silent_s: float, gap_s: float, state: int) -> float:
        if state == State.COMA:
            return 0.0
        return min(availability(silent_s, gap_s), self._tolerance_s / max(silent_s, self._tolerance_s))


def availability(silent_s: float, usual_gap_s: float) -> float:
    """Return how likely a node answers, from 0 to 1, by its silence compared with its usual gap."""
    gap_s = max(usual_gap_s, USUAL_GAP_S_MIN)
    return 1.0 if silent_s <= gap_s else gap_s / silent_s

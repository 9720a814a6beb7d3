"""Who makes room when the directory is nearly full: those of whom nobody knows that they ever were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..state.node import HELD, PROVEN
from ..state.registry import Registry

CROWDED_SHARE: Final = 0.9
UNHEARD_S: Final = 48 * 3_600.0
# Each new node looks at so many others: all have been looked at before the last tenth is full.
LOOKED_AT: Final = 64
# Where no place is left at all, at so many: 0.3 ms.
LOOKED_AT_WHEN_FULL: Final = 1_024
# More than one, so that a nearly full directory becomes emptier and not only no fuller.
GIVEN_UP_MAX: Final = 2


def is_crowded(count: int, count_max: int) -> bool:
    """Whether so many nodes, or bytes, are held that new nodes may take the places of those who make room."""
    return count >= CROWDED_SHARE * count_max


def makes_room(
    *,
    kept: bool,
    registered_at: float,
    last_seen_at: float,
    last_seen_s: float,
    away_until_s: float,
    now_s: float,
) -> bool:
    """Whether a node gives its place up: nothing keeps it, and it was not heard since it registered.

    `kept` says that it proved its key, or that an operator holds it: such a node never gives way.
    `registered_at` and `last_seen_at` are wall times, the same for a node that was never heard again;
    `last_seen_s`, `away_until_s` and `now_s` are attended seconds, so that nobody loses its place because we
    were away. A node that announced to be away until `away_until_s` is expected only from then on.
    """
    expected_s = max(last_seen_s, away_until_s)
    return not kept and last_seen_at == registered_at and now_s - expected_s >= UNHEARD_S


class Crowding:
    """Goes round all slots, a few with each new node, and finds those who make room.

    What it finds follows from the records alone: nothing is kept, and nothing is lost by a restart.
    """

    def __init__(self, registry: Registry, nodes_max: int, bytes_max: int) -> None:
        self._registry = registry
        self._nodes_max = nodes_max
        self._bytes_max = bytes_max
        self._next_slot = 0

    def who_makes_room(self, bytes_added: int, now_s: float) -> list[int]:
        """Up to `GIVEN_UP_MAX` slots to be freed, at attended time `now_s`; none unless it is crowded.

        The room is for one more node, with which `bytes_added` more bytes would be held.
        """
        nodes, held = len(self._registry), self._registry.bytes_held
        if not (is_crowded(nodes, self._nodes_max) or is_crowded(held + bytes_added, self._bytes_max)):
            return []
        is_full = nodes >= self._nodes_max or held + bytes_added > self._bytes_max
        found: list[int] = []
        for slot in self._round(LOOKED_AT_WHEN_FULL if is_full else LOOKED_AT):
            if self._makes_room(slot, now_s):
                found.append(slot)
                if len(found) == GIVEN_UP_MAX:
                    break
        return found

    def _round(self, limit: int) -> Iterator[int]:
        slots = self._registry.slots_count
        for _ in range(min(limit, slots)):
            slot = self._next_slot % slots
            self._next_slot = slot + 1
            if not self._registry.is_free(slot):
                yield slot

    def _makes_room(self, slot: int, now_s: float) -> bool:
        registry = self._registry
        return makes_room(
            kept=bool(registry.flags(slot) & (PROVEN | HELD)),
            registered_at=registry.registered_at(slot),
            last_seen_at=registry.last_seen_at[slot],
            last_seen_s=registry.last_seen_s[slot],
            away_until_s=registry.away_s(slot)[1],
            now_s=now_s,
        )

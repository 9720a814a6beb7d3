"""Who makes room when the directory is nearly full: those of whom nobody knows that they ever were. Pure."""

from __future__ import annotations

from typing import Final

CROWDED_SHARE: Final = 0.9
UNHEARD_S: Final = 48 * 3_600.0


def is_crowded(nodes: int, nodes_max: int) -> bool:
    """Whether so many nodes are registered that new ones may take the places of those who make room."""
    return nodes >= CROWDED_SHARE * nodes_max


def makes_room(
    *, proven: bool, registered_at: float, last_seen_at: float, last_seen_s: float, now_s: float
) -> bool:
    """Whether a node gives its place up: it never proved its key, and was not heard since it registered.

    `registered_at` and `last_seen_at` are wall times, the same for a node that was never heard again;
    `last_seen_s` and `now_s` are attended seconds, so that nobody loses its place because we were away.
    A proven node never does.
    """
    return not proven and last_seen_at == registered_at and now_s - last_seen_s >= UNHEARD_S

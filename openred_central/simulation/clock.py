"""A clock that is told the time."""

from __future__ import annotations


class VirtualClock:
    """A clock that moves only when told to."""

    def __init__(self, wall_s: float = 1_800_000_000.0, monotonic_s: float = 1_000.0) -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._suspended_s = 0.0

    def wall_s(self) -> float:
        return self._wall_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def elapsed_s(self) -> float:
        return self._monotonic_s + self._suspended_s

    def suspend(self, seconds: float) -> None:
        """Let `seconds` pass while the machine sleeps."""
        self._wall_s += seconds
        self._suspended_s += seconds

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on all clocks."""
        self._wall_s += seconds
        self._monotonic_s += seconds

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back for negative `seconds`, as an operator or NTP would."""
        self._wall_s += seconds

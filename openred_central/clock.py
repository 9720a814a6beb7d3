"""Wall and monotonic time behind one small interface. Only this file asks the machine what time it is."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """What tells the time. Both readings are seconds as floats."""

    def wall_s(self) -> float:
        """Seconds since the Unix epoch, UTC. May jump either way; for display only."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary point. Never goes back; stands still while the machine is suspended."""


class SystemClock:
    """The machine's own clocks."""

    wall_s = staticmethod(time.time)
    monotonic_s = staticmethod(time.monotonic)


class VirtualClock:
    """A clock that moves only when told to, for tests and simulation."""

    def __init__(self, wall_s: float = 1_800_000_000.0, monotonic_s: float = 1_000.0) -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s

    def wall_s(self) -> float:
        return self._wall_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        self._wall_s += seconds
        self._monotonic_s += seconds

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back where `seconds` is negative, as an operator or NTP would."""
        self._wall_s += seconds


class Now(NamedTuple):
    """One moment on the three time scales that the directory uses, each in seconds.

    `attended_s` drives the life cycle; `wall_s` is what people are shown; `monotonic_s` measures how long
    things take in this process.
    """

    attended_s: float
    wall_s: float
    monotonic_s: float


class ClockJump(NamedTuple):
    """The wall clock moved by `jump_s` seconds more (or less, negative) than the monotonic one did."""

    at_wall_s: float
    jump_s: float


# A wall clock that NTP slews stays well within this of the monotonic one between two ticks.
CLOCK_JUMP_S = 5.0
CLOCK_JUMPS_KEPT = 16


class AttendedTime:
    """The clock of the life cycle: it advances only while the directory really attends to its nodes.

    It follows the monotonic clock, at most two ticks per tick, so that a suspended machine, a stopped
    process and a jump of the wall clock credit every node instead of ageing it. Between two ticks `now`
    runs smoothly. `attended_s` is the value to start from (what was last persisted), `tick_s` the longest
    time between two calls of `tick`.
    """

    def __init__(self, clock: Clock, *, attended_s: float = 0.0, tick_s: float = 1.0) -> None:
        self._clock = clock
        self._attended_s = attended_s
        self._step_s_max = 2 * tick_s
        self._last_monotonic_s = clock.monotonic_s()
        self._last_wall_s = clock.wall_s()
        self._attending = True
        self.jumps: list[ClockJump] = []

    @property
    def attending(self) -> bool:
        return self._attending

    def now(self) -> Now:
        """This moment. `attended_s` never goes back from one call to the next."""
        monotonic_s = self._clock.monotonic_s()
        attended_s = self._attended_s
        if self._attending:
            # Written out, it takes 0.1 µs less than `min`.
            passed_s = monotonic_s - self._last_monotonic_s
            attended_s += passed_s if passed_s < self._step_s_max else self._step_s_max
        return Now(attended_s, self._clock.wall_s(), monotonic_s)

    def tick(self, *, attending: bool) -> ClockJump | None:
        """Take in the time since the last tick; from here on attended time runs only if `attending`.

        Returns the jump of the wall clock seen since then, if there was one (also kept in `jumps`).
        """
        now = self.now()
        passed_s = now.monotonic_s - self._last_monotonic_s
        jump = ClockJump(now.wall_s, round(now.wall_s - self._last_wall_s - passed_s, 3))
        self._attended_s, self._last_monotonic_s, self._last_wall_s = (
            now.attended_s,
            now.monotonic_s,
            now.wall_s,
        )
        self._attending = attending
        if abs(jump.jump_s) < CLOCK_JUMP_S:
            return None
        self.jumps.append(jump)
        del self.jumps[:-CLOCK_JUMPS_KEPT]
        return jump


# The clock of this machine, for parts that are given none.
SYSTEM_CLOCK = SystemClock()

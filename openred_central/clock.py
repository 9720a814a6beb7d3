"""Wall, monotonic and attended time. Only this file asks the machine for the time."""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """Source of the time. All readings are seconds as floats."""

    def wall_s(self) -> float:
        """Return seconds since the Unix epoch, UTC. They may jump either way; for display only."""

    def monotonic_s(self) -> float:
        """Return seconds since an arbitrary point. They never go back and stop while the machine sleeps."""

    def elapsed_s(self) -> float:
        """Return seconds since an arbitrary point. They count on while the machine sleeps."""


class SystemClock:
    """The machine's own clocks."""

    wall_s = staticmethod(time.time)
    monotonic_s = staticmethod(time.monotonic)
    # The wall clock where the system has no such clock: it may jump.
    elapsed_s = staticmethod(
        partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time
    )


class Now(NamedTuple):
    """One moment on the three time scales that the directory uses, each in seconds.

    `attended_s` drives the life cycle, `wall_s` is shown to people, and `monotonic_s` measures durations in
    this process.
    """

    attended_s: float
    wall_s: float
    monotonic_s: float

    def wall_at(self, attended_s: float) -> float:
        """Return the wall time at which attended time was `attended_s`, if nothing was missed since."""
        return attended_s + (self.wall_s - self.attended_s)


class ClockJump(NamedTuple):
    """A jump of the wall clock by `jump_s` seconds more than the monotonic clock moved; negative if less."""

    at_wall_s: float
    jump_s: float


# Between two ticks, a wall clock that NTP slews stays well within this of the monotonic one.
CLOCK_JUMP_S = 5.0
CLOCK_JUMPS_KEPT = 16


class AttendedTime:
    """The clock of the life cycle, which advances only while the directory really attends to its nodes.

    It follows the monotonic clock by at most two ticks per tick. So a suspended machine, a stopped process
    and a jump of the wall clock age no node. `attended_s` is the value to start from, which was stored last;
    `tick_s` is the longest time between two calls of `tick`.
    """

    def __init__(self, clock: Clock, *, attended_s: float = 0.0, tick_s: float = 1.0) -> None:
        self._clock = clock
        self._attended_s = attended_s
        # Attended time that was told here already, when another clock is behind (`follow`).
        self._told_s = 0.0
        self._step_s_max = 2 * tick_s
        self._last_monotonic_s = clock.monotonic_s()
        self._last_wall_s = clock.wall_s()
        self.attending = True
        self.jumps: list[ClockJump] = []

    def now(self) -> Now:
        """Return this moment. `attended_s` never goes back from one call to the next."""
        monotonic_s = self._clock.monotonic_s()
        attended_s = self._attended_s
        if self.attending:
            # Written out, because `min` is slower.
            passed_s = monotonic_s - self._last_monotonic_s
            attended_s += passed_s if passed_s < self._step_s_max else self._step_s_max
        if attended_s < self._told_s:
            attended_s = self._told_s
        return Now(attended_s, self._clock.wall_s(), monotonic_s)

    def follow(self, attended_s: float, *, attending: bool) -> None:
        """Take the time that the leader of this directory told; instead of `tick`.

        Until it tells more, time runs on by two ticks at most, and only if `attending`. Where this clock is
        ahead, it stands until the leader has caught up.
        """
        self._told_s = self.now().attended_s
        self._attended_s, self._last_monotonic_s = attended_s, self._clock.monotonic_s()
        self.attending = attending

    def tick(self, *, attending: bool) -> ClockJump | None:
        """Add the time since the last tick. From now on attended time runs only if `attending`.

        Return the jump of the wall clock since then, if there was one; it is also kept in `jumps`.
        """
        now = self.now()
        passed_s = now.monotonic_s - self._last_monotonic_s
        jump = ClockJump(now.wall_s, round(now.wall_s - self._last_wall_s - passed_s, 3))
        self._attended_s, self._last_monotonic_s, self._last_wall_s = (
            now.attended_s,
            now.monotonic_s,
            now.wall_s,
        )
        self.attending = attending
        if abs(jump.jump_s) < CLOCK_JUMP_S:
            return None
        self.jumps.append(jump)
        del self.jumps[:-CLOCK_JUMPS_KEPT]
        return jump


# The clock of this machine, for parts that are given none.
SYSTEM_CLOCK = SystemClock()

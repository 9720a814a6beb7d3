"""Measure how late the event loop is: the time that every request waits in addition.

A timer fires often, and the meter counts how late each one is. The timers of uvloop have whole milliseconds,
so a shorter delay is no stall.
"""

from __future__ import annotations

from ..clock import Clock
from ..histogram import Histogram
from .periodic import PeriodicTask

PERIOD_S = 0.05


class StallMeter(PeriodicTask):
    """The task that measures with `clock`; `stalls` is the result."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._due_s: float | None = None
        self.stalls = Histogram()

    async def work(self) -> float:
        """Count how late this call is. Return the seconds until the next one."""
        now_s = self._clock.monotonic_s()
        if self._due_s is not None:
            self.stalls.observe(max(0.0, now_s - self._due_s))
        self._due_s = now_s + PERIOD_S
        return PERIOD_S

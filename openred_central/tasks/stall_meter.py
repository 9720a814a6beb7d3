"""Measures how late the loop is: what anybody who waits for it waits in addition.

A timer that is due every 50 ms is looked at, and by how much it comes late is counted. uvloop's timers are in
whole milliseconds, so what is below one is no stall.
"""

from __future__ import annotations

import asyncio
import contextlib

from ..clock import Clock
from ..histogram import Histogram

PERIOD_S = 0.05


class StallMeter:
    """The task that measures by `clock`; `stalls` is what it found. Run it with `run`, end it with `stop`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stopping = asyncio.Event()
        self._due_s: float | None = None
        self.stalls = Histogram()

    def look(self) -> float:
        """Count by how much this moment is later than it was to be. Returns the seconds to the next."""
        now_s = self._clock.monotonic_s()
        if self._due_s is not None:
            self.stalls.observe(max(0.0, now_s - self._due_s))
        self._due_s = now_s + PERIOD_S
        return PERIOD_S

    async def run(self) -> None:
        """Measure until `stop`. To be run as a task, once."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self.look())

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

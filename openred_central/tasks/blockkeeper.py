"""End blocks at their time, and see that every record has the right flag."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..clock import Now
from ..directory.directory import Directory
from .periodic import PeriodicTask

# The wall clock is asked this often: it may be set, and blocks come and go.
LOOK_S: Final = 1.0


class Blockkeeper(PeriodicTask):
    """The task that ends blocks by the wall clock that `now` reads.

    At the start it judges all records: blocks may have ended while no server ran, and a crash may have come
    between a block and its records.
    """

    def __init__(self, directory: Directory, now: Callable[[], Now]) -> None:
        super().__init__()
        self._directory = directory
        self._now = now
        self._is_begin = True

    async def work(self) -> float:
        """End what has ended. Return the pause to the next look."""
        blocking, now = self._directory.blocking, self._now()
        is_due = self._is_begin or now.wall_s >= blocking.blocks.first_end_at()
        if is_due and self._directory.may_change():
            blocking.end(now)
            for _ in blocking.judging():
                await asyncio.sleep(0)
            self._is_begin = False
        return LOOK_S

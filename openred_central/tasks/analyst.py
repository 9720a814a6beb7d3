"""Count the nodes each hour, and write a row for each day, piece by piece."""

from __future__ import annotations

from ..clock import AttendedTime
from ..directory.analytics.analytics import Analytics
from .periodic import PeriodicTask


class Analyst(PeriodicTask):
    """The task that does what is due of `analytics`, also while attended time stands still."""

    def __init__(self, analytics: Analytics, attended: AttendedTime) -> None:
        super().__init__()
        self._analytics = analytics
        self._attended = attended

    async def work(self) -> float:
        """Do one step. Return the seconds until the next one."""
        return self._analytics.step(self._attended.now())

    def stop(self) -> None:
        """Let `run` end, and note for the store what happened since the last step."""
        self._analytics.stop(self._attended.now())
        super().stop()

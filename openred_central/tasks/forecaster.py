"""Visit the nodes once an attended hour, piece by piece, so that the directory learns their habits."""

from __future__ import annotations

import logging
from typing import Final

from ..clock import AttendedTime
from ..directory.empathy.visiting import Visiting
from .periodic import PeriodicTask

log = logging.getLogger("openred.forecaster")

# The shortest and the longest sleep between two visits.
PAUSE_S_MIN: Final = 0.001
PAUSE_S_MAX: Final = 60.0


class Forecaster(PeriodicTask):
    """The task that makes the visits of `visiting` when they are due in `attended` time."""

    def __init__(self, visiting: Visiting, attended: AttendedTime) -> None:
        super().__init__()
        self._visiting = visiting
        self._attended = attended
        self._broken_logged = False
        visiting.resumed(attended.now().attended_s)

    async def work(self) -> float:
        """Make one visit if it is due. Return the seconds until the next one."""
        now, visiting = self._attended.now(), self._visiting
        if not self._attended.attending:
            # Nobody is blamed for what could not be heard.
            visiting.resumed(now.attended_s)
            return min(visiting.visit_s, PAUSE_S_MAX)
        if visiting.next_s(now.attended_s) <= now.attended_s:
            visiting.visit(now)
            if visiting.broken and not self._broken_logged:
                self._broken_logged = True
                log.error(
                    "%d broken habits were begun anew; no node loses anything but its forecast",
                    visiting.broken,
                )
            now = self._attended.now()
        ahead_s = visiting.next_s(now.attended_s) - now.attended_s
        return min(max(ahead_s, PAUSE_S_MIN), PAUSE_S_MAX)

    def stop(self) -> None:
        """Let `run` end, and note for the store what was learned."""
        self._visiting.note_all()
        super().stop()

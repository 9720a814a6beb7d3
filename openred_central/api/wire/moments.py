"""The moment at which signs of life come: found out and put into words once a millisecond."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...clock import Now
from .times import rfc3339


class Moment(NamedTuple):
    """One moment: `now`, and what an active node that gives a sign of life is told of it, as JSON.

    `told` are the members ``last_heartbeat`` and ``next_heartbeat_due``, which is when the tolerance of
    a node ends that is neither held nor away.
    """

    now: Now
    told: str


class Moments:
    """Tells the moment, the same one to all heartbeats of one millisecond, which may be many.

    `time_s` tells milliseconds apart and nothing shorter, as `AbstractEventLoop.time` of uvloop does.
    `due_at` is `Directory.heartbeat_due_at`.
    """

    __slots__ = ("_due_at", "_moment", "_now", "_tells_s", "_time_s")

    def __init__(
        self, now: Callable[[], Now], time_s: Callable[[], float], due_at: Callable[[Now], float]
    ) -> None:
        self._now = now
        self._tells_s = time_s
        self._due_at = due_at
        self._time_s = time_s()
        self._moment = self._find()

    def current(self) -> Moment:
        """The moment of this millisecond."""
        time_s = self._tells_s()
        if time_s != self._time_s:
            self._time_s = time_s
            self._moment = self._find()
        return self._moment

    def _find(self) -> Moment:
        now = self._now()
        return Moment(now, times_told(now.wall_s, self._due_at(now)))


def times_told(heard_at: float, due_at: float) -> str:
    """What a node that was heard is told: when that was, and until when it is waited for, in wall time."""
    return f'"last_heartbeat":"{rfc3339(heard_at)}","next_heartbeat_due":"{rfc3339(due_at)}"'

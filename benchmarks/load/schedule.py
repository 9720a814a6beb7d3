"""When the requests of an open loop are due: evenly spaced, whatever the server does.

A request that could not be sent when it was due, because every connection was waiting for an answer, is timed
from when it was due. To time it from when it was sent would leave out just the waiting that a slow server
causes: "coordinated omission".
"""

from __future__ import annotations


class Schedule:
    """The due times of one of several generators that share a rate; they lie between those of the others."""

    def __init__(self, start_s: float, rate: float, generator: int = 0, generators: int = 1) -> None:
        if not rate > 0:
            raise ValueError(f"a rate of {rate} is not above 0")
        self._interval_s = generators / rate
        self._first_s = start_s + generator / rate
        self._taken = 0

    def next_s(self) -> float:
        """When the next request is due."""
        return self._first_s + self._taken * self._interval_s

    def take_due(self, now_s: float, limit: int) -> list[float]:
        """Take up to `limit` of the requests that are due by `now_s`: their due times, in order."""
        first = self._taken
        due = int((now_s - self._first_s) / self._interval_s + 1) - first if now_s >= self._first_s else 0
        self._taken += max(0, min(due, limit))
        return [self._first_s + number * self._interval_s for number in range(first, self._taken)]

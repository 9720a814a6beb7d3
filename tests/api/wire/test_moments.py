"""The moment of signs of life: true, and found out once a millisecond."""

from __future__ import annotations

import json

from openred_central.api.wire.moments import Moments, times_told
from openred_central.clock import Now

DAY_S = 86_400.0


def due_at(now: Now) -> float:
    return now.wall_s + 2 * DAY_S


class Loop:
    """Tells the time in milliseconds, and counts how often anybody asked the clocks."""

    def __init__(self) -> None:
        self.loop_s = 5.0
        self.asked = 0

    def now(self) -> Now:
        self.asked += 1
        return Now(100.0 + self.asked, 1_800_000_000.0 + self.asked, 7.0)

    def time_s(self) -> float:
        return self.loop_s


def test_all_of_one_millisecond_are_told_the_same_moment() -> None:
    loop = Loop()
    moments = Moments(loop.now, loop.time_s, due_at)
    first = moments.current()
    assert moments.current() is first
    assert loop.asked == 1


def test_the_next_millisecond_has_its_own() -> None:
    loop = Loop()
    moments = Moments(loop.now, loop.time_s, due_at)
    moments.current()
    loop.loop_s += 0.001
    assert moments.current().now == Now(102.0, 1_800_000_002.0, 7.0)


def test_it_tells_when_the_tolerance_ends() -> None:
    loop = Loop()
    told = Moments(loop.now, loop.time_s, due_at).current().told
    assert json.loads(f"{{{told}}}") == {
        "last_heartbeat": "2027-01-15T08:00:01.000Z",
        "next_heartbeat_due": "2027-01-17T08:00:01.000Z",
    }


def test_times_are_told_as_members_of_an_object() -> None:
    assert json.loads(f"{{{times_told(0.0, 1.5)}}}") == {
        "last_heartbeat": "1970-01-01T00:00:00.000Z",
        "next_heartbeat_due": "1970-01-01T00:00:01.500Z",
    }

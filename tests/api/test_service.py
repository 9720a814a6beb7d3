"""The current moment, the end of the tolerance, and a store that may be unavailable."""

from __future__ import annotations

import json

import pytest

from openred_central.api.service import Moments
from openred_central.clock import Now
from openred_central.errors import CallerError
from openred_central.storage.store import StoreState
from tests.support.world import DAY_S, World


def test_the_end_of_the_tolerance_is_in_wall_time() -> None:
    world = World()
    world.register()
    slot = world.directory.nodes.registry.slot_of("node-1")
    assert slot is not None
    world.clock.jump_wall(7 * DAY_S)
    now = world.now()
    assert world.directory.heartbeat_due_at(now, slot) == pytest.approx(now.wall_s + 180 * DAY_S)


def test_an_unavailable_store_is_reported_with_when_to_retry() -> None:
    world = World()
    world.api.require_store()
    world.store_state = StoreState.DETACHED
    with pytest.raises(CallerError) as raised:
        world.api.require_store()
    assert (raised.value.status, raised.value.code) == (503, "store_unavailable")
    assert ("Retry-After", "60") in raised.value.headers


def due_at(now: Now) -> float:
    return now.wall_s + 2 * DAY_S


class Loop:
    """A clock in milliseconds, which counts how often it is read."""

    def __init__(self) -> None:
        self.loop_s = 5.0
        self.reads = 0

    def now(self) -> Now:
        self.reads += 1
        return Now(100.0 + self.reads, 1_800_000_000.0 + self.reads, 7.0)

    def time_s(self) -> float:
        return self.loop_s


def test_all_heartbeats_of_a_millisecond_share_one_moment() -> None:
    loop = Loop()
    moments = Moments(loop.now, loop.time_s, due_at)
    first = moments.current()
    assert moments.current() is first
    assert loop.reads == 1


def test_the_next_millisecond_has_its_own_moment() -> None:
    loop = Loop()
    moments = Moments(loop.now, loop.time_s, due_at)
    moments.current()
    loop.loop_s += 0.001
    assert moments.current().now == Now(102.0, 1_800_000_002.0, 7.0)


def test_a_moment_has_the_end_of_the_tolerance() -> None:
    loop = Loop()
    times = Moments(loop.now, loop.time_s, due_at).current().times
    assert json.loads(f"{{{times}}}") == {
        "last_heartbeat": "2027-01-15T08:00:01.000Z",
        "next_heartbeat_due": "2027-01-17T08:00:01.000Z",
    }

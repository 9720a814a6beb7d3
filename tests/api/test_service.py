"""What the endpoints share: the advised pace, proofs, and the store that may be away."""

from __future__ import annotations

import pytest

from openred_central.directory.lifecycle import LifecycleOptions
from openred_central.errors import CallerError
from openred_central.storage.sqlite.state import StoreState

from .helpers import DAY_S, World


def advised(world: World) -> list[float]:
    return [world.api.heartbeat_advice_s() for _ in range(500)]


def test_advice_is_spread_by_a_tenth_to_either_side() -> None:
    paces = advised(World())
    assert 0.9 * DAY_S <= min(paces) < 0.92 * DAY_S
    assert 1.08 * DAY_S < max(paces) <= 1.1 * DAY_S
    assert all(isinstance(pace, int) for pace in paces)


def test_advice_follows_the_setting() -> None:
    paces = advised(World(heartbeat_advice_s=600.0))
    assert min(paces) >= 540
    assert max(paces) <= 660


@pytest.mark.parametrize("tolerance_s", [0.001, 1.0, 2.5, 30.0, 3_600.0])
def test_two_heartbeats_fit_into_the_tolerance_whatever_is_advised(tolerance_s: float) -> None:
    world = World(lifecycle=LifecycleOptions(heartbeat_tolerance_s=tolerance_s))
    assert all(0 < pace <= max(tolerance_s / 2 + 0.5, 0.001) for pace in advised(world))
    if 0.01 < tolerance_s < 10:
        assert max(advised(world)) <= tolerance_s / 2


def test_the_end_of_the_tolerance_is_told_in_wall_time() -> None:
    world = World()
    world.register()
    slot = world.directory.nodes.registry.slot_of("node-1")
    assert slot is not None
    world.clock.jump_wall(7 * DAY_S)
    now = world.now()
    assert world.directory.heartbeat_due_at(now, slot) == pytest.approx(now.wall_s + 180 * DAY_S)


def test_a_store_that_is_away_is_told_with_when_to_come_back() -> None:
    world = World()
    world.api.require_store()
    world.store_state = StoreState.DETACHED
    with pytest.raises(CallerError) as raised:
        world.api.require_store()
    assert (raised.value.status, raised.value.code) == (503, "store_unavailable")
    assert ("Retry-After", "60") in raised.value.headers

"""Whole directories through outages of their own: nobody ages, and all nodes are themselves afterwards."""

from __future__ import annotations

import random

import pytest

from openred_central.clock import AttendedTime
from openred_central.directory.lifecycle import DAY_S, State
from openred_central.simulation.process import Process
from tests.support.building import (
    HOUR_S,
    DictStore,
    expect_consistent,
    make_directory,
    record_of,
    register,
    save_all,
    state_of,
)
from tests.support.clock import VirtualClock
from tests.support.options import lifecycle_options, mass_silence_options

TICK_S = 60.0
# A life in which forty days of silence take a node to its coma.
LIFE = lifecycle_options(
    heartbeat_tolerance_s=30 * DAY_S, retry_2w_s=DAY_S, retry_2m_s=DAY_S, coma_s=20 * DAY_S
)
SLEEPERS = 20


class Outages:
    """A directory of nodes that beat daily, and of sleepers that were last heard at the beginning.

    Mass silence holds nothing here, so only the clock protects the nodes.
    """

    def __init__(self, seed: int, *, nodes: int, all_silent_s: float) -> None:
        self.chance = random.Random(seed)
        self.silence = mass_silence_options(share=1.0, all_silent_s=all_silent_s)
        self.clock = VirtualClock()
        self.store = DictStore()
        self.boot()
        self.beating = [f"n{number}" for number in range(nodes)]
        self.names = self.beating + [f"sleeper-{number}" for number in range(SLEEPERS)]
        for name in self.names:
            register(self.directory, name, self.attended.now())
        # The minute of the day at which each node beats.
        self.minutes = [self.chance.randrange(1_440) for _ in self.beating]

    def boot(self) -> None:
        self.directory = make_directory(life=LIFE, silence=self.silence)
        attended_s = self.store.restore_into(self.directory)
        self.attended = AttendedTime(self.clock, attended_s=attended_s, tick_s=TICK_S)
        self.process = Process(self.directory, self.attended, tick_s=TICK_S, commit=self.store.commit)
        # The server does so before it listens for long.
        self.process.tick()

    def run(self, days: float, *, beating: bool) -> None:
        for minute in range(int(days * 1_440)):
            self.clock.advance(TICK_S)
            if beating:
                for slot, due in enumerate(self.minutes):
                    if due == minute % 1_440:
                        self.directory.heartbeat(slot, self.attended.now())
            self.process.tick()
            if minute % 60 == 0:
                save_all(self.directory, self.store, self.attended.now())

    def crash(self, *, away_s: float) -> None:
        self.clock.advance(away_s)
        self.boot()

    def active(self) -> int:
        return sum(state_of(self.directory, name) is State.ACTIVE for name in self.names)


@pytest.mark.parametrize("nodes", [5, 600])
def test_cut_of_our_own_network_for_forty_days_moves_nobody(seed: int, nodes: int) -> None:
    world = Outages(seed, nodes=nodes, all_silent_s=HOUR_S)
    world.run(12, beating=True)
    keys = {name: record_of(world.directory, name).profile for name in world.names}
    before_s = world.attended.now().attended_s
    world.run(40, beating=False)
    aged_s = world.attended.now().attended_s - before_s
    # So long five nodes are doubted rather than their directory; six hundred for about ten usual gaps.
    assert aged_s <= (15 * DAY_S if nodes == 5 else 4 * HOUR_S)
    assert world.directory.expiry.attendance.hold is not None
    assert world.active() == len(world.names)
    world.run(1, beating=True)
    assert world.directory.expiry.attendance.hold is None
    # It goes on with the first beat.
    first_s = min(world.minutes) * TICK_S
    assert world.attended.now().attended_s > before_s + aged_s + DAY_S - first_s - HOUR_S
    assert {name: record_of(world.directory, name).profile for name in world.names} == keys
    expect_consistent(world.directory, world.attended.now())


def test_the_same_cut_moves_all_nodes_without_this_clock(seed: int) -> None:
    world = Outages(seed, nodes=30, all_silent_s=0.0)
    world.run(3, beating=True)
    world.run(40, beating=False)
    assert world.active() == 0


def test_nine_months_of_downtime_move_nobody(seed: int) -> None:
    world = Outages(seed, nodes=100, all_silent_s=HOUR_S)
    world.run(5, beating=True)
    save_all(world.directory, world.store, world.attended.now())
    world.crash(away_s=270 * DAY_S)
    world.run(2, beating=False)
    world.run(2, beating=True)
    assert world.active() == len(world.names)
    expect_consistent(world.directory, world.attended.now())


def test_restarts_during_a_cut_let_nobody_age(seed: int) -> None:
    world = Outages(seed, nodes=600, all_silent_s=HOUR_S)
    world.run(2, beating=True)
    before_s = world.attended.now().attended_s
    for _ in range(100):
        world.run(2 / 24, beating=False)
        save_all(world.directory, world.store, world.attended.now())
        world.crash(away_s=5.0)
    assert world.attended.now().attended_s - before_s <= DAY_S + 5 * TICK_S
    assert world.active() == len(world.names)

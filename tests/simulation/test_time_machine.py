"""Years under every policy, beside the naive model: whatever goes wrong, all agree to the last bit.

`OPENRED_PROFILE=soak` runs more and longer worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from openred_central.clock import Now
from openred_central.directory.consistency import check
from openred_central.directory.lifecycle import State
from openred_central.directory.octaves import seconds_of
from openred_central.directory.state.node import Transition
from openred_central.settings.config import Configuration
from openred_central.simulation.faults import Kind, schedule
from openred_central.simulation.machines import Machines
from openred_central.simulation.policies import ADAPTIVE, LIFECYCLE, POLICIES, WALL, Policy
from openred_central.simulation.population import DAY_S, YEAR_S
from openred_central.simulation.tally import Tally
from openred_central.simulation.world import SERVICE, Setting, World

from ..conftest import SOAK
from .model import Model, Said

SEEDS, NODES, YEARS = (20, 300, 10) if SOAK else (1, 30, 6)
PACE_S = 7 * DAY_S
MONTH_STEPS = 120


def setting(seed: int, *, nodes: int, years: float, faults: Sequence[Kind] = tuple(Kind)) -> Setting:
    length_s = int(years * YEAR_S)
    machines = Machines("sleepers", nodes, length_s, seed)
    return Setting(machines, schedule(set(faults), length_s, seed), Configuration(), PACE_S, seed)


def tally(of: Setting, policy: Policy) -> Tally:
    world = World(of, policy)
    for _ in world.run():
        pass
    return world.tally


class Judged(World):
    """A world with the model beside it, which hears all that the directory hears."""

    def __init__(self, of: Setting, policy: Policy) -> None:
        patience = of.settings.patience_factor_max if policy.adaptive else 1.0
        self.model = Model(of.settings.lifecycle(), 10 * of.machines.count + 1_000, of.step_s, patience)
        super().__init__(of, policy)
        directory = self.directory
        hear, heartbeat, raise_longest = directory.hear, directory.heartbeat, directory.nodes.raise_longest
        name_of = directory.nodes.registry.node_id

        def hear_both(slot: int, now: Now) -> None:
            self.model.heartbeat(name_of(slot), now)
            hear(slot, now)

        def heartbeat_both(slot: int, now: Now) -> State:
            found = self.model.heartbeat(name_of(slot), now)
            assert heartbeat(slot, now) is found
            return found

        def raise_both(slot: int, absence_s: float) -> None:
            self.model.came_back(name_of(slot), absence_s)
            raise_longest(slot, absence_s)

        directory.hear = hear_both
        directory.heartbeat = heartbeat_both  # type: ignore[method-assign]
        directory.nodes.raise_longest = raise_both  # type: ignore[method-assign]
        directory.nodes.transitions.observers.append(self.judge)

    def _register(self, name: str, number: int, region: int, now: Now, *, is_observed: bool) -> int:
        self.model.register(name, Said(f"key of {name}", (SERVICE,)), now, proved=False)
        return super()._register(name, number, region, now, is_observed=is_observed)

    def judge(self, transitions: Sequence[Transition]) -> None:
        now = self.process.attended.now()
        for transition in transitions:
            if transition.reason == "deadline":
                assert not self.model.expected, f"{self.model.expected[0]} was not announced"
                self.model.silence(transition, now)
            else:
                told = (transition.node_id, transition.from_state, transition.to_state, transition.reason)
                assert told == self.model.expected.pop(0)

    def compare(self) -> None:
        now, nodes = self.process.attended.now(), self.directory.nodes
        assert check(self.directory, now) == []
        assert len(self.directory) == len(self.model.nodes)
        for name, node in self.model.nodes.items():
            slot = nodes.registry.slot_of(name)
            assert slot is not None, f"{name} is lost"
            record = nodes.registry.record(slot)
            assert (record.state, record.since_s) == (node.state, node.since_s)
            assert (record.last_seen_s, record.last_seen_at) == (node.last_seen_s, node.last_seen_at)
            assert seconds_of(record.longest) == node.longest_s
            assert nodes.deadline_s(slot) == self.model.due_s(node)
        # While it is down, nobody looks.
        if self.directory.expiry.silence.hold is None and now.attended_s == self._attended_s:
            assert not self.model.due(now)


@pytest.mark.parametrize("name", POLICIES)
def test_real_directory_agrees_with_the_model_for_years(name: str, seed: int) -> None:
    chance = Random(f"{seed} {name}")
    for _ in range(SEEDS):
        world = Judged(setting(chance.randrange(1 << 30), nodes=NODES, years=YEARS), POLICIES[name])
        for step in world.run():
            if step % MONTH_STEPS == 0:
                world.compare()
        world.compare()
        assert world.tally.deaths, "no node lived its whole life here"


def test_jump_of_the_clock_harms_nobody_where_time_is_attended(seed: int) -> None:
    of = setting(seed, nodes=30, years=1, faults=[Kind.JUMPS])
    assert tally(of, WALL).false_comas > 0
    assert tally(of, LIFECYCLE).false_comas == 0


def test_clock_of_the_adaptive_directory_stands_while_nobody_is_heard(seed: int) -> None:
    of = setting(seed, nodes=30, years=1, faults=[Kind.UPLINK])
    without, adaptive = tally(of, LIFECYCLE), tally(of, ADAPTIVE)
    assert without.unheard_h == 0
    assert adaptive.unheard_h > 24
    assert adaptive.attended_h + adaptive.unheard_h == without.attended_h

"""Watched nodes are looked at rarely, and still no return after a silence is missed or made up."""

from __future__ import annotations

import random
from typing import NamedTuple

from openred_central.clock import Now
from openred_central.directory.lifecycle import State
from tests.api.feed.test_watching import Party
from tests.support.building import registration
from tests.support.options import lifecycle_options
from tests.support.world import World

HOUR_S = 3_600.0
TICK_S = 20.0


class Seen(NamedTuple):
    """A node at a look; it is silent after `due_s`."""

    state: int
    last_s: float
    due_s: float


class Oracle:
    """Looks at everything about every node each time."""

    def __init__(self, world: World, names: list[str]) -> None:
        self._directory = world.directory
        self._seen = {name: self._see(name, None) for name in names}

    def look(self) -> set[tuple[str, str]]:
        """Return which nodes were heard after a silence, or are gone, since the last look."""
        told = set[tuple[str, str]]()
        for name, before in self._seen.items():
            after = self._seen[name] = self._see(name, before)
            if after is None or before is None:
                if after is not before:
                    told.add((name, "heard" if after else "gone"))
            elif after.state == State.ACTIVE and (
                before.state != State.ACTIVE or after.last_s > before.due_s
            ):
                told.add((name, "heard"))
        return told

    def _see(self, name: str, before: Seen | None) -> Seen | None:
        nodes, paces = self._directory.nodes, self._directory.paces
        registry, habits = nodes.registry, nodes.habits
        slot = registry.slot_of(name)
        if slot is None:
            return None
        last_s, code = registry.last_seen_s[slot], habits.paces[slot]
        if before is not None and before.last_s == last_s:
            return before._replace(state=registry.states[slot])
        gap_s = registry.usual_gap_s[slot]
        due_s = paces.due_s(slot, last_s, code, gap_s, obeys=habits.follows(slot))
        return Seen(registry.states[slot], last_s, due_s + paces.slack_s[code])


class Crowd:
    """Nodes of every habit, some of which come, and go, and come again into the slots of others."""

    def __init__(self, world: World, names: list[str], chance: random.Random) -> None:
        self._world, self._names, self._chance = world, names, chance
        self._gaps_s = [
            chance.choice((1.0, 30.0, 100.0, 0.9 * HOUR_S, 1.2 * HOUR_S, 3 * HOUR_S)) for _ in names
        ]
        self._next_s = [chance.random() * gap_s for gap_s in self._gaps_s]

    def live(self, now: Now) -> None:
        """Let the nodes that are due give a sign of life; they may change their habit or their mind."""
        chance, directory = self._chance, self._world.directory
        for number, name in enumerate(self._names):
            if self._next_s[number] > now.monotonic_s:
                continue
            if chance.random() < 0.02:
                self._gaps_s[number] = chance.choice(self._gaps_s)
            self._next_s[number] = now.monotonic_s + self._gaps_s[number] * (0.8 + 0.4 * chance.random())
            slot = directory.nodes.registry.slot_of(name)
            if slot is None:
                directory.register(registration(name), proved=True, now=now)
            elif chance.random() < 0.005:
                directory.forget(name, now)
            else:
                directory.heartbeat(slot, now)


def test_rare_looks_tell_what_looks_at_everything_would(seed: int) -> None:
    chance = random.Random(seed)
    party = Party(lifecycle=lifecycle_options(heartbeat_tolerance_s=2 * HOUR_S))
    names = [f"node-{number}" for number in range(300)]
    crowd, watched = Crowd(party.world, names, chance), [*names[:90], "nobody"]
    watcher, oracle = party.join(*watched), Oracle(party.world, watched)
    party.take(watcher)
    kinds = set[str]()
    for _ in range(1_000):
        party.world.wait(TICK_S * (0.5 + 0.5 * chance.random()))
        crowd.live(party.world.now())
        told = {(name, kind) for name, what in party.told(watcher) for kind in what}
        assert told == oracle.look()
        kinds.update(kind for _, kind in told)
    assert kinds == {"heard", "gone"}

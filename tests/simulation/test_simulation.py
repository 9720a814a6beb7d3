"""Whole worlds, run from a seed: first with everything going wrong, then all must come to rest.

After every step a naive model is compared with the world, and every invariant is checked.
`OPENRED_PROFILE=soak` runs a hundred times as many worlds.
"""

from __future__ import annotations

import random
from dataclasses import astuple, replace

from openred_central.directory.lifecycle import DAY_S, TABLE, Event, State
from openred_central.tasks.scheduler import PENDING_MAX
from tests.support.building import HOUR_S, NEVER_HOLDS, SHORT_LIFE
from tests.support.options import lifecycle_options, mass_silence_options

from ..conftest import ENVIRONMENT
from .model import Said
from .world import YEAR_S, World, WorldOptions

HOLD_S = 30.0
HOLDS = mass_silence_options(share=0.25, nodes_min=5, hold_s_max=HOLD_S)
WORLDS = 300 if ENVIRONMENT.get("OPENRED_PROFILE") == "soak" else 3
STEPS = 250


def step(world: World) -> None:
    """Let time pass, nodes act, the scheduler tick, and perhaps something fail."""
    chance, options = world.chance, world.options
    world.pass_time(round(chance.choice((0.0, 0.25, 0.5, 1.0, 1.0, 2.0)) * options.tick_s * 8) / 8)
    if world.faults:
        fail(world)
    for name in chance.sample(world.names, options.beats):
        world.beat(name)
    for name in chance.sample(world.names, options.deeds):
        do_something(world, name)
    world.answer_probes()
    if chance.random() < 0.8:
        world.tick()
    if chance.random() < 0.5:
        fails = world.faults and (not world.store_reachable or chance.random() < 0.2)
        world.save(fails=fails, limit=chance.choice((1, 2, 3, 5, 100)))


def fail(world: World) -> None:
    chance = world.chance
    if chance.random() < 0.1:
        world.store_reachable = not world.store_reachable
    match chance.randrange(60):
        case 0:
            world.clock.jump_wall(chance.choice((2 * YEAR_S, -2 * YEAR_S, 7.5)))
        case 1:
            # Stopped, and gone on: the monotonic clock ran, nobody attended.
            world.pass_time(1_000 * world.options.tick_s)
        case 2:
            world.restart(crash=True)
        case 3 if world.store_reachable:
            world.restart(crash=False)


def do_something(world: World, name: str) -> None:
    match world.chance.randrange(10):
        case 0 | 1 | 2:
            world.register(name, world.said(name), proved=True)
        case 3:
            world.register(name, world.said(name), proved=False)
        case 4 | 5:
            world.beat_with_news(name, world.said(name))
        case 6:
            world.leave(name)
        case 7:
            world.forget(name)
        case 8:
            world.come_back(name)


def at_rest(world: World, beating: list[str]) -> bool:
    model, expiry = world.model, world.directory.expiry
    return (
        model.nodes.keys() == set(beating)
        and {node.state for node in model.nodes.values()} == {State.ACTIVE}
        and not model.graves
        and not len(expiry.waiting)
        and expiry.silence.hold is None
    )


def come_to_rest(world: World) -> None:
    """Nothing fails any more and only half of the nodes beat: they live, and the others are forgotten."""
    life, chance = world.options.life, world.chance
    world.faults, world.store_reachable = False, True
    beating = world.names[: min(len(world.names) // 2, world.options.nodes_max // 2)]
    longest_s = sum(astuple(life))
    # Nodes that were away or probed in vain take longer; a hold limits how many go on in a minute.
    longest_s += 2 * life.coma_s + world.options.patience * life.heartbeat_tolerance_s
    longest_s += 500.0 + (0.0 if world.options.silence is NEVER_HOLDS else 3 * HOUR_S)
    beat_every_s, beaten_s, rest_s = life.heartbeat_tolerance_s / 3, -1e9, 0.0
    while rest_s < longest_s and not at_rest(world, beating):
        world.pass_time(world.options.tick_s)
        rest_s += world.options.tick_s
        if rest_s - beaten_s >= beat_every_s:
            beaten_s = rest_s
            for name in beating:
                if name in world.model.nodes:
                    world.beat(name)
                elif len(world.model.nodes) < world.options.nodes_max:
                    grave = world.model.graves.get(name)
                    world.register(name, Said("key" if grave is None else grave.key), proved=True)
        world.answer_probes()
        world.tick()
        world.save(fails=False, limit=chance.choice((1, 10, 100)))
        while world.directory.saving.pending_records >= PENDING_MAX:
            world.save(fails=False, limit=100)
    world.compare()
    assert at_rest(world, beating)
    digests = list(world.directory.nodes.registry.shard_digests)
    world.restart(crash=False)
    world.compare()
    assert world.directory.nodes.registry.shard_digests == digests


def run(options: WorldOptions, seed: int, steps: int) -> World:
    world = World(options, seed)
    for _ in range(steps):
        step(world)
        world.compare()
    come_to_rest(world)
    for (state, event), following in TABLE.items():
        if event is Event.DEADLINE:
            assert (state, following, event.value) in world.seen, "no node lived its whole life here"
    return world


def seeds(seed: int, kind: str) -> list[int]:
    chance = random.Random(f"{seed} {kind}")
    return [chance.randrange(1 << 32) for _ in range(WORLDS)]


def test_short_lives_with_all_faults(seed: int) -> None:
    for one in seeds(seed, "short"):
        run(WorldOptions(SHORT_LIFE), one, STEPS)


def test_states_without_duration_are_passed_through(seed: int) -> None:
    for one in seeds(seed, "no second look"):
        run(WorldOptions(replace(SHORT_LIFE, second_look_s=0.0)), one, STEPS)


def test_short_lives_with_probing(seed: int) -> None:
    for one in seeds(seed, "probing"):
        run(WorldOptions(SHORT_LIFE, probing=True), one, STEPS)


def test_years_of_thousands_of_nodes(seed: int) -> None:
    """The default dwell times, in ticks of some days."""
    options = WorldOptions(
        lifecycle_options(),
        names=2_000,
        nodes_max=1_900,
        tick_s=4 * DAY_S,
        beats=60,
        deeds=60,
    )
    for one in seeds(seed, "years")[: max(1, WORLDS // 10)]:
        run(options, one, 150)


def test_short_lives_with_mass_silence(seed: int) -> None:
    holds = 0
    for one in seeds(seed, "mass silence"):
        for probing in (False, True):
            holds += run(WorldOptions(SHORT_LIFE, silence=HOLDS, probing=probing), one, STEPS).holds
    assert holds, "no world ever held: this tests nothing"

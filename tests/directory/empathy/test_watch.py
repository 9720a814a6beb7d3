"""The watch finds what fell silent as a whole, and nothing else."""

from __future__ import annotations

import math

import pytest

from openred_central.directory.empathy import watch
from openred_central.directory.empathy.groups import groups_of, is_public, name_of
from openred_central.directory.empathy.watch import DARK_S_MAX
from openred_central.directory.lifecycle import DAY_S
from openred_central.directory.state.habits import DAYS_KNOWN
from tests.directory.empathy.watched_world import WatchedWorld, network
from tests.support.building import HOUR_S, at

PACE_H = math.ceil(1.25 * 24)


def populated(seed: int) -> tuple[WatchedWorld, list[list[int]]]:
    """Return a world of twenty networks of a hundred nodes, and of a thousand others; and these networks."""
    world = WatchedWorld(seed)
    nodes = [
        (address, f"r{number % 3}") for number in range(20) for address in network(f"198.{number}", 100, 5)
    ]
    nodes += [(f"203.{number % 250}.{number // 250}.1", "r0") for number in range(800)]
    nodes += [(f"node-{number}.example", "") for number in range(200)]
    world.random.shuffle(nodes)
    slots = world.add_all(nodes)
    networks = [
        [
            slot
            for slot, (address, _) in zip(slots, nodes, strict=True)
            if address.startswith(f"198.{number}.")
        ]
        for number in range(20)
    ]
    return world, networks


def names(world: WatchedWorld) -> list[str]:
    return [name_of(darkness.group) for darkness in world.watch.dark]


def test_twenty_dark_networks_are_found_within_a_pace(seed: int) -> None:
    world, networks = populated(seed)
    world.run(4 * 24)
    assert world.reports == []
    for first in range(0, 20, 4):
        numbers = range(first, first + 4)
        world.cut, began = {slot for number in numbers for slot in networks[number]}, world.hours
        world.run(PACE_H + 2)
        # The smallest groups that explain it: no region, and not all.
        assert set(names(world)) == {f"198.{number}.0.0/16" for number in numbers}
        for darkness in world.watch.dark:
            assert darkness.members > 80
            assert darkness.heard < darkness.expected / 2
            assert darkness.since_at >= at((began - 24) * HOUR_S).wall_s
        world.cut = set()
        world.run(24)
        assert names(world) == []
        world.run(PACE_H)
    assert sum(is_dark for _, is_dark, _ in world.reports) == 20
    assert len(world.reports) == 40


def test_undisturbed_population_has_no_alarms(seed: int) -> None:
    world, _ = populated(seed)
    # On two days of a week a fifth less is up than is thought.
    world.run(25 * 24, others=lambda: 0.8 if world.hours // 24 % 7 in (5, 6) else 1.0)
    assert world.watch.watched > 20
    assert world.reports == []


def test_cut_of_all_is_all(seed: int) -> None:
    world, _ = populated(seed)
    world.run(4 * 24)
    world.cut = set(range(3_000))
    world.run(PACE_H)
    # Each region explains it as well.
    assert {"all"} <= set(names(world)) or {"region:r0", "region:r1", "region:r2"} <= set(names(world))
    world.cut = set()
    world.run(4)
    assert names(world) == []


def test_dark_region_of_small_networks_is_found(seed: int) -> None:
    world, _ = populated(seed)
    region = world.add((f"192.{number % 30}.{number // 30}.1" for number in range(300)), region="r9")
    world.run(4 * 24)
    world.cut = set(region)
    world.run(PACE_H)
    assert names(world) == ["region:r9"]


def test_one_fine_network_is_dark_for_operators_alone(seed: int) -> None:
    """An attacker with a /24 darkens it, and nothing else."""
    world, networks = populated(seed)
    attacker = world.add(f"198.0.77.{number}" for number in range(256))
    world.run(4 * 24)
    world.cut = set(attacker)
    world.run(3 * 24)
    assert names(world) == ["198.0.77.0/24"]
    # Honest nodes of that network are watched as before.
    world.cut |= set(networks[0])
    world.run(2 * 24)
    assert set(names(world)) == {"198.0.77.0/24", "198.0.0.0/16"}


def test_attacker_in_two_networks_of_a_coarse_one_darkens_no_more(seed: int) -> None:
    world, networks = populated(seed)
    world.cut = set(world.add(network("198.0", 256, 2)))
    attacker, world.cut = world.cut, set()
    assert not attacker & set(networks[0])
    world.run(4 * 24)
    world.cut = attacker
    world.run(4 * 24)
    assert "198.0.0.0/16" not in names(world)


def test_attacker_names_a_region_of_its_own(seed: int) -> None:
    """It is shown if the attacker has several networks. No region that others share is darkened."""
    world, _ = populated(seed)
    lone = world.add(network("192.7", 100, 5), region="mine")
    wide = world.add((f"192.{number % 9}.7.{number}" for number in range(150)), region="wide")
    joined = world.add((f"193.{number % 9}.7.{number}" for number in range(150)), region="r1")
    world.run(4 * 24)
    world.cut = {*lone, *wide, *joined}
    world.run(3 * 24)
    assert set(names(world)) - {"192.7.0.0/16"} == {"region:wide"}


def test_attacker_with_a_twentieth_of_the_nodes_darkens_nothing(seed: int) -> None:
    world, _ = populated(seed)
    attacker = world.add((f"192.{number % 75}.{number // 75}.7" for number in range(150)), region="r0")
    world.run(4 * 24)
    world.cut = set(attacker)
    world.run(3 * 24)
    assert names(world) == []


def test_nodes_that_nobody_vouches_for_are_not_watched(seed: int) -> None:
    world = WatchedWorld(seed)
    strangers = world.add(network("198.7", 200, 5), vouched=False)
    newcomers = world.add(network("198.8", 200, 5))
    for slot in newcomers:
        world.days[slot] = DAYS_KNOWN - 1
    world.run(4 * 24)
    assert world.watch.watched == 0
    world.cut = {*strangers, *newcomers}
    world.run(2 * 24)
    assert world.reports == []


def test_group_that_stays_dark_is_given_up_after_half_a_year(seed: int) -> None:
    world, networks = populated(seed)
    world.run(4 * 24)
    world.cut = set(networks[3])
    world.run(PACE_H)
    assert names(world) == ["198.3.0.0/16"]
    began_s = world.now.attended_s
    # It was found within a pace before that.
    world.watch.regroup(at(began_s + DARK_S_MAX - 2 * DAY_S))
    assert names(world) == ["198.3.0.0/16"]
    world.watch.regroup(at(began_s + DARK_S_MAX))
    assert names(world) == []


def test_attacker_in_one_small_part_darkens_no_wider_network(seed: int) -> None:
    """Its /24 is too small to be watched by itself."""
    world, _ = populated(seed)
    attacker = world.add(f"192.7.7.{number}" for number in range(39))
    world.add(f"192.7.{number}.1" for number in range(100, 108))
    spread = world.add(f"192.8.{number % 8}.{number}" for number in range(80))
    world.add(f"192.8.{number}.1" for number in range(100, 108))
    for slot in (*attacker, *spread):
        world.chances[slot] = 0.98
    world.run(4 * 24)
    world.cut = {*attacker, *spread}
    world.run(3 * 24)
    assert names(world) == ["192.8.0.0/16"]


def test_flood_of_networks_and_regions_stays_bounded(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "COUNTED_MAX", 1_000)
    monkeypatch.setattr(watch, "GROUPS_MAX", 8)
    world, networks = populated(seed)
    registry, counted = world.registry, 0
    for slot in world.add(f"{1 + n // 256}.{n % 256}.{n % 99}.1" for n in range(2_000)):
        registry.replace(registry.record(slot)._replace(region=f"region-{slot}"))
    for _ in range(3 * 24):
        world.run(1)
        counted = max(counted, len(vars(world.watch)["_counts"]))
        assert world.watch.watched <= 8
    assert counted == 1_000
    world.cut = {slot for slots in networks for slot in slots}
    world.run(PACE_H)
    # The largest groups were found nevertheless.
    assert set(names(world)) & {"all", "region:r0", "region:r1", "region:r2"}


def test_groups_have_names_and_finer_ones_are_not_public() -> None:
    named = {b"": "all", "eu": "region:eu", b"\xc6\x33": "198.51.0.0/16", b" \x01\r\xb8": "2001:db8::/32"}
    assert {group: name_of(group) for group in named} == named
    assert all(map(is_public, named))
    fine = {b"\xc6\x33\x07": "198.51.7.0/24", b" \x01\r\xb8\0\1": "2001:db8:1::/48"}
    assert {group: name_of(group) for group in fine} == fine
    assert not any(map(is_public, fine))


def test_node_counts_for_its_networks_its_region_and_all() -> None:
    world = WatchedWorld(1)
    world.add_all(
        [("198.51.7.9", "eu"), ("2001:db8:1::9", ""), ("::ffff:198.51.7.9", ""), ("a.example", "eu")]
    )
    found = [[name_of(group) for group in groups_of(world.registry, slot).groups] for slot in range(4)]
    assert found == [
        ["198.51.7.0/24", "198.51.0.0/16", "region:eu", "all"],
        ["2001:db8:1::/48", "2001:db8::/32", "all"],
        ["198.51.7.0/24", "198.51.0.0/16", "all"],
        ["region:eu", "all"],
    ]

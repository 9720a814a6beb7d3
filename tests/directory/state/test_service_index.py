"""The index of services: groups, states, and the cap on a flood of new sets."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.directory.state.registry import Registry
from openred_central.directory.state.service_index import ServiceIndex
from tests.support.building import record

NAMES = ("chat", "files", "mail", "relay")


def found(
    filled: tuple[Registry, ServiceIndex], *names: str, states: tuple[State, ...] = (State.ACTIVE,)
) -> list[int]:
    """The slots in all pools that offer `names`, sorted; a slot that is found twice shows twice."""
    registry, index = filled
    slots = []
    for pool in index.pools(frozenset(names), states):
        members = [slot for part in pool.parts for slot in part]
        assert len(members) == pool.size > 0
        offering = [slot for slot in members if set(names) <= registry.service_set(slot).names]
        assert offering == members or not pool.is_certain
        slots += offering
    return sorted(slots)


def groups_count(index: ServiceIndex) -> int:
    return sum(pool.region is not None for pool in index.pools(frozenset(), LIVE_STATES))


def filled(services: list[str], *, groups_max: int = 100) -> tuple[Registry, ServiceIndex]:
    registry = Registry(4)
    index = ServiceIndex(registry, groups_max=groups_max)
    for slot, names in enumerate(services):
        registry.insert(record(slot, f"n{slot}", services=names, region="eu" if slot % 2 else ""))
        index.add(slot)
    return registry, index


@pytest.mark.parametrize("groups_max", [0, 1, 100])
def test_a_query_finds_exactly_the_nodes_that_offer_all(groups_max: int) -> None:
    nodes = filled(["chat", "chat,mail", "mail", "chat,files,mail", ""], groups_max=groups_max)
    assert found(nodes, "chat") == [0, 1, 3]
    assert found(nodes, "chat", "mail") == [1, 3]
    assert found(nodes, "chat", "files", "mail") == [3]
    assert found(nodes) == [0, 1, 2, 3, 4]
    assert found(nodes, "relay") == []
    assert found(nodes, "chat", states=(State.COMA,)) == []


def test_nodes_of_one_set_and_region_are_one_group() -> None:
    _, index = filled(["chat,mail"] * 10)
    assert [pool.region for pool in index.pools(frozenset(), LIVE_STATES)] == ["", "eu"]


def test_a_flood_of_sets_makes_few_groups_and_is_found() -> None:
    flood = [f"s{number}" for number in range(500)]
    nodes = filled(["chat", *(f"chat,{name}" for name in flood)], groups_max=10)
    assert (groups_count(nodes[1]), nodes[1].ungrouped_count) == (10, 491)
    assert found(nodes, "chat") == list(range(501))
    assert all(found(nodes, "chat", name) == [number + 1] for number, name in enumerate(flood))


def test_when_the_flood_is_over_groups_are_made_again() -> None:
    registry, index = filled(["a", "b", "c"], groups_max=2)
    assert index.ungrouped_count == 1
    index.remove(0)
    registry.insert(record(3, "n3", services="c"))
    index.add(3)
    assert (groups_count(index), index.ungrouped_count) == (2, 1)
    assert found((registry, index), "c") == [2, 3]


@pytest.mark.parametrize("groups_max", [0, 5, 100])
def test_the_index_holds_what_a_plain_dictionary_would(groups_max: int, seed: int) -> None:
    chance = random.Random(seed)
    registry = Registry(4)
    index = ServiceIndex(registry, groups_max=groups_max)
    plain: dict[int, tuple[frozenset[str], State]] = {}
    for _ in range(1_500):
        slot = chance.choice(list(plain)) if plain and chance.random() < 0.7 else None
        match chance.randrange(4):
            case 0 if slot is not None:
                index.remove(slot)
                registry.remove(slot)
                del plain[slot]
            case 1 | 2 if slot is not None:
                state = chance.choice(LIVE_STATES)
                names, before = plain[slot]
                index.move(slot, before, state)
                registry.set_state(slot, state, 0.0, "")
                plain[slot] = (names, state)
            case _ if slot is None:
                slot = registry.next_slot()
                services = sorted(chance.sample(NAMES, chance.randrange(4)))
                registry.insert(record(slot, f"n{slot}", services=",".join(services)))
                index.add(slot)
                plain[slot] = (frozenset(services), State.ACTIVE)
        wanted = frozenset(chance.sample(NAMES, chance.randrange(3)))
        states = tuple(chance.sample(LIVE_STATES, 2))
        expected = sorted(
            slot for slot, (names, state) in plain.items() if wanted <= names and state in states
        )
        assert found((registry, index), *wanted, states=states) == expected
        if chance.random() < 0.05:
            assert Counter(index.members()) == Counter((slot, state) for slot, (_, state) in plain.items())
    for slot in plain:
        index.remove(slot)
    assert (len(index), index.ungrouped_count, list(index.pools(frozenset(), LIVE_STATES))) == (0, 0, [])


@pytest.mark.parametrize("groups_max", [0, 2, 100])
def test_many_added_at_once_are_found_like_one_by_one(groups_max: int, seed: int) -> None:
    chance = random.Random(seed)
    registry = Registry(4)
    single, together = (ServiceIndex(registry, groups_max=groups_max) for _ in range(2))
    for slot in range(60):
        services = ",".join(sorted(chance.sample(NAMES, chance.randrange(3))))
        registry.insert(record(slot, f"n{slot}", services=services, state=chance.choice(LIVE_STATES)))
    slots = sorted(chance.sample(range(60), 50))
    for slot in slots:
        single.add(slot)
    together.add_all(slots[:20])
    together.add_all(slots[20:])
    together.add_all([])
    assert Counter(together.members()) == Counter(single.members())
    assert (len(together), together.ungrouped_count) == (50, single.ungrouped_count)
    for name in NAMES:
        expected = found((registry, single), name, states=LIVE_STATES)
        assert found((registry, together), name, states=LIVE_STATES) == expected
    # Each knows its place.
    for slot in slots:
        together.remove(slot)
    assert len(together) == len(list(together.members())) == 0


@pytest.mark.parametrize("groups_max", [0, 2, 100])
def test_many_moved_at_once_are_found_like_one_by_one(groups_max: int, seed: int) -> None:
    chance = random.Random(seed)
    services = [",".join(sorted(chance.sample(NAMES, chance.randrange(3)))) for _ in range(120)]
    _, together = filled(services, groups_max=groups_max)
    _, single = filled(services, groups_max=groups_max)
    moving = chance.sample(range(120), 70)
    for from_state, to_state in ((State.ACTIVE, State.COMA), (State.COMA, State.RETRY_2W)):
        together.move_all(moving, from_state, to_state)
        for slot in moving:
            single.move(slot, from_state, to_state)
        assert sorted(together.members()) == sorted(single.members())
        moving = moving[::2]
    # The places of the members are right: each move takes out the right slot.
    for slot in moving:
        together.move(slot, State.RETRY_2W, State.ACTIVE)
        single.move(slot, State.RETRY_2W, State.ACTIVE)
    assert sorted(together.members()) == sorted(single.members())

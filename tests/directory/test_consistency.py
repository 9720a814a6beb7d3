"""The check finds every kind of damage: each test breaks one invariant by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openred_central.directory.consistency import check, check_restored
from openred_central.directory.directory import Directory
from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import Tombstone, hash_id
from openred_central.directory.state.registry import shard_of
from tests.support.building import SHORT_LIFE, DictStore, at, make_directory, register, restarted, save_all

NOW = at(5.0)


def healthy() -> Directory:
    """Three nodes in slots 0 to 2; b has left, c is hidden."""
    directory = make_directory(life=SHORT_LIFE)
    for name in ("a", "b", "c"):
        register(directory, name, at(0.0), services="chat", discoverable=name != "c")
    directory.leave("b", at(1.0))
    return directory


def test_a_directory_that_was_only_used_is_consistent() -> None:
    directory = healthy()
    assert check(directory, NOW) == []


def wrong_name(directory: Directory) -> None:
    vars(directory.nodes.registry)["texts"][0] = b"z\0\0\0\0{}"


def leads_to_a_free_slot(directory: Directory) -> None:
    vars(directory.nodes.registry)["texts"][0] = b""


def wrong_shard(directory: Directory) -> None:
    registry = directory.nodes.registry
    shard = shard_of("a", registry.shards_count)
    vars(registry)["_shards"][(shard + 1) % registry.shards_count]["a"] = vars(registry)["_shards"][
        shard
    ].pop("a")


def dead_in_the_registry(directory: Directory) -> None:
    directory.nodes.registry.states[0] = State.DEAD


def seen_in_the_future(directory: Directory) -> None:
    directory.nodes.registry.last_seen_s[0] = NOW.attended_s + 1.0


def alive_and_dead(directory: Directory) -> None:
    directory.nodes.tombstones.put_up(Tombstone(hash_id("a"), "fingerprint", 0.0, 0.0, "deadline", 1), 0.0)


def changed_behind_the_digest(directory: Directory) -> None:
    directory.nodes.registry.registered_at[0] += 1.0


def no_deadline(directory: Directory) -> None:
    directory.nodes.deadlines.disarm(0)


def deadline_too_late(directory: Directory) -> None:
    directory.nodes.deadlines.disarm(0)
    directory.nodes.deadlines.arm(0, directory.nodes.deadline_s(0) + 1.0)


def deadline_lost_from_the_heap(directory: Directory) -> None:
    vars(directory.nodes.deadlines)["_heap"].pop()


def waits_and_is_armed(directory: Directory) -> None:
    directory.expiry.waiting.add(0)


def set_aside_and_armed(directory: Directory) -> None:
    directory.expiry.set_aside[0] = "failed"


def deadline_of_a_free_slot(directory: Directory) -> None:
    directory.nodes.deadlines.arm(9, 1.0)


def state_counted_wrongly(directory: Directory) -> None:
    directory.nodes.registry.state_counts[State.ACTIVE] += 1


def two_states_counted_wrongly(directory: Directory) -> None:
    directory.nodes.registry.state_counts[State.ACTIVE] += 1
    directory.nodes.registry.state_counts[State.COMA] -= 1


def in_no_shard(directory: Directory) -> None:
    registry = directory.nodes.registry
    del vars(registry)["_shards"][shard_of("a", registry.shards_count)]["a"]


def not_indexed(directory: Directory) -> None:
    directory.nodes.index.remove(0)


def indexed_though_it_left(directory: Directory) -> None:
    directory.nodes.index.add(1)


def indexed_twice(directory: Directory) -> None:
    directory.nodes.index.add(0)


def indexed_in_another_state(directory: Directory) -> None:
    directory.nodes.index.move(0, State.ACTIVE, State.RETRY_2W)


def bytes_counted_wrongly(directory: Directory) -> None:
    vars(directory.nodes.registry)["_text_bytes"] += 1


def bytes_of_sets_counted_wrongly(directory: Directory) -> None:
    directory.nodes.registry.sets.bytes_held = 0


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (wrong_name, "'a' leads to slot 0, which holds 'z'"),
        (leads_to_a_free_slot, "'a' leads to slot 0, which holds None"),
        (wrong_shard, "'a' lies in shard"),
        (dead_in_the_registry, "'a' is registered in state DEAD"),
        (seen_in_the_future, "'a' was last seen 1.000 s from now"),
        (alive_and_dead, "'a' is registered and has a tombstone"),
        (changed_behind_the_digest, "the digest of shard"),
        (no_deadline, "'a' has no deadline"),
        (deadline_too_late, "'a' is looked at 1.000 s after its deadline"),
        (deadline_lost_from_the_heap, "2 deadlines are live, 3 are counted"),
        (waits_and_is_armed, "'a' waits and has a deadline as well"),
        (set_aside_and_armed, "'a' waits and has a deadline as well"),
        (deadline_of_a_free_slot, "the free slot 9 has a deadline"),
        (state_counted_wrongly, "the counts per state sum to 4, 3 are registered"),
        (two_states_counted_wrongly, "2 nodes are ACTIVE, 3 are counted"),
        (in_no_shard, "the shards hold 2 nodes, 3 are registered"),
        (bytes_counted_wrongly, "the records of all nodes take"),
        (bytes_of_sets_counted_wrongly, "the records of all nodes take"),
        (not_indexed, "the service index and the discoverable nodes differ in 1 places"),
        (indexed_though_it_left, "the service index and the discoverable nodes differ in 1 places"),
        (indexed_twice, "the service index holds a node twice"),
        (indexed_in_another_state, "the service index and the discoverable nodes differ in 2 places"),
    ],
)
def test_damage_is_found_and_named(damage: Callable[[Directory], None], found: str) -> None:
    directory = healthy()
    damage(directory)
    problems = check(directory, NOW)
    assert any(found in problem for problem in problems), problems


def test_a_restored_directory_is_consistent() -> None:
    store = DictStore()
    save_all(healthy(), store, NOW)
    directory = restarted(store, life=SHORT_LIFE)
    assert check_restored(directory, NOW) == check(directory, NOW) == []
    assert check_restored(make_directory(), at(0.0)) == []


@pytest.mark.parametrize(
    "damage",
    [
        *(dead_in_the_registry, seen_in_the_future, alive_and_dead, no_deadline, deadline_of_a_free_slot),
        *(state_counted_wrongly, in_no_shard, not_indexed, indexed_though_it_left, indexed_twice),
    ],
)
def test_both_checks_find_what_a_store_can_break(damage: Callable[[Directory], None]) -> None:
    directory = healthy()
    damage(directory)
    assert check_restored(directory, NOW) == check(directory, NOW) != []

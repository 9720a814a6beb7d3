"""All parts of the directory change in step."""

from __future__ import annotations

import random

import pytest

from openred_central.directory.lifecycle import (
    DEADLINE_STEPS_PER_S,
    LIVE_STATES,
    Event,
    State,
)
from openred_central.directory.nodes import Transitions
from openred_central.directory.octaves import seconds_of
from openred_central.directory.state.node import HELD, LEFT, Transition, decode_history, hash_id
from openred_central.errors import InternalBug
from tests.support.building import (
    EPOCH_S,
    DictStore,
    at,
    beat,
    expect_consistent,
    make_directory,
    record,
    record_of,
    register,
    restarted,
    save_all,
    state_of,
)
from tests.support.options import lifecycle_options


def test_a_new_node_is_indexed_armed_noted_and_announced() -> None:
    directory = make_directory()
    nodes = directory.nodes
    slot = register(directory, "a", at(5.0), services="chat")
    assert list(nodes.index.members()) == [(slot, State.ACTIVE)]
    assert nodes.deadlines.armed_s(slot) == nodes.deadline_s(slot)
    assert nodes.changes.is_noted(slot)
    assert nodes.transitions.take() == [
        Transition(EPOCH_S + 5.0, 5.0, "a", State.ABSENT, State.ACTIVE, "registered")
    ]


def test_the_longest_absence_only_grows() -> None:
    directory, store = make_directory(), DictStore()
    nodes = directory.nodes
    slot = register(directory, "a", at(0.0))
    save_all(directory, store, at(1.0))
    revision = record_of(directory, "a").revision
    nodes.raise_longest(slot, 86_400.0)
    raised = record_of(directory, "a")
    assert seconds_of(raised.longest) >= 86_400.0
    assert raised.revision == nodes.revision == revision + 1
    nodes.raise_longest(slot, 3_600.0)
    nodes.raise_longest(slot, 86_400.0)
    assert record_of(directory, "a") == raised
    save_all(directory, store, at(2.0))
    assert record_of(restarted(store), "a") == raised
    expect_consistent(directory, at(2.0))
    directory.forget("a", at(3.0))
    assert nodes.registry.longest[slot] == 0


def test_every_transition_is_counted_even_if_not_reported() -> None:
    directory = make_directory()
    nodes = directory.nodes
    nodes.transitions = Transitions(kept_max=20)
    register(directory, "a", at(0.0))
    for second in range(30):
        directory.leave("a", at(float(second)))
        beat(directory, "a", at(float(second)))
    assert [transition.at_s for transition in nodes.transitions.take()] == [
        half // 2 for half in range(40, 60)
    ]
    assert nodes.transitions.counts == {
        (State.ABSENT, State.ACTIVE, "registered"): 1,
        (State.ACTIVE, State.COMA, "left"): 30,
        (State.COMA, State.ACTIVE, "sign_of_life"): 30,
    }


def test_the_last_sixteen_transitions_stand_in_the_record() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    for second in range(10):
        directory.leave("a", at(float(second)))
        beat(directory, "a", at(second + 0.5))
    entries = decode_history(record_of(directory, "a").history)
    assert [entry.at - EPOCH_S for entry in entries] == [half / 2 for half in range(4, 20)]
    assert {entry.reason for entry in entries} == {"left", "sign_of_life"}


def test_an_event_that_changes_no_state_is_no_transition() -> None:
    directory = make_directory()
    slot = register(directory, "a", at(0.0))
    directory.nodes.transitions.take()
    assert directory.nodes.enter(slot, Event.SIGN_OF_LIFE, at=1.0, at_s=1.0) is State.ACTIVE
    assert not directory.nodes.transitions.take()


def test_a_hidden_node_is_not_indexed() -> None:
    directory = make_directory()
    slot = register(directory, "a", at(0.0), discoverable=False)
    assert list(directory.nodes.index.members()) == []
    register(directory, "a", at(1.0), discoverable=True)
    assert list(directory.nodes.index.members()) == [(slot, State.ACTIVE)]
    directory.leave("a", at(2.0))
    assert directory.nodes.registry.flags[slot] & LEFT
    assert list(directory.nodes.index.members()) == []
    expect_consistent(directory, at(2.0))


def test_every_rewrite_has_a_revision_of_its_own() -> None:
    directory = make_directory()
    revisions = []
    for region in ("", "eu", "us"):
        register(directory, "a", at(0.0), region=region)
        revisions.append(record_of(directory, "a").revision)
    assert revisions == sorted(set(revisions))


def test_a_buried_node_leaves_a_tombstone_and_nothing_else() -> None:
    directory = make_directory()
    slot = register(directory, "a", at(0.0), services="chat")
    change = directory.nodes.bury(slot, Event.FORGOTTEN, at=7.0, at_s=5.0)
    nodes = directory.nodes
    assert change == nodes.changes.last
    assert (len(nodes.registry), len(nodes.deadlines), list(nodes.index.members())) == (0, 0, [])
    (tombstone,) = nodes.tombstones
    assert (tombstone.id_hash, tombstone.died_at, tombstone.died_s) == (hash_id("a"), 7.0, 5.0)
    assert tombstone.reason == "forgotten"
    assert "key" not in tombstone.key_fingerprint
    assert state_of(directory, "a") is State.DEAD
    with pytest.raises(InternalBug):
        nodes.bury(slot, Event.FORGOTTEN, at=7.0, at_s=5.0)


def test_the_end_of_a_tombstone_is_reported_by_its_hash() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    directory.forget("a", at(0.0))
    directory.nodes.transitions.take()
    tombstone = directory.nodes.tombstones.lift(hash_id("a"))
    assert tombstone is not None
    directory.nodes.end_tombstone(tombstone, at=9.0, at_s=8.0)
    assert directory.nodes.transitions.take() == [
        Transition(9.0, 8.0, f"#{hash_id('a')}", State.DEAD, State.ABSENT, "deadline")
    ]


def test_the_deadlines_of_many_are_those_of_each(seed: int) -> None:
    chance = random.Random(seed)
    life = lifecycle_options(second_look_s=0.0, grace_s=7.001)
    directory = make_directory(life=life)
    nodes = directory.nodes
    for slot in range(300):
        times = {name: chance.uniform(0.0, 1e8) for name in ("last_seen_s", "since_s")}
        away_until_s = chance.choice((0.0, 0.0, chance.uniform(0.0, 2e8)))
        state, flags = chance.choice(LIVE_STATES), chance.choice((1, 1, 1, 1 | HELD))
        nodes.registry.insert(
            record(slot, f"n{slot}", state=state, flags=flags, away_until_s=away_until_s, **times)
        )
    slots = chance.sample(range(300), 200)
    assert [steps / DEADLINE_STEPS_PER_S for steps in nodes.deadline_steps(slots)] == [
        nodes.deadline_s(slot) for slot in slots
    ]

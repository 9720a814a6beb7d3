"""A process that knows more than a database that went back can name what was lost."""

from __future__ import annotations

import copy
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.directory import Directory
from openred_central.directory.losing import Loss, Lost, lost_changes
from openred_central.directory.state.node import hash_id
from tests.support.building import DictStore, at, beat, make_directory, register, restarted, save_all

NAMES = [f"node-{number}" for number in range(6)]


def change(directory: Directory, random: Random, seconds: float) -> None:
    """Let one node register or register anew, send a heartbeat, leave, or be forgotten."""
    name, now = random.choice(NAMES), at(seconds)
    known = directory.nodes.registry.slot_of(name) is not None
    if not known or random.random() < 0.3:
        register(directory, name, now, metadata={"n": random.randrange(60_000)})
    else:
        random.choice((beat, Directory.leave, Directory.forget))(directory, name, now)


def expected(former: DictStore, present: DictStore) -> set[Lost]:
    """Return what `present` lacks of `former`, by their rows."""
    had = {record.node_id: record for record in former.records.values()}
    has = {record.node_id: record for record in present.records.values()}
    lost = {Lost(name, Loss.GONE) for name in had.keys() - has.keys()}
    lost |= {Lost(name, Loss.BACK) for name in has.keys() - had.keys()}
    both = had.keys() & has.keys()
    return lost | {Lost(name, Loss.OLDER) for name in both if has[name].revision != had[name].revision}


@given(st.randoms(use_true_random=False), st.integers(0, 20), st.integers(0, 20), st.integers(0, 10))
def test_what_an_earlier_database_lacks_is_named(random: Random, kept: int, lost: int, unsaved: int) -> None:
    directory, store = make_directory(), DictStore()
    for step in range(kept):
        change(directory, random, float(step))
    save_all(directory, store, at(float(kept)))
    earlier = copy.deepcopy(store)
    for step in range(kept, kept + lost):
        change(directory, random, float(step))
    save_all(directory, store, at(float(kept + lost)))
    assert set(lost_changes(directory.nodes, restarted(earlier).nodes)) == expected(store, earlier)
    # Changes that were not saved were not acknowledged: of those nodes nothing is said.
    for step in range(kept + lost, kept + lost + unsaved):
        change(directory, random, float(step))
    assert set(lost_changes(directory.nodes, restarted(earlier).nodes)) <= expected(store, earlier)


@given(st.randoms(use_true_random=False), st.integers(0, 20), st.integers(0, 20))
def test_nothing_is_lost_in_a_database_that_went_on(random: Random, kept: int, more: int) -> None:
    directory, store = make_directory(), DictStore()
    for step in range(kept):
        change(directory, random, float(step))
    save_all(directory, store, at(float(kept)))
    former = restarted(store)
    for step in range(kept, kept + more):
        change(directory, random, float(step))
    save_all(directory, store, at(float(kept + more)))
    assert list(lost_changes(former.nodes, restarted(store).nodes)) == []


def test_a_departure_that_is_lost_is_named() -> None:
    directory, store = make_directory(), DictStore()
    register(directory, "node", at(0.0))
    save_all(directory, store, at(0.0))
    earlier = copy.deepcopy(store)
    directory.forget("node", at(1.0))
    assert list(lost_changes(directory.nodes, restarted(earlier).nodes)) == []
    save_all(directory, store, at(1.0))
    assert directory.nodes.tombstones.get(hash_id("node")) is not None
    assert list(lost_changes(directory.nodes, restarted(earlier).nodes)) == [Lost("node", Loss.BACK)]

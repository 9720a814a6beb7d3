"""A leader writes again what its database has lost, and the database is as if nothing had happened."""

from __future__ import annotations

import copy
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.directory.repairing import Repair
from tests.support.building import DictStore, beat, make_directory, register

NAMES = [f"node-{number}" for number in range(8)]


def now(seconds: float) -> Now:
    return Now(seconds, 1_700_000_000.0 + seconds, seconds)


def change(directory: Directory, random: Random, seconds: float) -> None:
    """Let one node register, send a heartbeat, leave, or be forgotten."""
    name = random.choice(NAMES)
    known = directory.nodes.registry.slot_of(name) is not None
    if not known:
        register(directory, name, now(seconds))
    else:
        random.choice((beat, Directory.leave, Directory.forget))(directory, name, now(seconds))


def commit(directory: Directory, store: DictStore, seconds: float) -> None:
    while (batch := directory.saving.take_changes(3, now(seconds), closing=True)) is not None:
        store.commit(batch)
        if not directory.saving.pending:
            break


def repaired(directory: Directory, store: DictStore, rows_max: int) -> int:
    repair = Repair(directory.nodes)
    for records in store.load_records(rows_max):
        repair.compare_records(records)
    for tombstones in store.load_tombstones(rows_max):
        repair.compare_tombstones(tombstones)
    return repair.note()


@given(st.randoms(use_true_random=False), st.integers(0, 30), st.integers(0, 30), st.integers(1, 5))
def test_a_store_that_went_back_is_as_before(random: Random, kept: int, lost: int, rows_max: int) -> None:
    directory, store = make_directory(), DictStore()
    for step in range(kept):
        change(directory, random, float(step))
        commit(directory, store, float(step))
    earlier = copy.deepcopy(store)
    for step in range(kept, kept + lost):
        change(directory, random, float(step))
        commit(directory, store, float(step))
    repaired(directory, earlier, rows_max)
    commit(directory, earlier, float(kept + lost))
    commit(directory, store, float(kept + lost))
    assert (earlier.records, earlier.tombstones) == (store.records, store.tombstones)


def test_a_store_that_lost_nothing_gets_no_rows() -> None:
    directory, store = make_directory(), DictStore()
    register(directory, "a", now(1.0))
    register(directory, "b", now(1.0))
    directory.forget("b", now(2.0))
    commit(directory, store, 2.0)
    beat(directory, "a", now(3.0))
    assert repaired(directory, store, 10) == 0

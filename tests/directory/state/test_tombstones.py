"""Tombstones: how long they stand, and which make room."""

from __future__ import annotations

import gc
import sys
from types import FrameType

from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.state.node import Tombstone, hash_id
from openred_central.directory.state.tombstones import GRANTED_S_MAX, VOID_MAX, Tombstones, _Kind
from openred_central.security.refusals import LIFETIME_S_MAX
from tests.support.building import reachable


def tombstone(node_id: str, died_s: float, reason: str = "deadline") -> Tombstone:
    return Tombstone(hash_id(node_id), "fingerprint", 0.0, died_s, reason, 1)


def test_a_tombstone_stands_for_its_time_and_not_longer() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=10)
    one = tombstone("a", 5.0)
    assert tombstones.put_up(one, one.died_s) == []
    assert tombstones.of_node("a") == one == tombstones.get(hash_id("a"))
    assert tombstones.of_node("b") is None
    assert tombstones.next_s() == tombstones.ends_s(one) == 105.0
    assert tombstones.pop_expired(104.9) is None
    assert tombstones.pop_expired(105.0) == one
    assert (len(tombstones), tombstones.of_node("a"), tombstones.next_s()) == (0, None, None)
    assert tombstones.pop_expired(1_000.0) is None


def test_a_second_death_renews_the_tombstone() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=10)
    for one in (tombstone("a", 1.0), tombstone("b", 2.0), tombstone("a", 3.0)):
        tombstones.put_up(one, one.died_s)
    assert [one.died_s for one in tombstones] == [2.0, 3.0]


def test_beyond_the_most_the_oldest_makes_room() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=2)
    tombstones.put_up(tombstone("a", 1.0), 1.0)
    tombstones.put_up(tombstone("b", 2.0), 2.0)
    assert tombstones.put_up(tombstone("c", 3.0), 3.0) == [tombstone("a", 1.0)]
    assert len(tombstones) == 2


def test_the_forgotten_crowd_out_only_the_forgotten() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=2)
    silent = [tombstone("a", 1.0), tombstone("b", 2.0)]
    forgotten = [tombstone(f"f{number}", 3.0 + number, "forgotten") for number in range(5)]
    for one in silent:
        tombstones.put_up(one, one.died_s)
    crowded_out = [gone for one in forgotten for gone in tombstones.put_up(one, one.died_s)]
    assert crowded_out == forgotten[:3]
    assert list(tombstones) == [*silent, *forgotten[3:]]
    assert tombstones.of_node("f4") == forgotten[4]


def test_tombstones_of_both_kinds_expire_in_order() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=5)
    order = [tombstone("a", 1.0, "forgotten"), tombstone("b", 2.0), tombstone("c", 3.0, "forgotten")]
    for one in (order[0], order[2], order[1]):
        tombstones.put_up(one, one.died_s)
    assert [tombstones.pop_expired(200.0) for _ in range(4)] == [*order, None]


def test_a_node_has_one_tombstone_of_either_kind() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=5)
    for reason in ("deadline", "forgotten", "deadline"):
        tombstones.put_up(tombstone("a", 1.0, reason), 1.0)
        assert [one.reason for one in tombstones] == [reason]


def test_a_lifted_tombstone_is_gone() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=2)
    tombstones.put_up(tombstone("a", 1.0), 1.0)
    assert tombstones.lift(hash_id("a")) == tombstone("a", 1.0)
    assert tombstones.lift(hash_id("a")) is None


def test_a_tombstone_of_any_of_many_names_is_found() -> None:
    """Hashes hold all characters of base64url, of which two are others in base64."""
    names = [f"node-{number}" for number in range(200)]
    assert set("-_") <= set("".join(map(hash_id, names)))
    assert not Tombstones(tombstone_s=100.0, count_max=10).name_any(names)
    for name in names:
        tombstones = Tombstones(tombstone_s=100.0, count_max=10)
        tombstones.put_up(tombstone(name, 1.0, "deadline" if len(name) % 2 else "forgotten"), 1.0)
        assert tombstones.name_any(names)
        assert not tombstones.name_any(other for other in names if other != name)


def test_a_name_is_remembered_while_its_tokens_may_be_valid() -> None:
    assert GRANTED_S_MAX >= LIFETIME_S_MAX
    tombstones = Tombstones(tombstone_s=100.0, count_max=10)
    assert not tombstones.may_have_grants(hash_id("a"), 0.0)
    tombstones.put_up(tombstone("a", 5.0), 5.0)
    assert tombstones.may_have_grants(hash_id("a"), 6.0)
    assert not tombstones.may_have_grants(hash_id("b"), 6.0)
    assert tombstones.pop_expired(107.0) is not None
    assert tombstones.may_have_grants(hash_id("a"), 107.0 + GRANTED_S_MAX - 0.1)
    assert not tombstones.may_have_grants(hash_id("a"), 107.0 + GRANTED_S_MAX)


def test_a_crowded_out_tombstone_is_remembered() -> None:
    tombstones = Tombstones(tombstone_s=100_000.0, count_max=1)
    tombstones.put_up(tombstone("a", 5.0), 5_000.0)
    assert tombstones.put_up(tombstone("b", 6.0), 6_000.0)
    assert tombstones.may_have_grants(hash_id("a"), 6_000.0 + GRANTED_S_MAX - 0.1)
    assert not tombstones.may_have_grants(hash_id("a"), 6_000.0 + GRANTED_S_MAX)


def test_name_that_dies_again_and_again_takes_no_memory() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=5)
    first = tombstone("first", 0.0)
    tombstones.put_up(first, 0.0)
    for number in range(3 * VOID_MAX):
        tombstones.put_up(tombstone("a", 1.0 + number / VOID_MAX), 1.0)
    assert len(reachable(tombstones)) < 2 * VOID_MAX + 500
    assert [one.id_hash for one in tombstones] == [first.id_hash, hash_id("a")]
    assert tombstones.pop_expired(100.0) == first


def test_many_that_return_are_removed_a_few_at_a_time() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=100_000)
    ids = [f"n{number}" for number in range(5 * VOID_MAX)]
    for node_id in ids:
        tombstones.put_up(tombstone(node_id, 1.0), 1.0)
    looked_at_max = 0
    for node_id in reversed(ids[1:]):
        looked_at = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal looked_at
            looked_at += event == "call"

        sys.setprofile(count)
        try:
            assert tombstones.lift(hash_id(node_id)) is not None
        finally:
            sys.setprofile(None)
        looked_at_max = max(looked_at_max, looked_at)
    assert looked_at_max < 50
    assert [one.id_hash for one in tombstones] == [hash_id("n0")]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.integers(0, 3)), max_size=60))
def test_order_survives_every_sweep(steps: list[tuple[str, bool, int]]) -> None:
    kind, model = _Kind(), dict[str, Tombstone]()
    for number, (name, is_put, sweeps) in enumerate(steps):
        one = tombstone(name, float(number))
        assert kind.pop(one.id_hash) == model.pop(one.id_hash, None)
        if is_put:
            kind.put(one)
            model[one.id_hash] = one
        for _ in range(sweeps):
            kind.sweep_some()
        assert (list(kind), len(kind)) == (list(model.values()), len(model))
        assert kind.first() == next(iter(model.values()), None)


def test_tombstones_leave_nothing_to_the_garbage_collector() -> None:
    tombstones = Tombstones(tombstone_s=100.0, count_max=2_000)
    for number in range(2_000):
        tombstones.put_up(tombstone(f"n{number}", 1.0), 1.0)
    gc.collect()
    tracked = [each for each in reachable(tombstones) if gc.is_tracked(each)]
    assert sum(len(each) for each in tracked if isinstance(each, dict)) < 100
    assert len(tracked) < 100

"""Notes of changes to store: none is lost, none is split, and none is acknowledged early."""

from __future__ import annotations

import gc
import random
from itertools import pairwise

import pytest

from openred_central.directory.state.changes import RUN_KEYS, PendingChanges
from openred_central.directory.state.pages import PAGE_SLOTS
from tests.support.building import reachable


def test_changes_of_one_node_keep_the_place_of_the_first() -> None:
    changes = PendingChanges()
    assert [changes.note(1), changes.note(2), changes.note(1)] == [1, 2, 3]
    assert len(changes) == 2
    assert changes.take(10) == [1, 2]
    assert (len(changes), changes.covered(), changes.last) == (0, 3, 3)


def test_a_change_is_covered_once_all_up_to_it_are_taken() -> None:
    changes = PendingChanges()
    for slot in (1, 2, 3):
        changes.note(slot)
    assert changes.covered() == 0
    assert changes.take(2) == [1, 2]
    assert changes.covered() == 2
    # Slot 3 changes again: the older change is what still waits.
    assert changes.note(3) == 4
    assert changes.covered() == 2
    changes.take(2)
    assert changes.covered() == 4


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_tombstone_and_its_record_are_taken_together(limit: int) -> None:
    changes = PendingChanges()
    changes.note(1)
    changes.note(2)
    changes.note_together("hash", 2)
    changes.note(3)
    batches = []
    while keys := changes.take(limit):
        batches.append(set(keys))
    assert sum(map(len, batches)) == 4
    assert any({"hash", 2} <= batch for batch in batches)


def test_a_name_that_moves_takes_its_old_slot_along() -> None:
    """Otherwise a store would hold the node in two slots, or in none, between two batches."""
    changes = PendingChanges()
    changes.note_together("a", 1)
    changes.note(1)
    changes.note_together("a", 2)
    changes.note_together("c", 1)
    assert set(changes.take(1)) == {"a", 1, 2, "c"}


def test_unsaved_changes_come_first_and_cover_nothing() -> None:
    changes = PendingChanges()
    changes.note(1)
    changes.note_together("a", 2)
    taken = changes.take(3)
    changes.note(3)
    changes.put_back(taken)
    assert changes.covered() < 1
    assert set(changes.take(3)) == {1, "a", 2}
    assert changes.covered() == 3
    assert changes.take(3) == [3]


def test_an_unsaved_batch_stays_together() -> None:
    changes = PendingChanges()
    changes.note_together("a", 1)
    taken = changes.take(2)
    changes.note_together("a", 2)
    changes.put_back(taken)
    assert set(changes.take(1)) == {"a", 1, 2}


def test_a_page_is_settled_once_no_record_on_it_is_pending() -> None:
    changes = PendingChanges()
    assert changes.are_settled(range(PAGE_SLOTS))
    changes.note(5)
    changes.note("a")
    assert not changes.are_settled(range(PAGE_SLOTS))
    assert changes.are_settled(range(PAGE_SLOTS, 2 * PAGE_SLOTS))
    keys = changes.take(9)
    assert changes.are_settled(range(PAGE_SLOTS))
    changes.put_back(keys)
    assert not changes.are_settled(range(PAGE_SLOTS))
    assert changes.are_settled(range(PAGE_SLOTS, 2 * PAGE_SLOTS))
    changes.note(PAGE_SLOTS)
    assert not changes.are_settled(range(PAGE_SLOTS, 2 * PAGE_SLOTS))


class Watched:
    """Changes beside a plain account of what was promised."""

    def __init__(self) -> None:
        self.changes = PendingChanges()
        # For each key the numbers of its changes not yet stored, and what it is tied to.
        self.open: dict[int | str, list[int]] = {}
        self.ties: dict[int | str, set[int | str]] = {}

    def note(self, slot: int) -> None:
        self.open.setdefault(slot, []).append(self.changes.note(slot))

    def note_together(self, id_hash: str, slot: int) -> None:
        number = self.changes.note_together(id_hash, slot)
        for key, other in ((id_hash, slot), (slot, id_hash)):
            self.open.setdefault(key, []).append(number)
            self.ties.setdefault(key, set()).add(other)

    def save(self, limit: int, *, fails: bool, meanwhile: list[int]) -> None:
        keys = self.changes.take(limit)
        covered = self.changes.covered()
        assert len(set(keys)) == len(keys)
        # Nothing is saved without what it was noted together with, and that is all that exceeds the limit.
        for key in keys:
            assert self.ties.get(key, set()) <= set(keys)
        if len(keys) > limit:
            assert any(self.ties.get(key) for key in keys)
        numbers = {key: self.open.pop(key) for key in keys}
        ties = {key: self.ties.pop(key) for key in keys if key in self.ties}
        for slot in meanwhile:
            self.note(slot)
        if not fails:
            pending = [number for waiting in self.open.values() for number in waiting]
            assert all(number > covered for number in pending)
            return
        self.changes.put_back(keys)
        for key, former in numbers.items():
            self.open[key] = former + self.open.get(key, [])
        for key, other in ties.items():
            self.ties.setdefault(key, set()).update(other)
        # An unsaved batch stays together.
        for key, other_key in pairwise(keys):
            self.ties.setdefault(key, set()).add(other_key)
            self.ties.setdefault(other_key, set()).add(key)


def test_no_change_is_lost_split_or_promised_early(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        watched = Watched()
        for _ in range(chance.randrange(60)):
            match chance.randrange(4):
                case 0 | 1:
                    watched.note(chance.randrange(12))
                case 2:
                    watched.note_together(f"hash-{chance.randrange(6)}", chance.randrange(12))
                case 3:
                    meanwhile = [chance.randrange(12) for _ in range(chance.randrange(3))]
                    watched.save(chance.randint(1, 6), fails=chance.random() < 0.4, meanwhile=meanwhile)
        while len(watched.changes):
            watched.save(3, fails=False, meanwhile=[])
        assert watched.open == {}
        assert watched.changes.covered() == watched.changes.last


def test_many_notes_leave_nothing_long_for_garbage_collection() -> None:
    changes, noted = PendingChanges(), list[int | str]()
    changes.note_all(range(50_000))
    for slot in range(50_000, 60_000):
        changes.note(slot)
    noted += range(60_000)
    for slot in range(60_000, 100_000):
        changes.note_together(f"hash of {slot}", slot)
        noted += (f"hash of {slot}", slot)
    gc.collect()
    # Two keys that are tied share a short list.
    walked = [one for one in reachable(changes) if isinstance(one, list | tuple) and gc.is_tracked(one)]
    assert 0 < sum(len(one) for one in walked if len(one) > 2) < RUN_KEYS
    assert changes.take(len(noted)) == noted
    assert changes.take(1) == []


def test_slots_noted_together_have_one_number_and_keep_their_place() -> None:
    changes = PendingChanges()
    changes.put_back([7, 3])
    changes.note(5)
    changes.note("hash")
    assert changes.note_all([4, 5, 3, 6]) == changes.last == 3
    assert len(changes) == 6
    assert changes.take(1) == [7, 3]
    assert changes.take(3) == [5, "hash", 4]
    assert changes.covered() == 2
    assert changes.take(3) == [6]
    assert changes.covered() == 3


def test_notes_behave_like_a_plain_dictionary(seed: int) -> None:
    chance = random.Random(seed)
    changes, plain, flying = PendingChanges(), dict[int | str, int](), list[int | str]()
    for _ in range(3_000):
        key: int | str = chance.choice([chance.randrange(9) << 14, chance.randrange(9), chance.choice("abc")])
        match chance.randrange(4):
            case 0 | 1:
                plain.setdefault(key, changes.note(key))
            case 2:
                wanted = chance.randrange(6)
                flying = changes.take(wanted)
                assert flying == list(plain)[:wanted]
                for taken in flying:
                    del plain[taken]
            case 3 if chance.randrange(2) and len(flying) < 2:
                # Keys that are put back stay together, so only a single one shows the order.
                changes.put_back(flying)
                plain = dict.fromkeys(flying, 1) | {k: n for k, n in plain.items() if k not in flying}
                flying = []
        assert len(changes) == len(plain)
        assert changes.covered() == next(iter(plain.values()), changes.last + 1) - 1
        assert all(map(changes.is_noted, plain))

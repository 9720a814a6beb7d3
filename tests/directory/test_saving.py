"""Between the directory and its store: nothing lost, nothing promised too early, and back as it was."""

from __future__ import annotations

import math
import random

import pytest

from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.directory.lifecycle import State
from openred_central.directory.saving import PAGE_ROWS, VITALS_INTERVAL_S
from openred_central.directory.state.changes import Batch, Vitals
from openred_central.directory.state.kept import ENTRIES_PER_BATCH
from openred_central.directory.state.node import Record, Tombstone, decode_history, hash_id
from openred_central.directory.state.pages import PAGE_SLOTS
from openred_central.errors import CallerError
from tests.support.building import (
    SHORT_LIFE,
    DictStore,
    at,
    beat,
    columns_of,
    day,
    expect_consistent,
    make_directory,
    record,
    record_of,
    register,
    registration,
    restarted,
    run_until,
    save_all,
    state_of,
)
from tests.support.records import signs_on


def test_fifty_heartbeats_between_two_flushes_are_one_row() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    save_all(directory, DictStore(), at(0.0))
    for second in range(1, 51):
        beat(directory, "a", at(float(second)))
    batch = directory.saving.take_changes(10, at(50.0))
    assert batch is not None
    assert (batch.records, batch.rows) == ([], 1)
    assert [sign[:3] for sign in signs_on(batch.pages)] == [(0, at(50.0).wall_s, 50.0)]


def test_attended_time_is_saved_at_least_once_a_minute() -> None:
    directory = make_directory()
    first = directory.saving.take_changes(10, at(5.0))
    assert first is not None
    assert (first.rows, first.vitals.attended_s) == (0, 5.0)
    assert directory.saving.take_changes(10, at(5.0 + VITALS_INTERVAL_S - 1)) is None
    later = directory.saving.take_changes(10, at(5.0 + VITALS_INTERVAL_S))
    assert later is not None
    assert later.vitals.attended_s == 5.0 + VITALS_INTERVAL_S
    last = directory.saving.take_changes(10, at(5.5 + VITALS_INTERVAL_S), closing=True)
    assert last is not None, "a clean stop loses none of it"
    assert (last.rows, last.vitals.attended_s) == (0, 5.5 + VITALS_INTERVAL_S)


def test_unsaved_vitals_are_tried_again() -> None:
    """Otherwise an idle directory would never learn that its store is back."""
    directory = make_directory()
    batch = directory.saving.take_changes(10, at(5.0))
    assert batch is not None
    directory.saving.put_back(batch)
    assert directory.saving.take_changes(10, at(5.0)) is not None


def test_unsaved_changes_are_saved_later_as_they_are_then() -> None:
    directory = make_directory()
    store = DictStore()
    for name in ("a", "b", "c"):
        register(directory, name, at(0.0))
    save_all(directory, store, at(0.0))
    register(directory, "a", at(1.0), region="eu")
    beat(directory, "b", at(1.0))
    directory.forget("c", at(1.0))
    batch = directory.saving.take_changes(10, at(1.0))
    assert batch is not None
    register(directory, "a", at(2.0), region="us")
    directory.saving.put_back(batch)
    save_all(directory, store, at(2.0))
    assert directory.saving.pending == 0
    assert store.records[0].region == "us"
    assert store.records[1].last_seen_s == 1.0
    assert store.tombstones.keys() == {hash_id("c")}


def test_a_batch_names_the_last_change_it_covers() -> None:
    directory = make_directory()
    changes = [directory.register(registration(name), proved=True, now=at(0.0)).change for name in "abc"]
    first = directory.saving.take_changes(2, at(0.0))
    assert first is not None
    assert first.last_change == changes[1]
    directory.saving.put_back(first)
    again = directory.saving.take_changes(2, at(0.0))
    assert again is not None
    assert again.last_change == changes[1]
    rest = directory.saving.take_changes(2, at(0.0))
    assert rest is not None
    assert rest.last_change == changes[2] == directory.saving.last_change


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_no_batch_parts_a_node_from_its_tombstone(limit: int, seed: int) -> None:
    """Names and slots change hands between two flushes; the store checks itself after every batch."""
    chance = random.Random(seed + limit)
    directory, store = make_directory(), DictStore()
    names = [f"n{number}" for number in range(6)]
    acknowledged = 0
    for second in range(400):
        now, name = at(float(second)), chance.choice(names)
        if directory.nodes.registry.slot_of(name) is None:
            register(directory, name, now)
        elif chance.random() < 0.7:
            directory.forget(name, now)
        if chance.random() < 0.2:
            batch = directory.saving.take_changes(limit, now)
            if batch is not None and chance.random() < 0.3:
                directory.saving.put_back(batch)
            elif batch is not None:
                store.commit(batch)
        acknowledged = max(acknowledged, store.last_change)
        assert acknowledged <= directory.saving.last_change
    save_all(directory, store, at(400.0), limit)
    assert store.last_change == directory.saving.last_change
    again = restarted(store)
    assert again.nodes.registry.shard_digests == directory.nodes.registry.shard_digests
    assert {one.id_hash for one in again.nodes.tombstones} == {
        one.id_hash for one in directory.nodes.tombstones
    }


def test_a_name_that_changed_slots_is_never_stored_twice() -> None:
    """Found by reading: the slot that was left came after the slot that was taken."""
    directory, store = make_directory(), DictStore()
    for name in ("a", "b"):
        register(directory, name, at(0.0))
    save_all(directory, store, at(0.0))
    directory.forget("a", at(1.0))
    register(directory, "c", at(1.0))
    register(directory, "a", at(1.0))
    directory.forget("c", at(1.0))
    save_all(directory, store, at(1.0), limit=1)
    assert {record.node_id for record in store.records.values()} == {"a", "b"}


def test_a_name_with_an_unstored_tombstone_is_never_stored_twice() -> None:
    directory, store = make_directory(nodes_max=2), DictStore()
    slots = {name: register(directory, name, at(0.0)) for name in ("a", "b")}
    save_all(directory, store, at(0.0))
    directory.forget("b", at(1.0))
    directory.forget("a", at(1.0))
    assert register(directory, "c", at(1.0)) == slots["a"]
    # The tombstone of a has to make room before it was ever stored.
    directory.nodes.tombstones.lift(hash_id("a"))
    directory.nodes.changes.note(hash_id("a"))
    assert register(directory, "a", at(1.0)) == slots["b"]
    save_all(directory, store, at(1.0), limit=1)
    assert {record.node_id for record in store.records.values()} == {"a", "c"}


def test_a_restart_reaches_exactly_the_states_of_an_uninterrupted_run(seed: int) -> None:
    chance = random.Random(seed)
    directory, store = make_directory(life=SHORT_LIFE), DictStore()
    uninterrupted = make_directory(life=SHORT_LIFE)
    names = [f"n{number}" for number in range(30)]
    for second in range(120):
        now = at(float(second))
        for name in chance.sample(names, 1):
            if state_of(directory, name) in (State.ABSENT, State.DEAD):
                register(directory, name, now)
                register(uninterrupted, name, now)
            else:
                beat(directory, name, now)
                beat(uninterrupted, name, now)
        run_until(uninterrupted, now)
        if second % 20 == 19:
            # Nothing was looked at for twenty seconds: states were skipped, each is recorded in order.
            save_all(directory, store, now, limit=chance.randint(1, 9))
            directory = restarted(store, life=SHORT_LIFE)
            run_until(directory, now)
            for name in names:
                assert state_of(directory, name) is state_of(uninterrupted, name)
                if directory.nodes.registry.slot_of(name) is not None:
                    same = record_of(uninterrupted, name)
                    # A generation begins with a revision, and with none after a start that was long ago.
                    assert (
                        record_of(directory, name)._replace(
                            slot=same.slot, revision=same.revision, generation=same.generation
                        )
                        == same
                    )
            expect_consistent(directory, now)
        else:
            # The directory that is to be restarted looks as often: a heartbeat must find the same state.
            run_until(directory, now)


def test_skipped_states_are_recorded_at_their_own_time() -> None:
    directory, store = make_directory(), DictStore()
    register(directory, "a", at(0.0))
    save_all(directory, store, at(0.0))
    directory = restarted(store)
    run_until(directory, day(300.0))
    entries = decode_history(record_of(directory, "a").history)
    assert [entry.to_state.wire for entry in entries] == [
        "pending_1st",
        "failed_1st",
        "retry_48h",
        "retry_2w",
        "retry_2m",
        "coma",
    ]
    expected = [day(180), day(182), day(182, 1), day(184, 1), day(198, 1), day(258, 1)]
    assert [entry.at for entry in entries] == [now.wall_s for now in expected]
    assert record_of(directory, "a").since_s == day(258, 1).attended_s


def test_the_counter_of_revisions_and_the_usual_rate_survive_a_restart() -> None:
    directory, store = make_directory(), DictStore()
    register(directory, "a", at(0.0))
    register(directory, "a", at(1.0), region="eu")
    directory.expiry.silence.usual_per_h = 12.5
    save_all(directory, store, at(1.0))
    again = restarted(store)
    assert again.expiry.silence.usual_per_h == 12.5
    register(again, "b", at(2.0))
    assert record_of(again, "b").revision > record_of(directory, "a").revision


def stored(*records: Record, attended_s: float = 5.0) -> Directory:
    """A directory restored from these records, some of which may be set aside."""
    directory = make_directory()
    directory.saving.restore_vitals(Vitals(attended_s, 100, 0.0))
    directory.saving.restore_records([columns_of(records)])
    return directory


def sound(slot: int, node_id: str, **changed: object) -> Record:
    return record(
        slot, node_id, profile=b'["192.0.2.1",80,"key",[],{}]', last_seen_s=1.0, since_s=1.0
    )._replace(**changed)


def test_a_row_set_aside_keeps_its_slot_and_name() -> None:
    directory = stored(sound(0, "a"), sound(1, "b", state=9), sound(2, "c", history="never"))
    assert [(row.slot, row.node_id) for row in directory.nodes.unserved] == [(1, "b"), (2, "c")]
    assert len(directory) == 1
    for name in ("b", "c"):
        with pytest.raises(CallerError) as caught:
            register(directory, name, at(5.0))
        assert (caught.value.status, caught.value.code) == (409, "node_id_taken")
        assert "Its record is damaged" in str(caught.value)
        with pytest.raises(CallerError) as caught:
            beat(directory, name, at(5.0))
        assert caught.value.status == 404
    assert [register(directory, name, at(5.0)) for name in ("d", "e")] == [3, 4]
    expect_consistent(directory, at(5.0))
    directory.forget("a", at(6.0))
    run_until(directory, day(2_000.0))
    assert len(directory) == 0
    while (batch := directory.saving.take_changes(10, day(2_000.0))) is not None:
        assert {1, 2}.isdisjoint([*batch.freed_slots, *(one.slot for one in batch.records)])
    expect_consistent(directory, day(2_000.0))


@pytest.mark.parametrize(("revisions", "served"), [((3, 4), 2), ((4, 3), 0), ((3, 3), 0)])
def test_the_younger_row_of_a_name_is_served(revisions: tuple[int, int], served: int) -> None:
    first, second = revisions
    directory = stored(
        sound(0, "a", revision=first, region="eu"), sound(1, "b"), sound(2, "a", revision=second, region="us")
    )
    assert directory.nodes.registry.slot_of("a") == served
    (aside,) = directory.nodes.unserved
    assert str(aside) == f"slot {2 - served}, node 'a': the node is also in slot {served}, which is served"
    assert directory.nodes.registry.service_set(served).region == ("us" if served else "eu")
    expect_consistent(directory, at(5.0))
    assert register(directory, "c", at(5.0)) == 3
    # The other row would come to life with the next start.
    directory.forget("a", at(6.0))
    with pytest.raises(CallerError, match="damaged"):
        register(directory, "a", at(7.0))


def test_a_node_with_a_tombstone_is_set_aside() -> None:
    directory = stored(sound(0, "a"), sound(1, "b"))
    directory.saving.restore_tombstones([Tombstone(hash_id("b"), "fingerprint", 0.0, 1.0, "deadline", 1)])
    assert directory.saving.set_dead_aside()
    assert [str(row) for row in directory.nodes.unserved] == [
        "slot 1, node 'b': there is a tombstone of the node as well"
    ]
    assert not directory.saving.set_dead_aside()
    assert register(directory, "c", at(5.0)) == 2
    expect_consistent(directory, at(5.0))


@pytest.mark.parametrize(
    ("died_at", "died_s"), [(0.0, -math.inf), (0.0, math.nan), (math.inf, 1.0), (0.0, math.inf)]
)
def test_tombstone_whose_times_are_no_numbers_expires(died_at: float, died_s: float) -> None:
    directory = make_directory()
    directory.saving.restore_tombstones(
        [Tombstone(hash_id("b"), "fingerprint", died_at, died_s, "deadline", 1)]
    )
    assert directory.expiry.next_s() is not None
    run_until(directory, day(366))
    assert len(directory.nodes.tombstones) == 0


def test_a_tombstone_from_the_future_expires_as_one_of_now() -> None:
    directory = stored(sound(0, "a"))
    stones = [
        Tombstone(name, "fingerprint", 0.0, died_s, "deadline", 1)
        for name, died_s in (("x", 2.0), ("y", 1e9))
    ]
    directory.saving.restore_tombstones(stones)
    assert [stone.died_s for stone in directory.nodes.tombstones] == [2.0, 5.0]


def test_surplus_tombstones_leave_the_store_after_a_restart() -> None:
    directory, store = make_directory(), DictStore()
    for name in ("a", "b", "c"):
        register(directory, name, at(0.0))
        directory.forget(name, at(1.0))
    save_all(directory, store, at(1.0))
    again = restarted(store, nodes_max=2)
    save_all(again, store, at(2.0))
    assert len(store.tombstones) == len(again.nodes.tombstones) == 2


def test_changes_stay_pending_if_the_batch_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    directory, store = make_directory(), DictStore()
    for name in "ab":
        register(directory, name, at(0.0))
    directory.forget("b", at(1.0))

    def starved(slots: list[int]) -> list[Record]:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(directory.nodes.registry, "records", starved)
        with pytest.raises(MemoryError):
            directory.saving.take_changes(10, at(2.0))
    save_all(directory, store, at(3.0))
    assert [kept.node_id for kept in store.records.values()] == ["a"]
    assert list(store.tombstones) == [hash_id("b")]


def test_kept_values_come_with_flushes_and_all_of_them_when_closing() -> None:
    directory, store = make_directory(), DictStore()
    kept = directory.nodes.kept
    save_all(directory, store, at(0.0))
    for number in range(3 * ENTRIES_PER_BATCH):
        kept.note(f"{number}", lambda: b"value")
    assert directory.saving.take_changes(10, at(1.0), flush=False) is None
    register(directory, "a", at(1.0))
    hurried = directory.saving.take_changes(10, at(1.0), flush=False)
    assert hurried is not None
    assert (len(hurried.records), hurried.kept) == (1, [])
    flushed = taken(directory, at(1.0))
    assert len(flushed.kept) == flushed.rows == ENTRIES_PER_BATCH
    store.commit(flushed)
    while directory.saving.pending:
        batch = directory.saving.take_changes(10, at(1.0), closing=True)
        assert batch is not None
        store.commit(batch)
    assert len(store.kept) == 3 * ENTRIES_PER_BATCH


def test_kept_values_that_were_not_saved_come_again() -> None:
    directory, values = make_directory(), iter([b"then", b"now"])
    directory.nodes.kept.note("name", lambda: next(values))
    batch = taken(directory, at(0.0))
    assert batch.kept == [("name", b"then")]
    directory.saving.put_back(batch)
    assert directory.saving.pending == 1
    assert taken(directory, at(0.0)).kept == [("name", b"now")]


def told(batch: Batch) -> dict[int, float]:
    """Return the signs of life that the pages of a batch tell."""
    return {sign.slot: sign.last_seen_s for sign in signs_on(batch.pages)}


def taken(directory: Directory, now: Now, limit: int = 1_000) -> Batch:
    batch = directory.saving.take_changes(limit, now)
    assert batch is not None
    return batch


def test_a_batch_tells_the_pages_on_which_nodes_were_heard() -> None:
    directory = make_directory()
    for number in range(3 * PAGE_SLOTS):
        register(directory, f"n{number}", at(0.0))
    save_all(directory, DictStore(), at(0.0))
    beat(directory, f"n{PAGE_SLOTS}", at(2.0))
    batch = taken(directory, at(3.0))
    assert [run.numbers for run in batch.pages] == [range(1, 2)]
    assert told(batch) == {PAGE_SLOTS: 2.0} | dict.fromkeys(range(PAGE_SLOTS + 1, 2 * PAGE_SLOTS), 0.0)
    assert directory.saving.pending == 0


def test_a_freed_slot_is_told_as_free() -> None:
    """Otherwise the store would keep when its node was seen."""
    directory = make_directory()
    for name in "ab":
        register(directory, name, at(0.0))
    save_all(directory, DictStore(), at(0.0))
    directory.forget("a", at(1.0))
    batch = taken(directory, at(1.0))
    assert (batch.freed_slots, told(batch)) == ([0], {1: 0.0})


def test_no_page_is_told_while_a_change_of_its_records_stays_behind() -> None:
    """The store would lay it over a record that is about to be replaced."""
    directory = make_directory()
    for number in range(2 * PAGE_SLOTS):
        register(directory, f"n{number}", at(0.0))
    save_all(directory, DictStore(), at(0.0))
    for number in (0, 1, PAGE_SLOTS):
        beat(directory, f"n{number}", at(1.0))
    for number in (0, 1):
        register(directory, f"n{number}", at(2.0), region="eu")
    batch = taken(directory, at(2.0), limit=1)
    assert ([row.slot for row in batch.records], told(batch)) == ([0], {})
    batch = taken(directory, at(2.0))
    assert [row.slot for row in batch.records] == [1]
    assert sorted(page for run in batch.pages for page in run.numbers) == [0, 1]
    assert told(batch)[0] == 2.0


def test_pages_that_were_not_saved_come_again_as_they_are_then() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    save_all(directory, DictStore(), at(0.0))
    for second in range(1, 4):
        beat(directory, "a", at(float(second)))
        batch = taken(directory, at(float(second)))
        assert told(batch) == {0: second}
        directory.saving.put_back(batch)
    # Also behind a change that could not be saved either.
    register(directory, "a", at(4.0), region="eu")
    batch = taken(directory, at(4.0), limit=1)
    directory.saving.put_back(batch)
    assert (len(batch.records), told(taken(directory, at(5.0)))) == (1, {0: 4.0})


def test_pages_take_their_share_of_a_batch() -> None:
    directory = make_directory()
    for number in range(5 * PAGE_SLOTS):
        register(directory, f"n{number}", at(0.0))
    save_all(directory, DictStore(), at(0.0))
    for page in range(5):
        beat(directory, f"n{page * PAGE_SLOTS}", at(1.0))
    assert (directory.saving.pending, directory.saving.due) == (5, 0)
    runs = [[run.numbers for run in taken(directory, at(1.0), limit=2 * PAGE_ROWS).pages] for _ in range(2)]
    assert runs == [[range(2)], [range(2, 5)]], "no rest is left that is smaller than a batch"
    beat(directory, "n0", at(2.0))
    assert directory.saving.take_changes(9, at(2.0), flush=False) is None, "it waits for the next flush"
    assert told(taken(directory, at(2.0)))[0] == 2.0

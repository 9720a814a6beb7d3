"""Visits: what the directory learns of a node from its signs of life, and what they never change."""

from __future__ import annotations

from math import inf

import orjson
import pytest

from openred_central.directory.empathy.returns import BINS, COHORTS
from openred_central.directory.empathy.visiting import CALIBRATION, HABITS, RETURNS
from openred_central.directory.lifecycle import State
from openred_central.directory.octaves import seconds_of
from openred_central.directory.state.habits import CHUNK_SLOTS, LATE, OBEYS_MIN, SLOWEST, URGENT
from openred_central.directory.state.node import UNREMEMBERED
from tests.directory.empathy.diary import HOUR_S, Diary
from tests.support.building import DAY_S, make_directory, state_of


def test_a_node_that_is_always_there_is_expected_to_be_there() -> None:
    diary = Diary(HOUR_S)
    slot = diary.register("a")
    diary.live(slot, 20)
    habit = diary.habits.read(slot)
    assert habit.on_time > 0.97
    assert habit.obeys > 0.9
    assert min(habit.profile) > 0.7
    assert habit.absences == 0
    assert habit.days in (20, 21)
    assert diary.forecast.chance(slot, diary.now_s) > 0.97


def test_a_node_of_the_evening_is_expected_in_the_evening() -> None:
    diary = Diary(HOUR_S)
    slot = diary.register("a")
    diary.live(slot, 30, up_hours=range(18, 23))
    habit = diary.habits.read(slot)
    assert min(habit.profile[19:22]) > 0.7
    assert max(habit.profile[1:15]) < 0.2
    assert 20 <= habit.absences <= 60
    assert 12 * HOUR_S < seconds_of(habit.usual) < 26 * HOUR_S
    # It is morning: the node has been late for hours.
    assert 7 <= diary.now().wall_s // HOUR_S % 24 <= 9
    assert diary.forecast.is_late(slot, diary.now_s)
    assert diary.forecast.chance(slot, diary.now_s) < 0.05
    assert diary.forecast.back_within(slot, diary.now_s, DAY_S) > 0.6


@pytest.mark.parametrize("pace_s", [HOUR_S, DAY_S])
def test_starting_often_does_not_spoil_the_record(pace_s: float) -> None:
    quiet, restless = Diary(pace_s), Diary(pace_s)
    for diary, extra in ((quiet, 0), (restless, 3)):
        slot = diary.register("a")
        diary.live(slot, 40, up_hours=range(6, 22), extra=extra)
    obeys = restless.habits.obeys[0]
    assert obeys >= OBEYS_MIN
    assert abs(restless.habits.read(0).on_time - quiet.habits.read(0).on_time) < 0.35


def test_a_node_that_ignores_the_advice_is_found_out() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    for _ in range(40):
        diary.beat(slot)
        diary.pass_s(DAY_S)
    assert diary.habits.obeys[slot] < OBEYS_MIN
    # It is expected by its usual gap instead.
    assert not diary.forecast.is_late(slot, diary.now_s)


def test_a_silent_node_is_late_after_its_due_until_it_is_heard() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    advice_s = diary.directory.advice_s(slot, diary.now())
    diary.pass_s(advice_s - 60)
    assert not diary.forecast.is_late(slot, diary.now_s)
    diary.pass_s(60 + 120 + 1)
    assert diary.forecast.is_late(slot, diary.now_s)
    diary.pass_s(3 * DAY_S)
    assert diary.visiting.late == 1
    diary.beat(slot)
    assert not diary.forecast.is_late(slot, diary.now_s)
    diary.pass_s(HOUR_S)
    assert diary.visiting.late == 0
    assert diary.habits.read(slot).absences == 1


def test_a_visit_ahead_of_its_turn_finds_what_the_visit_in_turn_would_find() -> None:
    early, in_turn = Diary(DAY_S), Diary(DAY_S)
    for diary in (early, in_turn):
        slot = diary.register("a")
        diary.live(slot, 3)
        # Past its due, and no visit came.
        diary.now_s += diary.directory.advice_s(slot, diary.now()) + DAY_S / 2
    early.visiting.visit_ahead(slot, early.now())
    assert early.habits.bits[slot] & LATE
    assert not in_turn.habits.bits[slot] & LATE
    assert early.visiting.late == 0
    for diary in (early, in_turn):
        diary.pass_s(3 * HOUR_S)
        assert diary.visiting.late == 1
    assert early.habits.pack(0, 0.0) == in_turn.habits.pack(0, 0.0)


def test_no_visit_comes_ahead_of_the_first_one_of_a_chunk() -> None:
    """The first one after a start knows that nobody saw what was before."""
    diary = Diary(DAY_S)
    slots = [diary.register("a")]
    diary.visiting.visit_ahead(slots[0], diary.now())
    assert diary.habits.seen_s[slots[0]] == 0
    diary.pass_s(2 * HOUR_S)
    slots.append(diary.register("b"))
    diary.visiting.visit_ahead(slots[1], diary.now())
    assert all(diary.habits.seen_s[slot] for slot in slots)


def test_nobody_is_late_because_the_directory_was_away() -> None:
    diary = Diary(HOUR_S)
    slot = diary.register("a")
    diary.live(slot, 10)
    before = diary.habits.read(slot)
    # Nobody can be heard for a while, and no visit is made: attended time stands still.
    due_s = diary.directory.advice_s(slot, diary.now())
    diary.now_s += due_s + 300
    diary.visiting.resumed(diary.now_s)
    assert not diary.forecast.is_late(slot, diary.now_s)
    diary.beat(slot)
    diary.pass_s(HOUR_S)
    after = diary.habits.read(slot)
    assert (after.on_time, after.absences) == (before.on_time, before.absences)


def test_an_announced_absence_is_no_absence() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a", away_until_at=diary.now().wall_s + 20 * DAY_S)
    diary.pass_s(19 * DAY_S)
    assert not diary.habits.bits[slot] & LATE
    assert diary.forecast.chance(slot, diary.now_s) == 0.0
    diary.pass_s(DAY_S)
    diary.beat(slot)
    diary.pass_s(HOUR_S)
    assert diary.habits.read(slot).absences == 0


def test_visits_change_no_state_and_raise_the_longest_absence_alone() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    nodes = diary.directory.nodes
    for days in (3, 40, 1):
        before = (
            nodes.revision,
            list(nodes.registry.shard_digests),
            nodes.changes.noted,
            len(nodes.tombstones),
        )
        diary.pass_s(days * DAY_S)
        after = nodes.revision, list(nodes.registry.shard_digests), nodes.changes.noted, len(nodes.tombstones)
        assert after == before
        diary.beat(slot)
        diary.pass_s(HOUR_S)
        assert state_of(diary.directory, "a") is State.ACTIVE
    assert diary.directory.nodes.transitions.counts.total() == 1
    assert 40 * DAY_S <= seconds_of(diary.directory.nodes.registry.longest[slot]) < 45 * DAY_S


def test_nothing_is_remembered_of_a_node_that_was_forgotten() -> None:
    diary = Diary(HOUR_S)
    slot = diary.register("a")
    diary.live(slot, 3, up_hours=range(8, 20))
    assert diary.habits.seen_s[slot]
    diary.directory.forget("a", diary.now())
    assert diary.habits.pack(0, 0.0).strip(b"\0")[:2] == b"H\1"
    assert not any(diary.habits.pack(0, 0.0)[20:])
    assert diary.habits.changes[0] == URGENT
    diary.pass_s(HOUR_S)
    names = [name for name, _ in diary.directory.nodes.kept.take(16)]
    assert f"{HABITS}/00000000" in names


def test_nothing_is_remembered_of_a_node_that_wishes_so() -> None:
    diary = Diary(HOUR_S)
    slot = diary.register("a")
    diary.live(slot, 3)
    record = diary.directory.nodes.registry.record(slot)
    diary.directory.nodes.rewrite(record._replace(flags=record.flags | UNREMEMBERED))
    diary.live(slot, 3, up_hours=range(8, 20))
    assert diary.habits.read(slot).seen_s == 0
    assert not any(diary.habits.profile)


def test_a_restart_keeps_habits_and_loses_no_absence() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    diary.live(slot, 30)
    diary.visiting.note_all()
    kept = {name: value for name, value in diary.directory.nodes.kept.take(16) if value is not None}
    assert set(kept) == {f"{HABITS}/00000000", RETURNS, CALIBRATION}
    before = diary.habits.read(slot)

    again = Diary(DAY_S)
    again.now_s = diary.now_s
    record = diary.directory.nodes.registry.record(slot)
    # It was heard again after the last visit that was stored, forty days later.
    heard_s = record.last_seen_s + 40 * DAY_S
    again.directory.nodes.registry.insert(record._replace(last_seen_s=heard_s))
    again.directory.nodes.place_all()
    assert again.directory.restore_kept(kept.items()) == []
    again.now_s = heard_s + 60
    again.visiting.resumed(again.now_s)
    again.pass_s(60.0)
    after = again.habits.read(slot)
    assert (after.on_time, after.obeys, after.days) == (before.on_time, before.obeys, before.days)
    assert after.absences == 1
    longest_s = seconds_of(again.directory.nodes.registry.longest[slot])
    assert 37 * DAY_S < longest_s < 44 * DAY_S


def test_a_habit_of_another_node_is_begun_anew() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    diary.live(slot, 30)
    kept = [(f"{HABITS}/00000000", diary.habits.pack(0, 0.0))]
    again = Diary(DAY_S)
    again.now_s = diary.now_s
    assert again.register("b") == slot
    assert again.directory.restore_kept(kept) == []
    again.pass_s(HOUR_S)
    assert again.habits.read(slot).days == 1


@pytest.mark.parametrize("size", [0, 19, 20, 5_000])
def test_damaged_habits_are_left_out(size: int) -> None:
    diary = Diary(DAY_S)
    diary.register("a")
    rows = [(f"{HABITS}/00000000", b"\xff" * size), (f"{HABITS}/xyz", b""), (RETURNS, b"{}")]
    assert len(diary.directory.restore_kept(rows)) == 3
    diary.pass_s(2 * HOUR_S)
    assert diary.habits.read(0).days == 1


def test_a_broken_habit_stops_nobody_elses() -> None:
    diary = Diary(DAY_S)
    slots = [diary.register(f"n{number}") for number in range(3)]
    diary.pass_s(2 * HOUR_S)
    diary.habits.paces[slots[1]] = 99
    diary.pass_s(2 * DAY_S)
    assert diary.visiting.broken == 1
    assert diary.habits.read(slots[2]).seen_s


def test_a_name_that_is_no_chunk_moves_no_column() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    packed = diary.habits.pack(0, 0.0)
    rows = [(f"{HABITS}/{name}", packed) for name in ("-1", "0", "0x0", "00000000 ")]
    assert len(diary.directory.restore_kept(rows)) == 4
    assert len(diary.habits.seen_s) == len(diary.habits.paces) == CHUNK_SLOTS
    diary.pass_s(2 * HOUR_S)
    assert diary.habits.seen_s[slot]


@pytest.mark.parametrize("passed_s", [inf, 1e12])
def test_a_chunk_from_the_future_is_passed_once_a_day(passed_s: float) -> None:
    diary = Diary(None)
    slot = diary.register("a")
    diary.directory.restore_kept([(f"{HABITS}/00000000", diary.habits.pack(0, passed_s))])
    diary.habits.paces[slot] = SLOWEST
    diary.live(slot, 3)
    assert diary.habits.paces[slot] == 0


def test_returns_beyond_any_count_are_left_out() -> None:
    diary = Diary(DAY_S)
    table = [[1e308] * BINS] * COHORTS
    document = {"format": 1, "events": table, "exposure_s": [[0.0] * BINS] * COHORTS}
    assert len(diary.directory.restore_kept([(RETURNS, orjson.dumps(document))])) == 1
    diary.register("a")
    diary.pass_s(2 * HOUR_S)
    assert diary.visiting.visits


def test_a_time_beyond_all_columns_stops_nobody_elses_visit() -> None:
    diary = Diary(DAY_S)
    slots = [diary.register(name) for name in ("a", "b")]
    record = diary.directory.nodes.registry.record(slots[0])
    away_s = float(1 << 33)
    diary.directory.nodes.rewrite(record._replace(away_from_s=diary.now_s, away_until_s=away_s))
    diary.pass_s(2 * HOUR_S)
    assert diary.visiting.broken
    assert diary.habits.seen_s[slots[1]]


def test_nobody_is_late_since_the_directory_began_to_remember() -> None:
    diary = Diary(None)
    slot = diary.register("a")
    again = Diary(None)
    record = diary.directory.nodes.registry.record(slot)
    again.directory.nodes.registry.insert(record._replace(last_seen_s=record.last_seen_s - 60.0))
    again.directory.nodes.place_all()
    again.directory.restore_kept([])
    # A server without habits told the node to be heard after a day or so.
    again.pass_s(1.1 * DAY_S)
    assert not again.forecast.is_late(slot, again.now_s)
    before = again.habits.read(slot)
    again.beat(slot)
    again.pass_s(HOUR_S)
    after = again.habits.read(slot)
    assert (after.on_time, after.obeys, after.absences) == (before.on_time, before.obeys, 0)


def test_a_habit_that_is_not_of_the_node_is_never_told() -> None:
    diary = Diary(HOUR_S)
    slot = diary.register("a")
    diary.live(slot, 20, up_hours=range(18, 23))
    kept = [(f"{HABITS}/00000000", diary.habits.pack(0, 0.0))]
    for name, flags in (("b", 0), ("a", UNREMEMBERED)):
        again = Diary(HOUR_S)
        again.now_s = diary.now_s
        record = diary.directory.nodes.registry.record(slot)
        again.directory.nodes.registry.insert(record._replace(node_id=name, flags=record.flags | flags))
        again.directory.nodes.place_all()
        again.directory.restore_kept(kept)
        # No visit has come yet.
        assert not any(again.habits.profile)
        again.pass_s(HOUR_S)
        names = [name for name, _ in again.directory.nodes.kept.take(16)]
        assert f"{HABITS}/00000000" in names


def test_a_directory_that_remembers_nothing_erases_what_it_kept() -> None:
    diary = Diary(HOUR_S)
    diary.register("a")
    packed = diary.habits.pack(0, 0.0)
    off = make_directory(forecast=False)
    assert off.restore_kept([(f"{HABITS}/00000000", packed)]) == []
    assert off.nodes.kept.take(16) == [(f"{HABITS}/00000000", None)]


def test_a_node_that_is_not_remembered_is_told_the_slowest_pace() -> None:
    diary = Diary(None)
    wished = diary.register("a", habits=False)
    assert diary.habits.paces[wished] == SLOWEST
    slot = diary.register("b")
    record = diary.directory.nodes.registry.record(slot)
    diary.directory.nodes.rewrite(record._replace(flags=record.flags | UNREMEMBERED))
    assert diary.habits.paces[slot] == SLOWEST
    diary.pass_s(2 * HOUR_S)
    assert diary.visiting.advised_per_s == pytest.approx(2 / DAY_S)


def test_a_node_that_was_heard_in_its_absence_may_be_late_again() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a", away_until_at=diary.now().wall_s + 100 * DAY_S)
    diary.pass_s(2 * DAY_S)
    diary.beat(slot)
    diary.pass_s(3 * DAY_S)
    assert diary.forecast.is_late(slot, diary.now_s)


def test_a_sign_of_life_that_a_kill_lost_costs_no_habit() -> None:
    diary = Diary(DAY_S)
    slot = diary.register("a")
    diary.live(slot, 30)
    kept = [(f"{HABITS}/00000000", diary.habits.pack(0, 0.0))]
    again = Diary(DAY_S)
    again.now_s = diary.now_s
    record = diary.directory.nodes.registry.record(slot)
    again.directory.nodes.registry.insert(record._replace(last_seen_s=record.last_seen_s - 60.0))
    again.directory.nodes.place_all()
    again.directory.restore_kept(kept)
    again.pass_s(60.0)
    assert again.habits.read(slot).days == diary.habits.read(slot).days

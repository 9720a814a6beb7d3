"""The effects of silence: when a state ends, and when silence is not believed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.directory.life.expiry import POSTPONE_S
from openred_central.directory.lifecycle import LIVE_STATES, Event, LifecycleOptions, State
from openred_central.directory.state.node import LEFT, Transition, decode_history
from tests.support.building import (
    DAY_S,
    SHORT_LIFE,
    at,
    beat,
    day,
    expect_consistent,
    make_directory,
    record_of,
    register,
    registration,
    run_until,
    state_of,
)
from tests.support.options import lifecycle_options, mass_silence_options

STEP_S = 1 / 1_024
# The default life of a node that is never heard again: when it enters each state.
ENTERS = [
    (State.PENDING_FIRST_CHECK, day(180)),
    (State.FAILED_FIRST_CHECK, day(182)),
    (State.RETRY_48H, day(182, 1)),
    (State.RETRY_2W, day(184, 1)),
    (State.RETRY_2M, day(198, 1)),
    (State.COMA, day(258, 1)),
    (State.DEAD, day(988, 1)),
    (State.ABSENT, day(988 + 365, 1)),
]


def test_a_silent_node_passes_through_its_life_on_the_promised_days() -> None:
    directory = make_directory()
    register(directory, "a", at(0.0))
    before = State.ACTIVE
    for state, now in ENTERS:
        run_until(directory, at(now.attended_s - STEP_S))
        assert state_of(directory, "a") is before
        run_until(directory, now)
        assert state_of(directory, "a") is state
        expect_consistent(directory, now)
        before = state


@pytest.mark.parametrize(("state", "now"), ENTERS[:-2])
def test_a_heartbeat_revives_from_every_state_with_identity(state: State, now: Now) -> None:
    directory = make_directory()
    said = {"services": "chat,mail", "region": "eu", "metadata": {"version": 3}}
    register(directory, "a", at(0.0), **said)
    before = record_of(directory, "a")
    run_until(directory, now)
    later = at(now.attended_s + 10.0)
    assert beat(directory, "a", later) is state
    after = record_of(directory, "a")
    assert after == before._replace(
        last_seen_at=later.wall_s,
        last_seen_s=later.attended_s,
        since_s=later.attended_s,
        history=after.history,
    )
    entries = decode_history(after.history)
    assert (entries[0].from_state, entries[-1].to_state) == (State.ACTIVE, State.ACTIVE)
    assert entries[-1].from_state is state
    run_until(directory, at(later.attended_s + 180 * DAY_S - STEP_S))
    assert state_of(directory, "a") is State.ACTIVE
    run_until(directory, at(later.attended_s + 180 * DAY_S))
    assert state_of(directory, "a") is State.PENDING_FIRST_CHECK


def test_a_second_look_of_no_length_is_recorded() -> None:
    directory = make_directory(life=lifecycle_options(second_look_s=0.0))
    register(directory, "a", at(0.0))
    run_until(directory, day(182))
    assert state_of(directory, "a") is State.RETRY_48H
    states = [entry.to_state for entry in decode_history(record_of(directory, "a").history)]
    assert states == [State.PENDING_FIRST_CHECK, State.FAILED_FIRST_CHECK, State.RETRY_48H]
    assert (
        directory.nodes.transitions.counts[State.PENDING_FIRST_CHECK, State.FAILED_FIRST_CHECK, "deadline"]
        == 1
    )


def test_work_is_done_in_pieces() -> None:
    directory = make_directory(life=SHORT_LIFE)
    for number in range(25):
        register(directory, f"n{number}", at(0.0))
    handled = []
    while (count := directory.expiry.expire_due(at(10.0), 10)) >= 10:
        handled.append(count)
    assert handled == [10, 10]
    assert count == 5
    assert directory.nodes.registry.state_counts[State.PENDING_FIRST_CHECK] == 25


def test_tombstones_expire_in_the_same_pieces() -> None:
    directory = make_directory(life=SHORT_LIFE)
    for number in range(25):
        register(directory, f"n{number}", at(0.0))
        directory.forget(f"n{number}", at(0.0))
    # The deadlines that the forgotten nodes have left are work too.
    assert [directory.expiry.expire_due(at(10.0), 10) for _ in range(6)] == [10, 10, 10, 10, 10, 0]
    assert len(directory.nodes.tombstones) == 0


def test_stale_deadlines_are_cleared_in_pieces() -> None:
    """A thousand deadlines of one moment that no longer count are not one piece of work."""
    directory = make_directory(life=SHORT_LIFE)
    for number in range(1_000):
        register(directory, f"n{number}", at(0.0))
    run_until(directory, at(41.0))
    slots = [directory.nodes.registry.slot_of(f"n{number}") or 0 for number in range(1_000)]
    # In coma until 47; now they are active until 51, and the entries of 47 are stale at 47.
    assert {directory.nodes.deadlines.armed_s(slot) for slot in slots} == {47.0}
    for slot in slots:
        directory.nodes.deadlines.disarm(slot)
        directory.nodes.deadlines.arm(slot, 51.0)
    pieces = [directory.expiry.expire_due(at(47.0), 100) for _ in range(11)]
    assert pieces == [100] * 10 + [0]


def test_waiting_nodes_that_came_back_are_passed_in_pieces() -> None:
    directory = fallen_silent()
    for number in range(40):
        beat(directory, f"n{number}", at(10.0))
    assert directory.expiry.expire_due(at(10.0), 12) == 0, "the hold ends"
    assert [directory.expiry.expire_due(at(10.0), 12) for _ in range(4)] == [12, 12, 6, 0]


def test_the_next_deadline_is_known() -> None:
    directory = make_directory(life=SHORT_LIFE)
    assert directory.expiry.next_s() is None
    register(directory, "a", at(3.0))
    assert directory.expiry.next_s() == 13.0
    register(directory, "b", at(3.0))
    directory.forget("b", at(1.0))
    assert directory.expiry.next_s() == 11.0


def damage(directory: Directory, slot: int, **changed: Any) -> None:
    registry = directory.nodes.registry
    registry.replace(registry.record(slot)._replace(**changed))


def broken(directory: Directory, node_id: str) -> int:
    """Damage a node so that its burial fails; its slot."""
    slot = directory.nodes.registry.slot_of(node_id)
    assert slot is not None
    damage(directory, slot, profile=b"not a profile")
    return slot


def test_a_node_whose_transition_fails_is_set_aside() -> None:
    directory = make_directory(life=SHORT_LIFE)
    for name in ("a", "b", "c"):
        register(directory, name, at(0.0))
    slot = broken(directory, "b")
    run_until(directory, at(47.0))
    assert [state_of(directory, name) for name in "abc"] == [State.DEAD, State.COMA, State.DEAD]
    assert list(directory.expiry.set_aside) == [slot]
    assert "JSONDecodeError" in directory.expiry.set_aside[slot]
    assert directory.nodes.deadlines.armed_s(slot) is None


def test_a_node_set_aside_goes_on_when_it_is_heard() -> None:
    directory = make_directory(life=SHORT_LIFE)
    register(directory, "b", at(0.0))
    slot = directory.nodes.registry.slot_of("b")
    assert slot is not None
    whole = directory.nodes.registry.profile(slot)
    broken(directory, "b")
    run_until(directory, at(47.0))
    damage(directory, slot, profile=whole)
    beat(directory, "b", at(50.0))
    assert not directory.expiry.set_aside
    run_until(directory, at(60.0))
    assert state_of(directory, "b") is State.PENDING_FIRST_CHECK
    expect_consistent(directory, at(60.0))


# Mass silence (rule 6). A quarter is too many, of at least four.

SUSPICIOUS = mass_silence_options(share=0.25, nodes_min=4, hold_s_max=100.0)


def fallen_silent(life: LifecycleOptions = SHORT_LIFE, *, probing: bool = False) -> Directory:
    """A directory of forty nodes, all of them due at attended 10 s, at which it holds them."""
    directory = make_directory(life=life, silence=SUSPICIOUS, probing=probing)
    for number in range(40):
        register(directory, f"n{number}", at(0.0))
    run_until(directory, at(10.0))
    return directory


def advanced(directory: Directory) -> int:
    return len(directory) - directory.nodes.registry.state_counts[State.ACTIVE]


def test_a_mass_silence_is_held() -> None:
    directory = fallen_silent()
    assert advanced(directory) == 10
    assert len(directory.expiry.waiting) == 30
    hold = directory.expiry.silence.hold
    assert hold is not None
    assert "10 of 40 nodes fell silent within an hour" in hold.reason
    for _ in range(5):
        run_until(directory, at(10.0))
    assert advanced(directory) == 10
    expect_consistent(directory, at(10.0))


def test_a_hold_ends_as_soon_as_enough_nodes_are_back() -> None:
    directory = fallen_silent()
    # Ten advanced and thirty wait: five silent ones are half of what is believed.
    for number in range(34):
        beat(directory, f"n{number}", at(10.0))
    run_until(directory, at(10.0))
    assert directory.expiry.silence.hold is not None
    beat(directory, "n34", at(10.0))
    run_until(directory, at(10.0))
    assert directory.expiry.silence.hold is None
    expect_consistent(directory, at(10.0))


def test_a_node_that_leaves_and_returns_often_ends_no_hold() -> None:
    directory = fallen_silent()
    for _ in range(100):
        directory.leave("n0", at(10.0))
        beat(directory, "n0", at(10.0))
    run_until(directory, at(10.0))
    assert directory.expiry.silence.hold is not None


def test_fast_lives_of_few_nodes_are_no_mass_silence() -> None:
    """Thirty of two thousand are 1.5 %, however fast they go through their states."""
    life = lifecycle_options(
        heartbeat_tolerance_s=2.0,
        grace_s=0.5,
        second_look_s=0.1,
        retry_48h_s=0.1,
        retry_2w_s=0.1,
        retry_2m_s=0.1,
    )
    directory = make_directory(life=life, silence=mass_silence_options())
    for number in range(2_000):
        register(directory, f"n{number}", at(0.0))
    for tenth in range(1, 40):
        for number in range(30, 2_000) if tenth % 15 == 0 else ():
            beat(directory, f"n{number}", at(tenth / 10))
        run_until(directory, at(tenth / 10))
    assert directory.expiry.silence.hold is None
    assert directory.nodes.registry.state_counts[State.COMA] == 30
    assert directory.expiry.silence.recent == 30


def test_believed_nodes_may_pass_all_their_states() -> None:
    directory = make_directory(life=SHORT_LIFE, silence=SUSPICIOUS)
    for number in range(40):
        register(directory, f"n{number}", at(0.0))
    for second in range(1, 33):
        for number in range(10, 40):
            beat(directory, f"n{number}", at(float(second)))
        run_until(directory, at(float(second)))
    assert directory.nodes.registry.state_counts[State.COMA] == 10
    assert directory.expiry.silence.hold is None


def test_without_a_second_look_no_node_counts_twice() -> None:
    directory = make_directory(life=lifecycle_options(second_look_s=0.0), silence=mass_silence_options())
    for number in range(200):
        register(directory, f"n{number}", at(0.0))
    for number in range(60, 200):
        beat(directory, f"n{number}", day(100))
    run_until(directory, day(180))
    run_until(directory, day(182))
    assert directory.expiry.silence.hold is None
    assert directory.nodes.registry.state_counts[State.RETRY_48H] == 60


def checked_once(count: int = 10_000) -> Directory:
    """Nodes that have all missed their heartbeat and whose grace ends at once; most are held."""
    directory = make_directory(silence=mass_silence_options(), nodes_max=count)
    for number in range(count):
        register(directory, f"n{number}", at(0.0))
    for number in range(count):
        directory.nodes.registry.last_seen_s[number] = -180 * DAY_S
        directory.nodes.enter(number, Event.DEADLINE, at=at(0.0).wall_s, at_s=0.0)
        directory.nodes.deadlines.arm(number, 2 * DAY_S)
    run_until(directory, day(2))
    assert directory.expiry.silence.hold is not None
    assert len(directory.expiry.waiting) == count - 500
    return directory


def test_nodes_that_were_silent_already_count_once_for_a_hold() -> None:
    directory = checked_once()
    for number in range(10_000):
        beat(directory, f"n{number}", day(2))
        if number in (4_874, 9_748):
            run_until(directory, day(2))
            assert directory.expiry.silence.hold is not None
        if number == 9_749:
            run_until(directory, day(2))
            assert directory.expiry.silence.hold is None
            break


def test_a_waiting_node_that_counts_is_one_silent_node() -> None:
    directory = fallen_silent(replace(SHORT_LIFE, grace_s=1 / 64))
    # Ten advanced; time stands still, but a hold begins a moment later than its last look.
    run_until(directory, at(10.5))
    assert len(directory.expiry.waiting) == 40
    for number in range(5, 40):
        assert directory.expiry.silence.hold is not None
        beat(directory, f"n{number}", at(10.5))
        run_until(directory, at(10.5))
    assert directory.expiry.silence.hold is None


@pytest.mark.parametrize("go", [beat, Directory.leave, Directory.forget])
def test_a_hold_ends_when_all_nodes_are_back_or_gone(go: Callable[[Directory, str, Now], object]) -> None:
    directory = fallen_silent()
    for number in range(40):
        go(directory, f"n{number}", at(10.0))
    run_until(directory, at(10.0))
    assert directory.expiry.silence.hold is None
    assert directory.expiry.silence.recent == 0
    expect_consistent(directory, at(10.0))


def test_a_hold_ends_when_the_dead_are_registered_again() -> None:
    directory = make_directory(life=SHORT_LIFE, silence=SUSPICIOUS)
    for number in range(40):
        register(directory, f"n{number}", at(0.0))
        directory.leave(f"n{number}", at(0.0))
    run_until(directory, at(16.0))
    assert (len(directory), directory.expiry.silence.recent) == (32, 8)
    assert directory.expiry.silence.hold is not None
    for number in range(40):
        register(directory, f"n{number}", at(16.0))
    run_until(directory, at(16.0))
    assert directory.expiry.silence.hold is None


def test_a_node_without_tombstone_counts_no_more_once_registered() -> None:
    directory = make_directory(life=SHORT_LIFE, nodes_max=1)
    register(directory, "a", at(0.0))
    run_until(directory, at(57.0))
    assert (state_of(directory, "a"), directory.expiry.silence.recent) == (State.ABSENT, 1)
    register(directory, "a", at(57.0))
    assert directory.expiry.silence.recent == 0


def test_a_hold_ends_after_its_longest_time() -> None:
    directory = fallen_silent()
    run_until(directory, Now(10.0, at(10.0).wall_s, at(109.0).monotonic_s))
    assert directory.expiry.silence.hold is not None
    run_until(directory, Now(10.0, at(10.0).wall_s, at(110.0).monotonic_s))
    assert directory.expiry.silence.hold is None


def test_after_a_hold_at_most_fifteen_percent_advance_in_a_pass() -> None:
    directory = fallen_silent(lifecycle_options(heartbeat_tolerance_s=10.0))
    assert directory.expiry.release_hold(at(10.0))
    assert not directory.expiry.release_hold(at(10.0))
    run_until(directory, at(10.0))
    assert advanced(directory) == 16
    run_until(directory, at(11.0))
    assert advanced(directory) == 16
    expect_consistent(directory, at(11.0))
    run_until(directory, at(69.0))
    assert advanced(directory) == 16
    for passes in range(1, 4):
        run_until(directory, at(10.0 + 60.0 * passes))
        assert advanced(directory) == 16 + 6 * passes
    run_until(directory, at(300.0))
    assert advanced(directory) == 40
    assert not directory.expiry.silence.releasing


def test_a_waiting_node_may_be_heard_change_leave_and_be_forgotten() -> None:
    directory = fallen_silent()
    held = [f"n{number}" for number in range(40) if state_of(directory, f"n{number}") is State.ACTIVE]
    register(directory, held[0], at(10.0), region="eu")
    beat(directory, held[1], at(10.0))
    directory.leave(held[2], at(10.0))
    directory.forget(held[3], at(10.0))
    assert len(directory.expiry.waiting) == 26
    expect_consistent(directory, at(10.0))
    directory.expiry.release_hold(at(10.0))
    run_until(directory, at(10.0))
    states = [state_of(directory, name) for name in held[:4]]
    assert states == [State.ACTIVE, State.ACTIVE, State.COMA, State.DEAD]
    expect_consistent(directory, at(10.0))


def test_amending_a_waiting_node_does_not_let_it_go() -> None:
    directory = fallen_silent()
    held = next(slot for slot in range(40) if slot in directory.expiry.waiting)
    said = registration(directory.nodes.registry.node_id(held), region="eu")
    record = directory.amended(held, said, at(10.0))
    assert record is not None
    directory.amend(record)
    assert held in directory.expiry.waiting
    assert directory.nodes.deadlines.armed_s(held) is None
    expect_consistent(directory, at(10.0))


# Probing: ask before believing a silence.


def asked(directory: Directory) -> list[str]:
    requests = [request.node_id for request in directory.expiry.probe_requests]
    directory.expiry.probe_requests.clear()
    return requests


def answer(directory: Directory, node_id: str, now: Now, *, alive: bool) -> None:
    slot = directory.nodes.registry.slot_of(node_id)
    assert slot is not None
    directory.expiry.probed(slot, node_id, alive=alive, now=now)
    run_until(directory, now)


def probing() -> Directory:
    directory = make_directory(life=SHORT_LIFE, probing=True)
    register(directory, "a", at(0.0))
    run_until(directory, at(10.0))
    return directory


def test_a_due_node_is_asked_once_where_it_registered() -> None:
    directory = probing()
    (request,) = directory.expiry.probe_requests
    assert (request.node_id, request.address, request.port) == ("a", "192.0.2.1", 9_000)
    run_until(directory, at(11.0))
    assert len(directory.expiry.probe_requests) == 1
    assert state_of(directory, "a") is State.ACTIVE
    expect_consistent(directory, at(11.0))


def test_an_answered_probe_is_a_sign_of_life() -> None:
    directory = probing()
    asked(directory)
    answer(directory, "a", at(11.0), alive=True)
    assert record_of(directory, "a").last_seen_s == 11.0
    run_until(directory, at(20.0))
    assert asked(directory) == []
    run_until(directory, at(21.0))
    assert asked(directory) == ["a"]
    assert state_of(directory, "a") is State.ACTIVE


def test_an_unanswered_probe_counts_from_the_deadline() -> None:
    directory = probing()
    answer(directory, "a", at(11.0), alive=False)
    assert state_of(directory, "a") is State.PENDING_FIRST_CHECK
    assert record_of(directory, "a").since_s == 10.0
    expect_consistent(directory, at(11.0))


def test_a_probe_counts_as_unanswered_after_a_minute() -> None:
    directory = probing()
    run_until(directory, at(69.0))
    assert state_of(directory, "a") is State.ACTIVE
    run_until(directory, at(70.0))
    # It died at 47 s, and its tombstone went at 57 s.
    assert state_of(directory, "a") is State.ABSENT


def test_a_heartbeat_makes_a_pending_probe_irrelevant() -> None:
    directory = probing()
    beat(directory, "a", at(11.0))
    slot = directory.nodes.registry.slot_of("a")
    assert slot is not None
    assert slot not in directory.expiry.asked
    answer(directory, "a", at(12.0), alive=False)
    assert state_of(directory, "a") is State.ACTIVE
    run_until(directory, at(21.0))
    assert slot in directory.expiry.asked
    expect_consistent(directory, at(21.0))


def test_a_late_answer_is_a_sign_of_life() -> None:
    directory = probing()
    run_until(directory, at(30.0))
    directory.expiry.probed(0, "a", alive=False, now=at(10.0))
    run_until(directory, at(30.0))
    assert state_of(directory, "a") is State.RETRY_2M
    directory.expiry.probed(0, "a", alive=True, now=at(31.0))
    assert state_of(directory, "a") is State.ACTIVE
    assert record_of(directory, "a").last_seen_s == 31.0
    expect_consistent(directory, at(31.0))


def test_a_late_answer_does_not_revive_a_node_that_left() -> None:
    directory = probing()
    directory.leave("a", at(11.0))
    directory.expiry.probed(0, "a", alive=True, now=at(12.0))
    assert state_of(directory, "a") is State.COMA
    assert record_of(directory, "a").flags & LEFT


def test_probe_we_cannot_make_is_postponed() -> None:
    directory = probing()
    for round_s in (10.0, 10.0 + POSTPONE_S, 10.0 + 2 * POSTPONE_S):
        run_until(directory, at(round_s - STEP_S))
        assert asked(directory) == ([] if round_s > 10.0 else ["a"])
        run_until(directory, at(round_s))
        assert asked(directory) == (["a"] if round_s > 10.0 else [])
        directory.expiry.postpone(0, "a", at(round_s))
        assert 0 in directory.expiry.postponed
        assert state_of(directory, "a") is State.ACTIVE
        expect_consistent(directory, at(round_s))
    beat(directory, "a", at(620.0))
    assert 0 not in directory.expiry.postponed
    expect_consistent(directory, at(620.0))
    run_until(directory, at(630.0))
    assert asked(directory) == ["a"]


def test_probe_that_failed_for_our_reasons_is_postponed() -> None:
    directory = probing()
    run_until(directory, at(10.0))
    assert asked(directory) == ["a"]
    directory.expiry.probed(0, "a", alive=None, now=at(10.0))
    assert 0 in directory.expiry.postponed
    assert state_of(directory, "a") is State.ACTIVE
    run_until(directory, at(10.0 + POSTPONE_S))
    assert asked(directory) == ["a"]
    expect_consistent(directory, at(10.0 + POSTPONE_S))


def test_a_postponed_probe_takes_no_place_of_others() -> None:
    directory = fallen_silent(probing=True)
    for node_id in asked(directory):
        slot = directory.nodes.registry.slot_of(node_id)
        assert slot is not None
        directory.expiry.postpone(slot, node_id, at(10.0))
    run_until(directory, at(10.0))
    assert len(asked(directory)) == 10
    assert directory.expiry.silence.hold is None
    expect_consistent(directory, at(10.0))


def test_only_a_pending_probe_can_be_postponed() -> None:
    directory = probing()
    beat(directory, "a", at(11.0))
    directory.expiry.postpone(0, "a", at(11.0))
    assert 0 not in directory.expiry.postponed
    run_until(directory, at(21.0))
    assert 0 in directory.expiry.asked


def test_an_answer_for_a_reused_slot_is_ignored() -> None:
    directory = probing()
    slot = directory.nodes.registry.slot_of("a")
    assert slot is not None
    directory.forget("a", at(11.0))
    assert register(directory, "b", at(11.0)) == slot
    directory.expiry.probed(slot, "a", alive=True, now=at(15.0))
    assert record_of(directory, "b").last_seen_s == 11.0


def test_a_node_whose_probe_cannot_be_made_is_set_aside() -> None:
    directory = make_directory(life=SHORT_LIFE, probing=True)
    register(directory, "a", at(0.0))
    slot = broken(directory, "a")
    run_until(directory, at(10.0))
    assert list(directory.expiry.set_aside) == [slot]
    assert slot not in directory.expiry.asked


def test_without_answered_probes_a_mass_silence_is_held() -> None:
    """All are due, all are asked, nobody answers: no more may be believed than without probing."""
    directory = fallen_silent(probing=True)
    everybody = asked(directory)
    assert len(everybody) == 10
    assert directory.expiry.silence.hold is None
    for node_id in everybody:
        answer(directory, node_id, at(11.0), alive=False)
    run_until(directory, at(11.0))
    assert advanced(directory) == 10
    assert directory.expiry.silence.hold is not None
    assert asked(directory) == []
    expect_consistent(directory, at(11.0))


def test_answered_probes_let_all_nodes_be_probed_without_a_hold() -> None:
    directory = fallen_silent(probing=True)
    heard = set()
    for second in range(11, 15):
        for node_id in asked(directory):
            heard.add(node_id)
            answer(directory, node_id, at(float(second)), alive=True)
    assert len(heard) == 40
    assert directory.expiry.silence.hold is None
    assert directory.nodes.registry.state_counts[State.ACTIVE] == 40


def test_lost_probes_do_not_block_waiting_nodes() -> None:
    directory = fallen_silent(probing=True)
    for second in range(11, 3_000):
        run_until(directory, at(float(second)))
        if directory.expiry.silence.hold is not None:
            directory.expiry.release_hold(at(float(second)))
    assert len(directory) == 0


def populated(seed: int, *, absences: bool) -> Directory:
    """Some hundred nodes: of many sets and regions, hidden, held, away, gone, revived, heard at any time."""
    chance = random.Random(seed)
    directory = make_directory(life=SHORT_LIFE)
    for number in range(300):
        now, name = at(number / 100), f"n{number}"
        services = ",".join(sorted(chance.sample(["chat", "mail", "relay"], chance.randrange(4))))
        register(directory, name, now, services=services, region=chance.choice(["", "eu"]))
    for number in range(300):
        now, name = at(3.0 + number / 100), f"n{number}"
        match chance.randrange(8):
            case 0:
                directory.hold(name, now)
            case 1:
                directory.leave(name, now)
            case 2 if absences:
                slot = directory.slot(name, now)
                away_until_s = now.attended_s + chance.randrange(20)
                directory.nodes.rewrite(record_of(directory, name)._replace(away_until_s=away_until_s))
                directory.expiry.let_go(slot)
            case 3 | 4:
                beat(directory, name, now)
            case 5:
                directory.forget(name, now)
    directory.nodes.transitions.take()
    return directory


def lived_through(directory: Directory) -> list[Transition]:
    """All transitions of living nodes. The end of a tombstone depends on the order of the deaths."""
    return sorted(each for each in directory.nodes.transitions.take() if each.from_state is not State.DEAD)


@pytest.mark.parametrize("absences", [False, True])
@pytest.mark.parametrize("moments", [[60.0], [12.0, 14.5, 16.0, 30.0, 47.0, 48.5, 70.0]])
def test_many_due_at_once_change_like_one_by_one(moments: list[float], absences: bool, seed: int) -> None:
    together, single = populated(seed, absences=absences), populated(seed, absences=absences)
    for moment in moments:
        now = at(moment)
        while together.expiry.expire_due(now, 1_000) == 1_000:
            pass
        while single.expiry.expire_due(now, 1):
            pass
        for name in (f"n{number}" for number in range(300)):
            lives = state_of(single, name) in LIVE_STATES
            assert lives is (state_of(together, name) in LIVE_STATES)
            if lives:
                assert record_of(together, name) == record_of(single, name)
        expect_consistent(together, now)
        assert together.expiry.silence.recent == single.expiry.silence.recent
        assert lived_through(together) == lived_through(single)
        changed = [set(each.nodes.changes.take(100_000)) for each in (together, single)]
        assert changed[0] == changed[1]
        # A heartbeat in between lets some of them be looked at too early the next time.
        for name in ("n1", "n2", "n3"):
            if state_of(single, name) in LIVE_STATES:
                beat(together, name, now)
                beat(single, name, now)


def test_a_broken_record_among_many_is_set_aside_alone() -> None:
    directory = make_directory(life=SHORT_LIFE)
    slots = [register(directory, f"n{number}", at(0.0)) for number in range(50)]
    directory.nodes.registry.last_seen_s[slots[7]] = float("nan")
    directory.nodes.registry.states[slots[9]] = State.ABSENT
    run_until(directory, at(10.0))
    assert sorted(directory.expiry.set_aside) == [slots[7], slots[9]]
    others = {state_of(directory, f"n{number}") for number in range(50) if number not in (7, 9)}
    assert others == {State.PENDING_FIRST_CHECK}


@pytest.mark.parametrize("away_until_s", [1e17, 1e300, float("inf")])
def test_an_impossible_absence_stops_no_other_node(away_until_s: float) -> None:
    directory = make_directory(life=SHORT_LIFE)
    slots = [register(directory, f"n{number}", at(0.0)) for number in range(50)]
    damage(directory, slots[7], away_until_s=away_until_s)
    run_until(directory, at(10.0))
    assert directory.nodes.registry.state_counts[State.PENDING_FIRST_CHECK] == 49
    assert state_of(directory, "n7") is State.ACTIVE


def test_a_broken_hidden_node_stops_no_other_node() -> None:
    directory = make_directory(life=SHORT_LIFE)
    slots = [register(directory, f"n{number}", at(0.0), discoverable=False) for number in range(50)]
    directory.nodes.registry.states[slots[7]] = State.DEAD
    run_until(directory, at(10.0))
    assert list(directory.expiry.set_aside) == [slots[7]]
    assert directory.nodes.registry.state_counts[State.PENDING_FIRST_CHECK] == 49


def test_a_broken_history_stops_no_other_node() -> None:
    directory = make_directory(life=SHORT_LIFE)
    slots = [register(directory, f"n{number}", at(0.0)) for number in range(50)]
    damage(directory, slots[7], history=b"no text")
    run_until(directory, at(10.0))
    assert list(directory.expiry.set_aside) == [slots[7]]
    assert directory.nodes.registry.state_counts[State.PENDING_FIRST_CHECK] == 49


def test_many_at_once_are_believed_like_one_by_one() -> None:
    silence = mass_silence_options(share=0.1, nodes_min=20)
    directory = make_directory(life=SHORT_LIFE, silence=silence)
    for number in range(300):
        register(directory, f"n{number}", at(0.0))
    directory.expiry.expire_due(at(10.0), 1_000)
    assert directory.expiry.silence.hold is not None
    assert directory.expiry.silence.recent == 30
    assert directory.nodes.registry.state_counts[State.ACTIVE] == 270


@pytest.mark.parametrize("probing", [False, True])
@pytest.mark.parametrize("nodes", [1, 40])
def test_nobody_is_buried_while_a_sign_of_life_may_be_on_its_way(nodes: int, probing: bool) -> None:
    directory = make_directory(probing=probing)
    names = [f"node-{number}" for number in range(nodes)]
    for name in names:
        register(directory, name, at(0.0))
    may_bury = False
    directory.expiry.may_bury = lambda: may_bury
    for now in (day(700), day(988, 1), day(990), day(1_100)):
        run_until(directory, now)
        expect_consistent(directory, now)
    assert {state_of(directory, name) for name in names} == {State.COMA}
    beat(directory, names[0], day(1_101))
    may_bury = True
    # The last probe may have to go unanswered first.
    run_until(directory, day(1_102))
    run_until(directory, day(1_103))
    states = [state_of(directory, name) for name in names]
    assert states == [State.ACTIVE] + [State.DEAD] * (nodes - 1)
    expect_consistent(directory, day(1_103))


def test_node_whose_death_is_postponed_is_not_probed_for_that() -> None:
    directory = make_directory(probing=True)
    register(directory, "a", at(0.0))
    directory.expiry.may_bury = lambda: False
    for days in range(180, 988):
        run_until(directory, day(days))
    assert state_of(directory, "a") is State.COMA
    directory.expiry.probe_requests.clear()
    for days in range(1_000, 1_010):
        run_until(directory, day(days))
    assert not directory.expiry.probe_requests


def test_node_that_dies_late_is_dead_since_its_deadline() -> None:
    at_once, late = make_directory(), make_directory()
    late.expiry.may_bury = lambda: False
    for directory in (at_once, late):
        register(directory, "a", at(0.0))
        run_until(directory, day(1_000))
    late.expiry.may_bury = lambda: True
    run_until(late, day(1_001))
    assert late.nodes.tombstones.of_node("a") == at_once.nodes.tombstones.of_node("a")

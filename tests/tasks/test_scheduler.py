"""The scheduler advances time, handles deadlines in pieces, and reports transitions."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

import pytest

from openred_central.clock import AttendedTime
from openred_central.directory.empathy.watch import Darkness
from openred_central.directory.life.expiry import POSTPONE_S, ProbeRequest
from openred_central.directory.life.mass_silence import MassSilenceOptions
from openred_central.directory.lifecycle import LifecycleOptions, State
from openred_central.directory.state.node import Transition
from openred_central.errors import CallerError
from openred_central.tasks.prober import Submission
from openred_central.tasks.scheduler import (
    AWAIT_S,
    PAUSE_S_MIN,
    PENDING_MAX,
    PIECE_NODES,
    TRANSITIONS_LOGGED_MAX,
    Scheduler,
    log_darkness,
    log_transitions,
)
from tests.support.building import (
    EPOCH_S,
    NEVER_HOLDS,
    SHORT_LIFE,
    at,
    make_directory,
    record_of,
    register,
    state_of,
)
from tests.support.clock import VirtualClock
from tests.support.options import lifecycle_options, mass_silence_options

SUSPICIOUS = mass_silence_options(share=0.25, nodes_min=4, hold_s_max=100.0)


class Run:
    """A directory with a scheduler, a virtual clock, and the transitions reported."""

    def __init__(
        self,
        *,
        silence: MassSilenceOptions = NEVER_HOLDS,
        probing: bool = False,
        submit: Callable[[ProbeRequest], Submission] = lambda _: Submission.REFUSED,
        life: LifecycleOptions = SHORT_LIFE,
        **options: int,
    ) -> None:
        self.clock = VirtualClock()
        self.attended = AttendedTime(self.clock, tick_s=1.0)
        self.directory = make_directory(life=life, silence=silence, probing=probing, **options)
        self.reachable = True
        self.horizon_s = math.inf
        self.reported: list[Sequence[Transition]] = []
        self.directory.nodes.transitions.observers.append(self.reported.append)
        self.scheduler = Scheduler(
            self.directory,
            self.attended,
            tick_s=1.0,
            store_reachable=lambda: self.reachable,
            submit_probe=submit,
            horizon_s=lambda: self.horizon_s,
        )

    def register(self, *names: str) -> None:
        for name in names:
            register(self.directory, name, self.attended.now())

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(1.0)
            while self.scheduler.tick():
                pass

    def state(self, name: str) -> State:
        return state_of(self.directory, name)


def test_nodes_change_state_at_their_deadline() -> None:
    run = Run()
    run.register("a")
    run.seconds(9)
    assert run.state("a") is State.ACTIVE
    run.seconds(1)
    assert run.state("a") is State.PENDING_FIRST_CHECK


def test_no_deadline_counts_beyond_the_horizon() -> None:
    run = Run()
    run.register("a", "b")
    for horizon_s in (9.5, 10.0):
        run.horizon_s = horizon_s
        run.seconds(20)
        assert (run.state("a"), run.state("b")) == (State.ACTIVE, State.ACTIVE), (
            "a sign of life may be on its way, also of that very moment"
        )
    assert run.scheduler.pause_s() == AWAIT_S, "and nobody spins meanwhile"
    run.directory.heartbeat(0, at(9.0))
    run.horizon_s = 12.5
    run.seconds(1)
    assert (run.state("a"), run.state("b")) == (State.ACTIVE, State.FAILED_FIRST_CHECK)
    assert record_of(run.directory, "b").since_s == 12.0
    [(_, first_at), *_] = [(each.at_s, each.at) for each in run.reported[-1]]
    assert first_at == EPOCH_S + 10.0, "a state ends at its deadline, however late we look"
    run.horizon_s = math.inf
    run.seconds(1)
    assert run.state("b") is State.COMA


def test_tombstones_stand_up_to_the_horizon() -> None:
    run = Run()
    run.register("a")
    run.directory.forget("a", run.attended.now())
    run.horizon_s = 9.5
    run.seconds(12)
    assert run.state("a") is State.DEAD
    run.horizon_s = 10.5
    run.seconds(1)
    assert run.state("a") is State.ABSENT


def test_a_tick_does_one_piece_of_work() -> None:
    run = Run()
    run.register(*(f"n{number}" for number in range(2 * PIECE_NODES + 1)))
    run.seconds(9)
    run.clock.advance(1.0)
    counts = run.directory.nodes.registry.state_counts
    assert run.scheduler.tick()
    assert counts[State.PENDING_FIRST_CHECK] == PIECE_NODES
    assert run.scheduler.tick()
    assert not run.scheduler.tick()
    assert counts[State.PENDING_FIRST_CHECK] == 2 * PIECE_NODES + 1


def test_no_node_changes_state_while_many_changes_wait_for_the_store() -> None:
    run = Run()
    run.register(*(f"n{number}" for number in range(PENDING_MAX + PIECE_NODES)))
    run.seconds(10)
    changed = run.directory.nodes.registry.state_counts[State.PENDING_FIRST_CHECK]
    assert (changed, run.scheduler.lateness.count) == (0, 0)
    run.directory.saving.take_changes(PENDING_MAX, run.attended.now())
    run.seconds(1)
    waiting = run.directory.saving.pending_records
    assert PENDING_MAX <= waiting < PENDING_MAX + PIECE_NODES
    for _ in range(2):
        run.directory.saving.take_changes(PENDING_MAX, run.attended.now())
        run.seconds(1)
    assert run.directory.nodes.registry.state_counts[State.ACTIVE] == 0


def test_heartbeats_that_wait_for_the_store_hold_up_no_node() -> None:
    run = Run()
    run.register(*(f"n{number}" for number in range(PENDING_MAX - 1)))
    run.directory.saving.take_changes(PENDING_MAX, run.attended.now())
    run.register("silent")
    run.seconds(5)
    for slot in range(PENDING_MAX - 1):
        run.directory.heartbeat(slot, run.attended.now())
    run.seconds(5)
    assert run.state("silent") is State.PENDING_FIRST_CHECK


def test_a_suspended_machine_ages_nodes_by_two_ticks_at_most() -> None:
    run = Run()
    run.register("a")
    run.clock.advance(365 * 86_400.0)
    run.scheduler.tick()
    assert run.attended.now().attended_s == 2.0
    assert run.state("a") is State.ACTIVE


def test_time_stands_still_while_the_store_cannot_be_reached() -> None:
    run = Run()
    run.register("a")
    run.seconds(5)
    run.reachable = False
    run.seconds(1)
    before = run.attended.now().attended_s
    run.seconds(100)
    assert run.attended.now().attended_s == before
    run.reachable = True
    run.seconds(4)
    assert run.state("a") is State.ACTIVE
    run.seconds(1)
    assert run.state("a") is State.PENDING_FIRST_CHECK


def test_a_jump_of_the_wall_clock_is_logged_and_moves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    run.register("a")
    run.clock.jump_wall(-2 * 365 * 86_400.0)
    run.seconds(9)
    assert "the wall clock jumped by -63072000.0 s" in caplog.text
    assert run.state("a") is State.ACTIVE
    run.seconds(1)
    assert run.state("a") is State.PENDING_FIRST_CHECK


def test_every_transition_is_reported_once_in_order() -> None:
    run = Run()
    run.register("a")
    run.seconds(58)
    reported = [(one.node_id, one.to_state) for batch in run.reported for one in batch]
    assert reported[:3] == [
        ("a", State.ACTIVE),
        ("a", State.PENDING_FIRST_CHECK),
        ("a", State.FAILED_FIRST_CHECK),
    ]
    assert [state for _, state in reported[-3:]] == [State.COMA, State.DEAD, State.ABSENT]
    assert len(reported) == 9
    assert not run.directory.nodes.transitions.take()


def test_a_tick_without_transitions_reports_nothing() -> None:
    run = Run()
    run.seconds(5)
    assert run.reported == []


def test_mass_silence_is_logged_and_stops_time_at_once(caplog: pytest.LogCaptureFixture) -> None:
    run = Run(silence=SUSPICIOUS)
    run.register(*(f"n{number}" for number in range(40)))
    run.seconds(10)
    assert "mass silence: transitions are held: 10 of 40" in caplog.text
    before = run.attended.now().attended_s
    run.clock.advance(0.5)
    assert run.attended.now().attended_s == before
    run.seconds(99)
    assert run.attended.now().attended_s == before
    run.seconds(1)
    assert "the hold has ended" in caplog.text
    run.seconds(2)
    assert run.attended.now().attended_s > before


@pytest.mark.parametrize("way", ["heartbeat", "registration", "operator"])
def test_time_stands_still_while_nobody_is_heard(way: str, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(life=lifecycle_options(), silence=mass_silence_options(all_silent_s=20.0))
    run.register("a", "b")
    attendance = run.directory.expiry.attendance
    attendance.usual_gap_s = 0.5
    run.seconds(19)
    # No sign of life.
    run.directory.forget("b", run.attended.now())
    assert attendance.hold is None
    run.seconds(3)
    assert caplog.text.count("nobody is heard, so attended time stands still: none of 1 active") == 1
    before = run.attended.now().attended_s
    run.seconds(1_000)
    assert run.attended.now().attended_s == before
    assert run.scheduler.pause_s() == 1.0
    match way:
        case "heartbeat":
            run.directory.heartbeat(0, run.attended.now())
        case "registration":
            run.register("c")
        case _:
            assert run.directory.expiry.release_hold(run.attended.now())
            assert not run.directory.expiry.release_hold(run.attended.now())
    run.seconds(11)
    assert run.attended.now().attended_s == before + 10
    reason = " although nobody is heard" if way == "operator" else ": a node was heard"
    assert caplog.text.count(f"attended time goes on{reason}") == 1


def test_one_sign_of_life_lets_the_clock_run() -> None:
    run = Run(life=lifecycle_options(), silence=mass_silence_options(all_silent_s=20.0))
    run.register(*(f"n{number}" for number in range(100)))
    run.directory.expiry.attendance.usual_gap_s = 0.5
    for _ in range(100):
        run.seconds(10)
        run.directory.heartbeat(0, run.attended.now())
    assert run.attended.now().attended_s == 1_000.0


def test_each_node_that_is_set_aside_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    run.register("a", "b", "c")
    for slot in (0, 2):
        registry = run.directory.nodes.registry
        registry.replace(registry.record(slot)._replace(profile=b"broken"))
    run.seconds(47)
    reported = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [line.partition(" failed")[0] for line in reported] == [
        "the transition of the node in slot 0",
        "the transition of the node in slot 2",
    ]
    run.seconds(5)
    assert len(reported) == 2


def test_learned_values_that_cannot_be_stored_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    kept = run.directory.nodes.kept
    for name in ("sound", "broken"):
        kept.note(name, lambda: b"%d" % (1 // 0))
    kept.take(16)
    run.seconds(5)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith("2 learned values cannot be stored")
    assert "'broken': ZeroDivisionError" in line
    caplog.clear()
    kept.note("sound", lambda: b"value")
    kept.take(16)
    run.seconds(5)
    assert not caplog.records


def test_a_postponed_probe_is_submitted_again() -> None:
    submissions = [Submission.LATER, Submission.LATER, Submission.REFUSED]
    run = Run(probing=True, submit=lambda _: submissions.pop(0))
    run.register("a")
    run.seconds(11)
    assert (run.state("a"), len(submissions)) == (State.ACTIVE, 2)
    run.seconds(int(POSTPONE_S))
    assert (run.state("a"), len(submissions)) == (State.ACTIVE, 1)
    run.seconds(int(POSTPONE_S))
    assert submissions == []
    assert run.state("a") is not State.ACTIVE


def test_a_forbidden_probe_counts_as_failed() -> None:
    run = Run(probing=True)
    run.register("a")
    run.seconds(11)
    assert run.state("a") is State.PENDING_FIRST_CHECK


def test_a_node_keeps_its_state_until_its_probe_ends() -> None:
    asked: list[ProbeRequest] = []

    def submit(request: ProbeRequest) -> Submission:
        asked.append(request)
        return Submission.ACCEPTED

    run = Run(probing=True, submit=submit)
    run.register("a")
    run.seconds(12)
    assert [request.node_id for request in asked] == ["a"]
    assert run.state("a") is State.ACTIVE
    run.directory.expiry.probed(asked[0].slot, "a", alive=False, now=run.attended.now())
    run.seconds(1)
    # Its silence counts from the deadline on.
    assert run.state("a") is State.RETRY_48H


def test_it_sleeps_until_the_next_deadline_at_most_a_tick() -> None:
    run = Run()
    assert run.scheduler.pause_s() == 1.0
    run.register("a")
    assert run.scheduler.pause_s() == 1.0
    run.seconds(9)
    run.clock.advance(0.75)
    assert run.scheduler.pause_s() == 0.25
    run.clock.advance(0.25)
    assert run.scheduler.pause_s() == PAUSE_S_MIN


def test_it_sleeps_while_transitions_must_wait() -> None:
    run = Run(silence=SUSPICIOUS)
    run.register(*(f"n{number}" for number in range(40)))
    run.seconds(10)
    assert run.scheduler.pause_s() == 1.0
    run.directory.expiry.release_hold(run.attended.now())
    run.seconds(2)
    assert run.directory.expiry.silence.releasing
    assert run.scheduler.pause_s() == 1.0
    run.reachable = False
    run.seconds(1)
    assert run.scheduler.pause_s() == 1.0


def test_its_longest_delay_is_known() -> None:
    run = Run()
    run.register("a")
    run.seconds(9)
    run.clock.advance(1.5)
    run.scheduler.tick()
    assert run.scheduler.late_s_max == 0.5


async def test_other_tasks_get_turns_between_pieces_of_work() -> None:
    run = Run()
    run.register(*(f"n{number}" for number in range(10 * PIECE_NODES)))
    for _ in range(10):
        run.clock.advance(1.0)
        run.attended.tick(attending=True)
    task = asyncio.get_running_loop().create_task(run.scheduler.run())
    turns = 0
    while not run.scheduler.ticks > 10:
        turns += 1
        await asyncio.sleep(0)
    # Other tasks had a turn between two pieces of work.
    assert turns >= 10
    assert run.directory.nodes.registry.state_counts[State.ACTIVE] == 0
    run.scheduler.stop()
    await asyncio.wait_for(task, 5.0)


async def test_a_stop_ends_its_sleep() -> None:
    run = Run()
    task = asyncio.get_running_loop().create_task(run.scheduler.run())
    while run.scheduler.ticks == 0:
        await asyncio.sleep(0)
    run.scheduler.stop()
    while not task.done():
        await asyncio.sleep(0)
    assert run.scheduler.ticks == 1


def test_a_lack_of_bytes_is_logged_once_until_there_is_room_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    run = Run(life=lifecycle_options(), nodes_bytes_max=1_000)

    def logged() -> list[str]:
        return [record.getMessage() for record in caplog.records if "bytes" in record.getMessage()]

    def fill() -> None:
        register(run.directory, "fat", run.attended.now(), metadata={"padding": "x" * 850})
        for name in ("a", "b"):
            with pytest.raises(CallerError, match="directory_full"):
                register(run.directory, name, run.attended.now(), metadata={"padding": "x" * 850})
            run.seconds(1)

    fill()
    assert len(logged()) == 1
    assert "of 1000 bytes" in logged()[0]
    assert "OPENRED_NODES_BYTES_MAX" in logged()[0]
    run.directory.forget("fat", run.attended.now())
    run.seconds(2)
    assert logged()[1:] == ["the records of all nodes take 0 of 1000 bytes: there is room again"]
    fill()
    assert len(logged()) == 3


def fallen_silent(count: int) -> list[Transition]:
    return [
        Transition(0.0, 0.0, f"node-{number}", State.ACTIVE, State.PENDING_FIRST_CHECK, "deadline")
        for number in range(count)
    ]


def test_each_transition_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_transitions(fallen_silent(TRANSITIONS_LOGGED_MAX))
    assert caplog.messages == [
        f"node node-{number}: active → pending_1st (deadline)" for number in range(TRANSITIONS_LOGGED_MAX)
    ]


def test_very_many_transitions_are_logged_as_counts(caplog: pytest.LogCaptureFixture) -> None:
    gone = [Transition(0.0, 0.0, "gone", State.COMA, State.DEAD, "deadline")]
    with caplog.at_level(logging.INFO):
        log_transitions(fallen_silent(1_000) + gone)
    assert caplog.messages == [
        "1000 nodes: active → pending_1st (deadline)",
        "1 node: coma → dead (deadline)",
    ]


def test_dark_networks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    darkness = Darkness(b"\xc6\x33\x07", EPOCH_S, 31.2, 2, 50)
    with caplog.at_level(logging.INFO):
        log_darkness(darkness, True, at(1.0))
        log_darkness(darkness, False, at(1.0))
    assert caplog.messages == [
        "198.51.7.0/24 is dark: 2 of 31 nodes were heard since 2027-01-15T08:00:00.000Z",
        "198.51.7.0/24 is back",
    ]

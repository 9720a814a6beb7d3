"""The one task that lets the life cycle run: time, pieces of work, and what it tells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import pytest

from openred_central.clock import AttendedTime
from openred_central.directory.life.expiry import POSTPONE_S, ProbeRequest
from openred_central.directory.life.mass_silence import MassSilenceOptions
from openred_central.directory.lifecycle import LifecycleOptions, State
from openred_central.directory.state.node import Transition
from openred_central.errors import CallerError
from openred_central.tasks.prober import Submission
from openred_central.tasks.scheduler import (
    PAUSE_S_MIN,
    PIECE_NODES,
    TRANSITIONS_LOGGED_MAX,
    Scheduler,
    log_transitions,
)
from tests.support.building import NEVER_HOLDS, SHORT_LIFE, make_directory, register, state_of
from tests.support.clock import VirtualClock
from tests.support.options import lifecycle_options, mass_silence_options

SUSPICIOUS = mass_silence_options(share=0.25, nodes_min=4, hold_s_max=100.0)


class Run:
    """A directory with a scheduler, a clock that is wound by hand, and what the scheduler told."""

    def __init__(
        self,
        *,
        silence: MassSilenceOptions = NEVER_HOLDS,
        probing: bool = False,
        ask: Callable[[ProbeRequest], Submission] = lambda _: Submission.REFUSED,
        life: LifecycleOptions = SHORT_LIFE,
        **options: int,
    ) -> None:
        self.clock = VirtualClock()
        self.attended = AttendedTime(self.clock, tick_s=1.0)
        self.directory = make_directory(life=life, silence=silence, probing=probing, **options)
        self.reachable = True
        self.told: list[Sequence[Transition]] = []
        self.directory.nodes.transitions.observers.append(self.told.append)
        self.scheduler = Scheduler(
            self.directory,
            self.attended,
            tick_s=1.0,
            store_reachable=lambda: self.reachable,
            submit_probe=ask,
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


def test_nodes_fall_silent_when_their_time_has_come() -> None:
    run = Run()
    run.register("a")
    run.seconds(9)
    assert run.state("a") is State.ACTIVE
    run.seconds(1)
    assert run.state("a") is State.PENDING_FIRST_CHECK


def test_a_tick_does_one_piece_of_work_and_says_whether_there_is_more() -> None:
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


def test_a_suspended_machine_ages_nobody_by_more_than_two_ticks() -> None:
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


def test_every_transition_is_told_once_in_order() -> None:
    run = Run()
    run.register("a")
    run.seconds(58)
    told = [(one.node_id, one.to_state) for batch in run.told for one in batch]
    assert told[:3] == [
        ("a", State.ACTIVE),
        ("a", State.PENDING_FIRST_CHECK),
        ("a", State.FAILED_FIRST_CHECK),
    ]
    assert [state for _, state in told[-3:]] == [State.COMA, State.DEAD, State.ABSENT]
    assert len(told) == 9
    assert not run.directory.nodes.transitions.take()


def test_nobody_is_told_of_nothing() -> None:
    run = Run()
    run.seconds(5)
    assert run.told == []


def test_a_mass_silence_is_told_and_time_stands_still_at_once(caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_probe_that_cannot_be_made_now_is_made_later_and_counts_as_nothing() -> None:
    submissions = [Submission.LATER, Submission.LATER, Submission.REFUSED]
    run = Run(probing=True, ask=lambda _: submissions.pop(0))
    run.register("a")
    run.seconds(11)
    assert (run.state("a"), len(submissions)) == (State.ACTIVE, 2)
    run.seconds(int(POSTPONE_S))
    assert (run.state("a"), len(submissions)) == (State.ACTIVE, 1)
    run.seconds(int(POSTPONE_S))
    assert submissions == []
    assert run.state("a") is not State.ACTIVE


def test_a_probe_that_nobody_may_make_counts_as_unanswered() -> None:
    run = Run(probing=True)
    run.register("a")
    run.seconds(11)
    assert run.state("a") is State.PENDING_FIRST_CHECK


def test_a_probe_is_handed_over_and_its_answer_is_waited_for() -> None:
    asked: list[ProbeRequest] = []

    def ask(request: ProbeRequest) -> Submission:
        asked.append(request)
        return Submission.ACCEPTED

    run = Run(probing=True, ask=ask)
    run.register("a")
    run.seconds(12)
    assert [request.node_id for request in asked] == ["a"]
    assert run.state("a") is State.ACTIVE
    run.directory.expiry.probed(asked[0].slot, "a", alive=False, now=run.attended.now())
    run.seconds(1)
    # As if it had been silent from the deadline on.
    assert run.state("a") is State.RETRY_48H


# How long it may sleep.


def test_it_sleeps_to_the_next_deadline_and_never_longer_than_a_tick() -> None:
    run = Run()
    assert run.scheduler.pause_s() == 1.0
    run.register("a")
    assert run.scheduler.pause_s() == 1.0
    run.seconds(9)
    run.clock.advance(0.75)
    assert run.scheduler.pause_s() == 0.25
    run.clock.advance(0.25)
    assert run.scheduler.pause_s() == PAUSE_S_MIN


def test_it_does_not_spin_while_time_stands_still_or_those_who_are_due_must_wait() -> None:
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


def test_how_late_it_ever_was_is_known() -> None:
    run = Run()
    run.register("a")
    run.seconds(9)
    run.clock.advance(1.5)
    run.scheduler.tick()
    assert run.scheduler.late_s_max == 0.5


async def test_it_runs_until_it_is_stopped_and_lets_others_run_meanwhile() -> None:
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
    # Between two pieces of work everybody else had a turn.
    assert turns >= 10
    assert run.directory.nodes.registry.state_counts[State.ACTIVE] == 0
    run.scheduler.stop()
    await asyncio.wait_for(task, 5.0)


async def test_who_stops_it_while_it_sleeps_does_not_wait_for_the_tick() -> None:
    run = Run()
    task = asyncio.get_running_loop().create_task(run.scheduler.run())
    while run.scheduler.ticks == 0:
        await asyncio.sleep(0)
    run.scheduler.stop()
    while not task.done():
        await asyncio.sleep(0)
    assert run.scheduler.ticks == 1


def test_it_is_told_once_that_the_nodes_take_all_their_bytes_until_there_is_room_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    run = Run(life=lifecycle_options(), nodes_bytes_max=1_000)

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "bytes" in record.getMessage()]

    def fill() -> None:
        register(run.directory, "fat", run.attended.now(), metadata={"padding": "x" * 850})
        for name in ("a", "b"):
            with pytest.raises(CallerError, match="directory_full"):
                register(run.directory, name, run.attended.now(), metadata={"padding": "x" * 850})
            run.seconds(1)

    fill()
    assert len(told()) == 1
    assert "of 1000 bytes" in told()[0]
    assert "OPENRED_NODES_BYTES_MAX" in told()[0]
    run.directory.forget("fat", run.attended.now())
    run.seconds(2)
    assert told()[1:] == ["the records of all nodes take 0 of 1000 bytes: there is room again"]
    fill()
    assert len(told()) == 3


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

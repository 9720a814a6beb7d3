"""Runs that share one row agree on a leader, whatever is late, lost, paused or rolled back."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from openred_central.cluster.lease import Lease, Role, lease_times
from tests.conftest import SOAK

from .lease_world import EMPTY, Kind, Rules, Run, World

TTL_S = 2.5
TIMES = lease_times(TTL_S)
# All clocks together may be wrong by less than what lies between the end of a lease and its taking.
WRONG_TICKS, WRONG_S = 4, 0.2
NAMES = "ABCDE"


class Runs(RuleBasedStateMachine):
    """Five runs, of which the last never leads. A rule is one thing that may happen; `World` judges it."""

    def __init__(self) -> None:
        super().__init__()
        rules = Rules(losses=999, commits=999, wrong_ticks=WRONG_TICKS, rollbacks=2, questions=1, goodbyes=2)
        self.world = World(NAMES, TIMES, rules)
        self.world.runs["E"].lease.may_lead = False
        self.started = len(NAMES)

    @rule(numbers=st.lists(st.integers(0, 999), min_size=1, max_size=10))
    def something_happens(self, numbers: list[int]) -> None:
        for number in numbers:
            moves = list(self.world.moves(slow_readings=True))
            moves[number % len(moves)][1](self.world)

    @rule(name=st.sampled_from(NAMES))
    def a_run_works(self, name: str) -> None:
        self.work(name)

    @rule(steps=st.integers(1, 40), busy=st.sets(st.sampled_from(NAMES)))
    def time_passes(self, steps: int, busy: set[str]) -> None:
        """Some runs work all the time, and all others are paused."""
        for _ in range(steps):
            self.world.pass_time(0.1)
            for name in sorted(busy):
                self.work(name)

    @rule(name=st.sampled_from(NAMES), seconds=st.floats(WRONG_S, 3.0), sign=st.sampled_from((-1, 1)))
    def a_clock_is_wrong(self, name: str, seconds: float, sign: int) -> None:
        if self.world.left["wrong_ticks"]:
            self.world.pass_time(seconds, wrong=name, by_s=sign * WRONG_S)

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 9))
    def an_answer_comes_twice(self, name: str, number: int) -> None:
        answered = [at for at, each in enumerate(self.world.runs[name].statements) if each.row is not None]
        if answered:
            self.world.answer(name, answered[number % len(answered)], again=True)

    @rule(name=st.sampled_from(NAMES))
    def a_run_starts_anew(self, name: str) -> None:
        """The statements of the former run arrive, and are of no use to the new one."""
        for at in reversed(range(len(self.world.runs[name].statements))):
            if self.world.runs[name].statements[at].row is None:
                self.world.arrive(name, at)
        self.started += 1
        may_lead = self.world.runs[name].lease.may_lead
        clock_s = self.world.runs[name].clock_s
        # The holder is a run, not a name: rename what the row says of the former one.
        if self.world.row.holder == name:
            self.world.row = self.world.row._replace(holder=f"former {name} {self.started}")
        self.world.runs[name] = Run(Lease(name, TIMES, may_lead=may_lead), clock_s=clock_s)

    def work(self, name: str) -> None:
        """Let a run do what is next, without a delay."""
        world, run = self.world, self.world.runs[name]
        if run.lease.term is None:
            world.observe(name)
        elif run.may_send(Kind.RENEW):
            if run.lease.role(run.clock_s) is Role.CATCHING_UP:
                world.catch_up(name)
            world.send(name, Kind.RENEW)
        for at in reversed(range(len(run.statements))):
            if run.statements[at].row is None:
                world.arrive(name, at)
        for at in reversed(range(len(run.statements))):
            if at < len(run.statements):
                world.answer(name, at)

    def teardown(self) -> None:
        """Soon after all is quiet, one run leads."""
        world = self.world
        if not any(run.lease.may_lead for run in world.runs.values()):
            return
        for run in world.runs.values():
            run.statements.clear()
        for _ in range(round((TTL_S + 2.0) / TIMES.watch_s)):
            world.pass_time(TIMES.watch_s)
            for name in NAMES:
                self.work(name)
        leaders = [name for name, run in world.runs.items() if run.lease.may_change(run.clock_s)]
        assert leaders == [world.row.holder]


Runs.TestCase.settings = settings(max_examples=3_000 if SOAK else 60, stateful_step_count=40)
TestRuns = Runs.TestCase


def a_lease(*, may_lead: bool = True) -> Lease:
    return Lease("A", TIMES, may_lead=may_lead)


HELD = EMPTY._replace(term=3, holder="B", renewals=7)


def a_leader() -> Lease:
    lease = a_lease()
    lease.observe(EMPTY, 0.0)
    lease.took(1, 0.0)
    lease.caught_up(1)
    return lease


def watch(lease: Lease, row: object, from_s: float, to_s: float, **more: bool) -> float | None:
    """Return when `lease` would be taken, if the row stays as it is."""
    for step in range(round(from_s * 10), round(to_s * 10) + 1):
        if lease.observe(row, step / 10, **more):  # type: ignore[arg-type]
            return step / 10
    return None


def test_free_lease_is_taken_at_once() -> None:
    assert a_lease().observe(EMPTY, 0.0)


def test_run_that_may_not_lead_takes_nothing() -> None:
    lease = a_lease(may_lead=False)
    assert not lease.observe(EMPTY, 0.0)
    assert watch(lease, HELD, 1.0, 10.0) is None


def test_lease_is_taken_when_nobody_renews_it() -> None:
    assert watch(a_lease(), HELD, 0.0, 10.0) == 3.1


def test_candidate_that_is_behind_waits_longer() -> None:
    assert watch(a_lease(), HELD, 0.0, 10.0, behind=True) == 3.4


def test_candidate_with_other_settings_leaves_the_lease_to_all_others() -> None:
    assert watch(a_lease(), HELD, 0.0, 10.0, differs=True) == 4.1
    assert watch(a_lease(), HELD, 0.0, 10.0, differs=True, behind=True) == 4.4
    # Others look four times until then.
    assert watch(a_lease(), EMPTY, 0.0, 10.0, differs=True) == 1.0
    assert TIMES.differs_s >= 4 * TIMES.watch_s


def test_each_renewal_begins_the_wait_anew() -> None:
    lease = a_lease()
    assert watch(lease, HELD, 0.0, 2.9) is None
    assert watch(lease, HELD._replace(renewals=8), 3.0, 6.0) is None


def test_holder_has_its_time_when_the_database_was_away_for_all() -> None:
    lease = a_lease()
    assert watch(lease, HELD, 0.0, 2.0) is None
    assert watch(lease, HELD, 14.0, 30.0) == 17.1


def test_lower_term_is_no_way_to_the_lease_without_a_wait() -> None:
    lease = a_lease()
    lease.observe(HELD, 0.0)
    earlier = EMPTY._replace(term=2)
    assert watch(lease, earlier, 0.1, 10.0) == 3.2
    assert lease.term_highest == 3


def test_leader_stays_when_it_reads_a_lower_term() -> None:
    lease = a_leader()
    lease.observe(EMPTY, 0.1)
    assert lease.may_change(0.1)


def test_own_term_whose_taking_was_not_answered_is_taken_again() -> None:
    lease = a_lease()
    lease.observe(EMPTY, 0.0)
    assert lease.observe(EMPTY._replace(term=1, holder="A", renewals=1), 5.0)
    assert lease.role(5.0) is Role.FOLLOWER


def test_leader_may_change_until_its_lease_runs_out() -> None:
    lease = a_leader()
    assert lease.role(1.9) is Role.LEADER
    assert lease.may_change(1.9)
    assert not lease.may_change(2.0)
    assert lease.role(2.0) is Role.WITHOUT_LEASE
    lease.succeeded(1, 5.0)
    assert lease.may_change(6.9)


def test_old_success_changes_nothing() -> None:
    lease = a_leader()
    lease.succeeded(1, 1.0)
    lease.succeeded(1, 0.5)
    lease.succeeded(2, 2.0)
    assert not lease.may_change(3.0)


def test_run_that_caught_up_too_late_may_not_change() -> None:
    lease = a_lease()
    lease.observe(EMPTY, 0.0)
    lease.took(1, 0.0)
    assert lease.role(5.0) is Role.CATCHING_UP
    lease.caught_up(1)
    assert not lease.may_change(5.0)


def test_each_role_steps_down_before_a_higher_term() -> None:
    for now_s, caught_up in ((1.0, False), (1.0, True), (9.0, True)):
        lease = a_lease()
        lease.observe(EMPTY, 0.0)
        lease.took(1, 0.0)
        if caught_up:
            lease.caught_up(1)
        assert not lease.observe(HELD, now_s)
        assert lease.role(now_s) is Role.FOLLOWER


def test_fence_ends_the_term_it_was_for() -> None:
    lease = a_leader()
    lease.fenced(0)
    assert lease.may_change(1.0)
    lease.fenced(1)
    assert lease.role(1.0) is Role.FOLLOWER


def test_term_that_was_overtaken_meanwhile_is_not_led() -> None:
    lease = a_lease()
    lease.observe(EMPTY, 0.0)
    lease.observe(HELD, 0.1)
    lease.took(1, 0.0)
    assert lease.role(0.2) is Role.FOLLOWER


def test_run_that_ended_leads_no_more() -> None:
    lease = a_leader()
    lease.end()
    assert not lease.may_change(0.0)
    assert not lease.observe(EMPTY._replace(term=1), 1.0)

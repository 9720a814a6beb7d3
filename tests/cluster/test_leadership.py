"""A run takes the lease, proves that it has it, and stops to lead in time, whatever the database does."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from threading import Event
from typing import Any

import pytest

from openred_central.cluster.leadership import Leadership
from openred_central.cluster.lease import Role, lease_times
from openred_central.storage.postgres.leasing import Conflict, Fenced, LeaseRow, RolledBack
from openred_central.storage.store import StoreError
from tests.support.clock import VirtualClock
from tests.support.waiting import until

TIMES = lease_times(2.5)
FREE = LeaseRow("", 4, "", 0, 0, 0, 0.0, 0.0, {})
HELD = FREE._replace(holder="other", renewals=9, seq=7, attended_s=50.0, leader={"name": "b"})


class Database:
    """The row that all runs share."""

    def __init__(self, row: LeaseRow = FREE) -> None:
        self.row = row


class RowStore:
    """A store that is a row in memory. It fails while `fault` is set, and hangs while `hold` is not."""

    def __init__(self, database: Database, clock: VirtualClock, run: str) -> None:
        self.run = run
        self.term: int | None = None
        self.ended: StoreError | None = None
        self.confirmed_s = self.shown_s = -math.inf
        self.fault: StoreError | None = None
        self.hold = Event()
        self.hold.set()
        self.renewals = 0
        self.went_on = 0
        self._database = database
        self._clock = clock

    def watch(self) -> LeaseRow:
        self._call()
        return self._database.row

    def take_lease(self, seen: LeaseRow, term_least: int, leader: Mapping[str, Any], at: float) -> bool:
        self._call()
        row = self._database.row
        if (row.term, row.renewals) != (seen.term, seen.renewals):
            return False
        self.term, self.ended = max(row.term, term_least) + 1, None
        self._database.row = row._replace(
            term=self.term, holder=self.run, renewals=row.renewals + 1, leader=leader, at=at
        )
        self.confirmed_s = self._clock.elapsed_s()
        return True

    def renew(self) -> None:
        self.renewals += 1
        sent_s = self._clock.elapsed_s()
        self._call()
        self._check()
        self._database.row = self._database.row._replace(renewals=self._database.row.renewals + 1)
        self.confirmed_s = sent_s

    def goodbye(self) -> None:
        self._call()
        self._check()
        self.term = None
        self._database.row = self._database.row._replace(holder="", leader={})

    def go_on_after_rollback(self) -> None:
        self._call()
        self.went_on += 1
        self.ended, self.confirmed_s = None, self._clock.elapsed_s()

    def _call(self) -> None:
        assert self.hold.wait(30)
        if self.fault:
            raise self.fault

    def _check(self) -> None:
        if self.ended is None and (self._database.row.term, self._database.row.holder) != (
            self.term,
            self.run,
        ):
            self.ended = Fenced("another run leads")
        if self.ended is not None:
            raise self.ended


class Desk:
    """A leadership under test, with all it stands on."""

    def __init__(
        self, row: LeaseRow = FREE, *, may_lead: bool = True, behind: bool = False, differs: bool = False
    ) -> None:
        self.clock = VirtualClock()
        self.database = Database(row)
        self.store = RowStore(self.database, self.clock, "me")
        self.changes = 0
        self.rollbacks = 0
        self.leadership = Leadership(
            self.store,
            self.clock,
            TIMES,
            may_lead=may_lead,
            leader={"name": "a", "url": "127.0.0.1:8100"},
            is_behind=lambda seq: behind,
            differs=lambda: differs,
            changed=self._changed,
            went_back=self._went_back,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _went_back(self) -> None:
        self.rollbacks += 1

    async def steps(self, seconds: float = 0.0) -> None:
        """Let time pass, with a step each tenth of a second, and let each reading end."""
        for _ in range(round(seconds * 10) + 1):
            self.leadership.step()
            await self.idle()
            self.clock.advance(0.1)

    async def idle(self) -> None:
        """Wait until nothing runs beside the test."""
        await until(lambda: len(asyncio.all_tasks()) == 1)

    async def lead(self) -> None:
        await self.steps()
        assert self.leadership.term is not None
        self.leadership.caught_up(self.leadership.term)


async def test_free_lease_is_taken_and_led_when_caught_up() -> None:
    desk = Desk()
    await desk.steps()
    assert desk.leadership.role is Role.CATCHING_UP
    assert not desk.leadership.may_change()
    desk.leadership.caught_up(5)
    assert desk.leadership.role is Role.LEADER
    assert desk.leadership.may_change()
    assert desk.changes == 3


async def test_everybody_hears_where_the_leader_is() -> None:
    desk = Desk(HELD)
    await desk.steps()
    assert desk.leadership.row == HELD
    assert desk.leadership.attended_s == 50.0
    own = Desk()
    await own.lead()
    assert own.leadership.row is not None
    assert own.leadership.row.leader["url"] == "127.0.0.1:8100"


async def test_lease_of_a_silent_holder_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(HELD)
    await desk.steps(2.9)
    assert desk.leadership.role is Role.FOLLOWER
    await desk.steps(0.3)
    assert desk.leadership.role is Role.CATCHING_UP
    assert "took the lease in term 5: b has not renewed it for 3." in caplog.text


async def test_holder_that_renews_keeps_its_lease() -> None:
    desk = Desk(HELD)
    for renewals in range(20):
        desk.database.row = HELD._replace(renewals=renewals)
        await desk.steps(0.4)
    assert desk.leadership.role is Role.FOLLOWER


async def test_instance_that_may_not_lead_follows(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(HELD, may_lead=False)
    await desk.steps(9.0)
    assert desk.leadership.role is Role.FOLLOWER
    assert caplog.text.count("nobody was seen to lead") == 1


async def test_a_lease_is_left_to_others_for_a_while_where_the_last_leader_had_other_settings() -> None:
    desk = Desk(differs=True)
    await desk.steps(TIMES.differs_s - 0.2)
    assert desk.leadership.term is None
    await desk.steps(0.4)
    assert desk.leadership.term is not None


async def test_change_is_refused_from_the_moment_the_lease_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    await desk.lead()
    desk.store.fault = StoreError("the database is away")
    desk.clock.advance(1.8)
    assert desk.leadership.may_change()
    desk.clock.advance(0.2)
    assert not desk.leadership.may_change(), "no step was made, only time has passed"
    await desk.steps()
    assert desk.leadership.role is Role.WITHOUT_LEASE
    assert "without lease in term 5" in caplog.text
    desk.store.fault = None
    desk.store.renew()
    assert desk.leadership.may_change()


async def test_time_in_suspend_counts_and_steps_of_the_wall_clock_do_not() -> None:
    desk = Desk()
    await desk.lead()
    desk.clock.jump_wall(365 * 86_400.0)
    assert desk.leadership.may_change()
    desk.clock.jump_wall(-2 * 365 * 86_400.0)
    assert desk.leadership.may_change()
    desk.clock.suspend(2.0)
    assert not desk.leadership.may_change()


async def test_no_clock_of_the_database_is_read() -> None:
    for at in (0.0, 4e9, -4e9):
        desk = Desk(HELD._replace(at=at))
        await desk.steps(2.9)
        assert desk.leadership.role is Role.FOLLOWER
        await desk.steps(0.3)
        assert desk.leadership.role is Role.CATCHING_UP


async def test_term_begins_after_the_former_leader_but_hardly_later_than_now() -> None:
    wall_s = VirtualClock().wall_s()
    for at, began_s in ((0.0, wall_s), (wall_s + 5, wall_s + 5), (wall_s + 999, wall_s + 30)):
        desk = Desk(FREE._replace(at=at))
        await desk.steps()
        assert desk.leadership.term_began_s == began_s


async def test_fence_ends_the_lead_at_once(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    await desk.lead()
    desk.database.row = HELD._replace(term=6)
    with suppress(Fenced):
        desk.store.renew()
    assert not desk.leadership.may_change()
    await desk.steps()
    assert desk.leadership.role is Role.FOLLOWER
    assert desk.leadership.row == desk.database.row
    assert "lost the lease: another run leads" in caplog.text


async def test_conflict_of_rows_ends_the_term_and_begins_another(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    await desk.lead()
    desk.store.ended = Conflict("the rows are other ones")
    assert not desk.leadership.may_change()
    await desk.steps()
    assert desk.leadership.role is Role.CATCHING_UP, "it has to load the directory again"
    assert desk.leadership.term == 6
    assert caplog.text.count("loads it anew: the rows are other ones") == 1


async def test_lease_that_a_run_cannot_use_is_left_to_others_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    await desk.steps()
    await desk.leadership.give_up(StoreError("a secret is damaged"))
    assert desk.leadership.role is Role.FOLLOWER
    assert desk.database.row.holder == ""
    await desk.steps(59.0)
    assert desk.leadership.role is Role.FOLLOWER
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "leaves the lease to others for 60 s: a secret is damaged",
        "nobody was seen to lead for 6 s: nothing can be changed",
    ]
    await desk.steps(2.0)
    assert desk.leadership.role is Role.CATCHING_UP


async def test_nobody_leads_while_a_lease_is_on_its_way_back() -> None:
    desk = Desk(HELD._replace(holder="me"), may_lead=False)
    await desk.steps(1.0)
    assert not desk.leadership.is_led


async def test_leader_whose_renewals_fail_sees_who_took_its_lease() -> None:
    """Even where only reading works, and no statement tells that it is fenced."""
    desk = Desk()
    await desk.lead()
    desk.database.row = HELD._replace(term=6)
    await desk.steps(1.0)
    assert desk.leadership.role is Role.FOLLOWER


async def test_proof_is_newer_than_the_request() -> None:
    desk = Desk()
    await desk.lead()
    since_s = desk.store.confirmed_s
    assert await desk.leadership.confirmed(since_s - 1.0, 30.0)
    assert desk.store.renewals == 0
    desk.clock.advance(0.01)
    assert await desk.leadership.confirmed(since_s, 30.0)
    assert desk.store.renewals == 1


async def test_one_proof_serves_all_who_wait() -> None:
    desk = Desk()
    await desk.lead()
    since_s = desk.clock.elapsed_s()
    desk.clock.advance(0.01)
    proofs = await asyncio.gather(*(desk.leadership.confirmed(since_s, 30.0) for _ in range(100)))
    assert all(proofs)
    assert desk.store.renewals == 1


async def test_statement_that_was_sent_before_the_request_proves_nothing() -> None:
    desk = Desk()
    await desk.lead()
    desk.store.hold.clear()
    first = asyncio.create_task(desk.leadership.confirmed(desk.clock.elapsed_s() - 0.001, 30.0))
    await until(lambda: desk.store.renewals)
    since_s = desk.clock.elapsed_s()
    desk.clock.advance(0.01)
    second = asyncio.create_task(desk.leadership.confirmed(since_s, 30.0))
    desk.store.hold.set()
    assert await first
    assert await second
    assert desk.store.renewals == 2


async def test_nothing_is_proved_without_the_database_or_the_lease() -> None:
    desk = Desk()
    assert not await desk.leadership.confirmed(0.0, 0.01)
    await desk.lead()
    desk.store.fault = StoreError("away")
    assert not await desk.leadership.confirmed(desk.clock.elapsed_s(), 0.01)
    desk.store.fault = None
    desk.database.row = HELD._replace(term=6)
    assert not await desk.leadership.confirmed(desk.clock.elapsed_s(), 30.0)


async def test_run_that_wakes_up_after_another_took_over_proves_and_changes_nothing() -> None:
    desk = Desk()
    await desk.lead()
    asked_s = desk.clock.elapsed_s()
    # A pause in which even its clocks stand still, as those of a virtual machine may.
    desk.database.row = HELD._replace(term=6)
    assert desk.leadership.may_change(), "it cannot know yet"
    desk.clock.advance(0.001)
    assert not await desk.leadership.confirmed(asked_s, 30.0)
    assert not desk.leadership.may_change()


async def test_database_that_hangs_holds_nothing_up() -> None:
    desk = Desk()
    await desk.lead()
    desk.store.hold.clear()
    for _ in range(40):
        desk.leadership.step()
        await asyncio.sleep(0)
        desk.clock.advance(0.1)
    assert desk.leadership.role is Role.WITHOUT_LEASE
    assert desk.store.shown_s == pytest.approx(desk.clock.elapsed_s() - 0.1)
    desk.store.hold.set()
    await desk.idle()


async def test_lease_that_cannot_be_taken_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk()

    def take_lease(*_: object) -> bool:
        raise StoreError("another client holds a lock")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk.store, "take_lease", take_lease)
        await desk.steps(1.0)
    assert caplog.text.count("cannot read or take the lease: another client holds a lock") == 1
    await desk.lead()
    assert desk.leadership.role is Role.LEADER
    assert caplog.text.count("reads the lease again") == 1


async def test_database_that_is_away_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk()
    desk.store.fault = StoreError("refused")
    await desk.steps(3.0)
    assert caplog.text.count("cannot read or take the lease: refused") == 1
    desk.store.fault = None
    await desk.steps()
    assert "reads the lease again" in caplog.text


async def test_leader_goes_on_where_the_database_went_back() -> None:
    desk = Desk()
    await desk.lead()
    desk.store.ended = RolledBack(3, 2.0)
    await desk.steps()
    assert desk.store.went_on == 1
    assert desk.rollbacks == 1
    assert desk.leadership.role is Role.LEADER


async def test_leader_goes_on_in_a_higher_term_where_its_own_is_forgotten() -> None:
    desk = Desk()
    await desk.lead()
    desk.store.ended = RolledBack(3, 2.0)
    desk.store.term = 6
    await desk.steps()
    assert desk.leadership.role is Role.LEADER
    assert desk.leadership.term == 6


async def test_leader_of_another_history_stops() -> None:
    desk = Desk()
    await desk.lead()
    desk.store.ended = RolledBack(3, None)
    with pytest.raises(StoreError, match="went back to commit 3, which this run never saw"):
        await desk.leadership.run()
    assert desk.store.went_on == desk.rollbacks == 0
    assert not desk.leadership.may_change()
    assert desk.leadership.role is Role.FOLLOWER


async def test_goodbye_frees_the_lease() -> None:
    desk = Desk()
    await desk.lead()
    task = asyncio.create_task(desk.leadership.run())
    await desk.leadership.goodbye()
    await task
    assert desk.database.row.holder == ""
    assert desk.leadership.role is Role.FOLLOWER
    assert not desk.leadership.may_change()


async def test_goodbye_frees_a_lease_that_is_being_taken() -> None:
    desk = Desk()
    desk.store.hold.clear()
    desk.leadership.step()
    goodbye = asyncio.create_task(desk.leadership.goodbye())
    await asyncio.sleep(0)
    desk.store.hold.set()
    await goodbye
    assert desk.database.row.holder == ""


async def test_run_steps_by_itself() -> None:
    desk = Desk()
    task = asyncio.create_task(desk.leadership.run())
    await until(lambda: desk.leadership.role is Role.CATCHING_UP)
    await desk.leadership.goodbye()
    await task


async def test_a_database_of_long_ago_is_taken_once_an_operator_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(HELD._replace(at=10_000.0))
    await desk.steps(1.0)
    assert not desk.leadership.accept_database()
    # Restored from a backup: an earlier renewal of that term, more than ten minutes ago.
    desk.database.row = HELD._replace(renewals=3, seq=2, at=9_300.0)
    await desk.steps(20.0)
    assert desk.leadership.role is Role.FOLLOWER
    assert [record.levelno for record in caplog.records if "long before" in record.message] == [logging.ERROR]
    assert desk.leadership.accept_database()
    await desk.steps(5.0)
    assert desk.leadership.role is Role.CATCHING_UP
    assert desk.database.row.term > HELD.term


async def test_a_database_that_went_back_a_little_needs_no_operator() -> None:
    desk = Desk(HELD._replace(at=10_000.0))
    await desk.steps(1.0)
    desk.database.row = HELD._replace(renewals=3, seq=2, at=9_500.0)
    await desk.steps(5.0)
    assert desk.leadership.role is Role.CATCHING_UP


async def test_a_leader_whose_clock_is_behind_is_believed() -> None:
    desk = Desk(HELD._replace(at=10_000.0), may_lead=False)
    await desk.steps(1.0)
    # Its clock was set back within the term, and another leader follows with a clock of its own.
    for row in (HELD._replace(renewals=10, at=2_000.0), HELD._replace(term=5, renewals=11, at=1_000.0)):
        desk.database.row = row
        await desk.steps(1.0)
        assert not desk.leadership.refuses_database


async def test_it_is_known_whether_anybody_leads() -> None:
    desk = Desk(HELD, may_lead=False)
    assert not desk.leadership.is_led
    await desk.steps(1.0)
    assert desk.leadership.is_led
    # Its holder is gone; or it is not known, since the database is away.
    await desk.steps(5.0)
    assert not desk.leadership.is_led
    own = Desk()
    await own.steps()
    assert not own.leadership.is_led
    await own.lead()
    assert own.leadership.is_led
    own.store.fault = StoreError("away")
    own.clock.advance(10.0)
    assert not own.leadership.is_led

"""No change is reported as durable before it is, no caller waits for ever, and no change is lost."""

from __future__ import annotations

import asyncio
import logging
import threading
from array import array
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from openred_central.clock import AttendedTime, Now
from openred_central.directory.state.changes import Batch, Vitals
from openred_central.directory.state.node import Record
from openred_central.directory.state.pages import PageRun
from openred_central.errors import InternalBug
from openred_central.storage.sqlite.sqlite import SqliteStore
from openred_central.storage.store import MemoryStore, RowsRefused, StoreError, StoreState
from openred_central.tasks.periodic import Supervisor
from openred_central.tasks.saver import BEHIND_S, FLUSH_S_MAX, Saver, pace_s
from tests.support.clock import VirtualClock
from tests.support.options import saver_options
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops

# Longer than any test: nothing in a test happens because this time has passed.
NEVER_S = 3_600.0


def record(slot: int) -> Record:
    profile = b'["8.8.8.8",1,"key",[],{}]'
    return Record(slot, f"node-{slot}", 1, 1, 1.0, 2.0, 3.0, 4.0, 5.0, 6, "", "", profile, 0.0, 0.0, "")


class FakeDirectory:
    """Changes of records, one slot each, taken in order, and signs of life, which have no number."""

    def __init__(self) -> None:
        self.last_change = 0
        self.changes: list[tuple[int, int]] = []
        self.signs: list[int] = []

    @property
    def pending(self) -> int:
        return len(self.changes) + len(self.signs)

    @property
    def due(self) -> int:
        return self.pending

    def change(self, slot: int = 0) -> int:
        self.last_change += 1
        self.changes.append((self.last_change, slot))
        return self.last_change

    def take_changes(self, limit: int, now: Now, *, closing: bool, flush: bool) -> Batch | None:
        if not self.pending and not closing:
            return None
        changes, self.changes = self.changes[:limit], self.changes[limit:]
        signs, self.signs = self.signs[: limit - len(changes)], self.signs[limit - len(changes) :]
        self._in_flight = changes
        covered = self.changes[0][0] - 1 if self.changes else self.last_change
        return Batch(
            [record(slot) for _, slot in changes],
            [],
            [],
            [],
            Vitals(now.attended_s, 1, 0.0),
            covered,
            [PageRun(number, array("d", [1.0]), array("d", [2.0]), array("f", [3.0])) for number in signs],
        )

    def put_back(self, batch: Batch) -> None:
        self.changes = self._in_flight + self.changes
        self.signs = [each.number for each in batch.pages] + self.signs


def without_threads(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let starting a thread fail so many times. Return a list, which gets an entry for each failure."""
    start, refused = threading.Thread.start, []

    def starved(thread: threading.Thread) -> None:
        if len(refused) < times:
            refused.append(1)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starved)
    return refused


class FakeStore(MemoryStore):
    """A store that keeps batches in a list, `committed`; it can fail, refuse rows, and wait for its gate."""

    durable = True  # type: ignore[assignment]

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.committed: list[Batch] = []
        self.attempts = 0
        self.threads: set[int] = set()
        self.error: Exception | None = None
        self.refused_slots: set[int] = set()
        self.tidied = 0
        self.tidy_steps = 1
        self.tidy_error: Exception | None = None
        self.looks: list[float] = []
        self.look_error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, batch: Batch) -> None:
        self.attempts += 1
        self.threads.add(threading.get_ident())
        assert self.gate.wait(20)
        self.clock.advance(0.25)
        if self.error is not None:
            raise self.error
        good = [row for row in batch.records if row.slot not in self.refused_slots]
        if good != batch.records:
            raise RowsRefused(batch._replace(records=good), ["Record of 13: bad luck"])
        self.committed.append(batch)

    @property
    def slots(self) -> list[int]:
        return [row.slot for batch in self.committed for row in batch.records]

    def look(self, now_s: float) -> None:
        self.threads.add(threading.get_ident())
        self.looks.append(now_s)
        if self.look_error is not None:
            raise self.look_error

    def tidy(self) -> None:
        self.threads.add(threading.get_ident())
        self.tidied += 1
        self.tidy_due = self.tidied < self.tidy_steps  # type: ignore[misc]
        if self.tidy_error is not None:
            raise self.tidy_error


class Parts:
    """A saver with its clock, directory, store and thread."""

    def __init__(self, store: FakeStore | MemoryStore | None = None, **options: Any) -> None:
        self.clock = VirtualClock()
        self.directory = FakeDirectory()
        self.store: Any = store or FakeStore(self.clock)
        self.writer = ThreadPoolExecutor(1)
        # The slots of each batch that was announced as committed.
        self.committed: list[list[int]] = []
        self.saver = Saver(
            self.directory,
            self.store,
            self.writer,
            AttendedTime(self.clock).now,
            saver_options(**{"flush_interval_s": NEVER_S, "retry_s_max": 0.001, **options}),
            lambda batch: self.committed.append([each.slot for each in batch.records]),
        )


@asynccontextmanager
async def at_work(store: FakeStore | MemoryStore | None = None, **options: Any) -> AsyncIterator[Parts]:
    parts = Parts(store, **options)
    task = asyncio.create_task(parts.saver.run())
    await asyncio.sleep(0)
    try:
        yield parts
    finally:
        if isinstance(parts.store, FakeStore):
            parts.store.gate.set()
        await parts.saver.finish()
        parts.writer.shutdown()
        await task


async def test_a_change_is_durable_only_after_its_commit() -> None:
    async with at_work() as parts:
        parts.store.gate.clear()
        change = parts.directory.change(7)
        waiter = asyncio.create_task(parts.saver.saved(change))
        await until(lambda: parts.store.attempts == 1)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiter.done()
        parts.store.gate.set()
        assert await waiter
        assert parts.store.slots == [7]


async def test_where_others_follow_commits_a_change_waits_for_one_that_keeps_nothing() -> None:
    async with at_work(MemoryStore()) as parts:
        change = parts.directory.change(7)
        assert await parts.saver.saved(change) is False
        assert parts.committed == [[7]]
        assert await parts.saver.saved(change) is False


async def test_every_answer_comes_after_the_commit_that_holds_the_change() -> None:
    async with at_work(batch_rows_max=3) as parts:

        async def register(slot: int) -> None:
            change = parts.directory.change(slot)
            assert await parts.saver.saved(change)
            assert slot in parts.store.slots

        await asyncio.gather(*(register(slot) for slot in range(50)))
        assert parts.store.slots == list(range(50)), "in the order of the changes"


async def test_changes_during_a_commit_are_the_next_batch() -> None:
    async with at_work() as parts:
        parts.store.gate.clear()
        first = asyncio.create_task(parts.saver.saved(parts.directory.change(0)))
        await until(lambda: parts.store.attempts == 1)
        others = [asyncio.create_task(parts.saver.saved(parts.directory.change(slot))) for slot in (1, 2, 3)]
        await asyncio.sleep(0)
        parts.store.gate.set()
        assert all(await asyncio.gather(first, *others))
        assert [[row.slot for row in batch.records] for batch in parts.store.committed] == [[0], [1, 2, 3]]


async def test_a_saved_change_is_answered_at_once() -> None:
    async with at_work() as parts:
        change = parts.directory.change()
        assert await parts.saver.saved(change)
        attempts = parts.store.attempts
        assert await parts.saver.saved(change)
        assert parts.store.attempts == attempts


async def test_a_change_beyond_a_full_batch_waits_for_the_next() -> None:
    class OneByOne(FakeStore):
        def commit(self, batch: Batch) -> None:
            super().commit(batch)
            self.gate.clear()

    async with at_work(OneByOne(VirtualClock()), batch_rows_max=1) as parts:
        first, second = parts.directory.change(1), parts.directory.change(2)
        assert await parts.saver.saved(first)
        waiter = asyncio.create_task(parts.saver.saved(second))
        await asyncio.sleep(0)
        assert not waiter.done()
        parts.store.gate.set()
        assert await waiter


async def test_a_change_without_a_row_is_answered() -> None:
    async with at_work() as parts:
        change = parts.directory.change()
        parts.directory.changes.clear()
        assert await parts.saver.saved(change)


async def test_an_unknown_change_is_a_bug() -> None:
    async with at_work() as parts:
        with pytest.raises(InternalBug, match="asked for change 1, the newest is 0"):
            await parts.saver.saved(1)


async def test_signs_of_life_alone_wait_for_the_flush() -> None:
    async with at_work() as parts:
        parts.directory.signs = [1, 2, 3]
        for _ in range(20):
            await asyncio.sleep(0)
        assert parts.store.attempts == 0
    assert [len(batch.pages) for batch in parts.store.committed] == [3], "the stop saves them"
    async with at_work(flush_interval_s=0.001) as parts:
        parts.directory.signs = [1, 2, 3]
        await until(lambda: bool(parts.store.committed))


async def test_a_full_batch_does_not_wait_for_the_next_flush() -> None:
    async with at_work(batch_rows_max=10) as parts:
        parts.directory.signs = list(range(95))
        assert await parts.saver.saved(parts.directory.change())
        await until(lambda: parts.saver.stats.batches == 9)
        assert parts.directory.pending == 6


async def test_a_waiting_caller_skips_the_pauses_between_batches() -> None:
    async with at_work(batch_rows_max=10) as parts:
        parts.directory.signs = list(range(40))
        assert await parts.saver.saved(parts.directory.change())
        assert parts.saver.stats.batches == 1
        assert parts.directory.pending > 10
        assert await parts.saver.saved(parts.directory.change())
        assert parts.saver.stats.batches == 2


def test_pauses_between_batches_only_become_shorter() -> None:
    options, paces_s, last_s = saver_options(batch_rows_max=10, flush_interval_s=1.0), [], None
    for pending in (100, 50, 1_000, 20, 9, 20):
        last_s = pace_s(options, pending, last_s)
        paces_s.append(last_s)
    # Half a second for all: more changes mean shorter pauses, and the pauses never grow.
    assert paces_s == [0.05, 0.05, 0.005, 0.005, None, 0.25]


def test_pauses_between_batches_are_bounded() -> None:
    options = saver_options(batch_rows_max=10, flush_interval_s=NEVER_S)
    assert pace_s(options, 100, None) == FLUSH_S_MAX / 10


async def test_a_store_in_memory_promises_nothing() -> None:
    async with at_work(MemoryStore(), flush_interval_s=0.001) as parts:
        assert not await parts.saver.saved(parts.directory.change())
        await until(lambda: parts.directory.pending == 0)


async def test_a_failed_commit_promises_and_loses_nothing() -> None:
    async with at_work(retry_s_max=NEVER_S) as parts:
        parts.store.error = StoreError("the disk is full")
        parts.store.gate.clear()
        held = asyncio.create_task(parts.saver.saved(parts.directory.change(1)))
        await until(lambda: parts.store.attempts == 1)
        behind = asyncio.create_task(parts.saver.saved(parts.directory.change(2)))
        await asyncio.sleep(0)
        parts.store.gate.set()
        assert await asyncio.gather(held, behind) == [False, False]
        assert parts.saver.failing
        assert not await parts.saver.saved(parts.directory.change(3)), "at once, not after the pause"
        for _ in range(20):
            await asyncio.sleep(0)
        assert parts.store.attempts == 1, "a waiting caller does not shorten the pause"
        assert parts.saver.trouble.last_error == "the disk is full"
        parts.store.error = None
    assert parts.store.slots == [1, 2, 3]


async def test_a_store_that_works_again_is_used_again() -> None:
    async with at_work() as parts:
        parts.store.error = StoreError("the disk is full")
        assert not await parts.saver.saved(parts.directory.change(1))
        await until(lambda: parts.store.attempts >= 3)
        assert parts.saver.stats.pending_since_s is not None
        parts.store.error = None
        await until(lambda: not parts.saver.failing)
        assert await parts.saver.saved(parts.directory.change(2))
        assert parts.store.slots == [1, 2]
        assert parts.saver.stats.pending_since_s is None
        assert parts.saver.trouble.last_error is None


async def test_the_state_shows_how_the_store_keeps_up() -> None:
    async with at_work(retry_s_max=NEVER_S) as parts:
        assert parts.saver.state is StoreState.OK
        parts.store.gate.clear()
        held = asyncio.create_task(parts.saver.saved(parts.directory.change(1)))
        await until(lambda: parts.store.attempts == 1)
        assert parts.saver.state is StoreState.OK
        parts.clock.advance(BEHIND_S + 1)
        assert parts.saver.state is StoreState.BEHIND
        parts.store.gate.set()
        assert await held
        assert parts.saver.state is StoreState.OK
        parts.store.error = StoreError("the disk is full")
        assert not await parts.saver.saved(parts.directory.change(2))
        assert parts.saver.state is StoreState.DETACHED
        parts.store.error = None


async def test_no_caller_waits_for_a_commit_that_hangs() -> None:
    async with at_work(commit_timeout_s=0.01) as parts:
        parts.store.gate.clear()
        assert not await parts.saver.saved(parts.directory.change(1))
        assert parts.saver.state is StoreState.DETACHED
        assert parts.saver.trouble.last_error == "a commit did not return within 0.01 s"
        assert not await parts.saver.saved(parts.directory.change(2)), "at once"
        parts.store.gate.set()
        await until(lambda: not parts.saver.failing)
        last = parts.directory.change(3)
        parts.saver.wake()
        # A caller that waits for it may wait for longer than 0.01 s, too.
        await until(lambda: [slot for slots in parts.committed for slot in slots] == [1, 2, 3])
        assert await parts.saver.saved(last)
        assert parts.store.slots == [1, 2, 3]


async def test_an_unexpected_error_of_the_store_does_not_end_the_saver() -> None:
    async with at_work() as parts:
        parts.store.error = ZeroDivisionError()
        assert not await parts.saver.saved(parts.directory.change(1))
        assert parts.saver.trouble.last_error == "ZeroDivisionError()"
        parts.store.error = None
        await until(lambda: not parts.saver.failing)
        assert parts.store.slots == [1]


async def test_the_log_has_changes_of_state_but_not_every_attempt(caplog: pytest.LogCaptureFixture) -> None:
    async with at_work() as parts:
        parts.store.error = StoreError("the disk is full")
        assert not await parts.saver.saved(parts.directory.change(1))
        await until(lambda: parts.store.attempts >= 5)
        parts.store.error = None
        await until(lambda: not parts.saver.failing)
    assert [(entry.levelno, entry.message.partition(",")[0]) for entry in caplog.records] == [
        (logging.ERROR, "changes cannot be saved"),
        (logging.WARNING, "changes are saved again"),
    ]
    assert "the disk is full" in caplog.text


async def test_the_pause_between_attempts_grows_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openred_central.tasks.saver.RETRY_S_MIN", 0.0001)
    pauses_s: list[float | None] = []

    class Failing(FakeStore):
        def commit(self, batch: Batch) -> None:
            pauses_s.append(parts.saver.retry_s)
            super().commit(batch)

    store = Failing(VirtualClock())
    store.error = StoreError("gone")
    async with at_work(store, retry_s_max=0.0005) as parts:
        parts.directory.change()
        parts.saver.wake()
        await until(lambda: len(pauses_s) >= 6)
        store.error = None
    assert pauses_s[:6] == [None, 0.0001, 0.0002, 0.0004, 0.0005, 0.0005]


async def test_a_row_that_cannot_be_stored_is_left_out() -> None:
    async with at_work() as parts:
        parts.store.refused_slots = {13}
        good = parts.directory.change(12)
        bad = parts.directory.change(13)
        assert await asyncio.gather(parts.saver.saved(good), parts.saver.saved(bad)) == [False, False]
        assert parts.store.slots == [12]
        assert not parts.saver.failing
        assert await parts.saver.saved(parts.directory.change(14))
        assert parts.store.slots == [12, 14], "the refused row is not tried again"
        assert (parts.saver.stats.rows, parts.saver.stats.rows_refused) == (2, 1)
        await parts.saver.finish()
        assert parts.saver.lost_any, "the refused row is lost with the process"
        assert not parts.saver.gave_up


async def test_a_commit_is_announced_before_its_callers_are_answered() -> None:
    async with at_work() as parts:
        parts.store.error = OSError("disk full")
        assert not await parts.saver.saved(parts.directory.change(7))
        assert not parts.committed
        parts.store.error = None
        await until(lambda: not parts.saver.failing)
        waiter = asyncio.create_task(parts.saver.saved(parts.directory.change(8)))
        waiter.add_done_callback(lambda _: parts.committed.append([-1]))
        assert await waiter
        await until(lambda: [-1] in parts.committed)
        assert parts.committed == [[7], [8], [-1]]


async def test_a_commit_is_announced_as_it_was_stored() -> None:
    async with at_work() as parts:
        parts.store.refused_slots = {13}
        parts.directory.change(12)
        assert not await parts.saver.saved(parts.directory.change(13))
        assert parts.committed == [[12]]


async def test_thousands_of_callers_may_wait() -> None:
    async with at_work() as parts:
        parts.store.gate.clear()
        waiters = [asyncio.create_task(parts.saver.saved(parts.directory.change(n))) for n in range(10_000)]
        await until(lambda: parts.store.attempts == 1)
        assert not any(waiter.done() for waiter in waiters)
        parts.store.gate.set()
        assert all(await asyncio.gather(*waiters))
        assert parts.saver.stats.batches == 10_000 / saver_options().batch_rows_max


async def test_a_caller_that_gives_up_disturbs_no_other() -> None:
    async with at_work() as parts:
        parts.store.gate.clear()
        impatient = asyncio.create_task(parts.saver.saved(parts.directory.change(1)))
        patient = asyncio.create_task(parts.saver.saved(parts.directory.change(2)))
        await until(lambda: parts.store.attempts == 1)
        impatient.cancel()
        parts.store.gate.set()
        assert await patient
        assert impatient.cancelled()


async def test_only_the_writer_thread_uses_the_store() -> None:
    async with at_work() as parts:
        parts.store.tidy_due, parts.store.tidy_steps = True, 3
        assert await parts.saver.saved(parts.directory.change())
        await until(lambda: parts.store.tidied == 3)
    assert len(parts.store.threads) == 1
    assert threading.get_ident() not in parts.store.threads


async def test_waiting_callers_precede_housekeeping() -> None:
    class Ordered(FakeStore):
        order = ""

        def commit(self, batch: Batch) -> None:
            super().commit(batch)
            self.order += "c"

        def tidy(self) -> None:
            super().tidy()
            self.order += "t"

    store = Ordered(VirtualClock())
    async with at_work(store) as parts:
        store.tidy_due, store.tidy_steps = True, 1_000  # type: ignore[misc]
        for _ in range(20):
            assert await parts.saver.saved(parts.directory.change())
        assert store.tidied < 1_000, "no caller waits for its end"
        await until(lambda: store.tidied == 1_000)
        assert "cc" not in store.order, "one step follows each batch"


async def test_a_flush_does_not_wait_for_the_end_of_housekeeping() -> None:
    async with at_work(flush_interval_s=0.001) as parts:
        parts.store.tidy_due, parts.store.tidy_steps = True, 1_000_000
        parts.directory.signs = [1]
        await until(lambda: len(parts.store.committed) == 1)
        parts.directory.signs = [2]
        await until(lambda: len(parts.store.committed) == 2)
        parts.store.tidy_steps = 0


async def test_the_stop_saves_the_attended_time() -> None:
    async with at_work() as parts:
        assert await parts.saver.saved(parts.directory.change())
        (before,) = parts.store.committed
        parts.clock.advance(1.5)
        await parts.saver.finish()
        last = parts.store.committed[-1]
        assert (last.rows, len(parts.store.committed)) == (0, 2)
        assert last.vitals.attended_s > before.vitals.attended_s


async def test_failing_housekeeping_is_logged_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    async with at_work() as parts:
        parts.store.tidy_due = True
        parts.store.tidy_error = StoreError("the disk is full")
        for _ in range(5):
            parts.store.tidied, parts.store.tidy_due = 0, True
            assert await parts.saver.saved(parts.directory.change())
            await until(lambda: parts.store.tidied == 1)
        parts.store.tidied, parts.store.tidy_due, parts.store.tidy_error = 0, True, None
        assert await parts.saver.saved(parts.directory.change())
        await until(lambda: parts.store.tidied == 1)
    assert [entry.message for entry in caplog.records] == [
        "housekeeping of the store failed, to be tried again: the disk is full",
        "housekeeping works again, after 5 failures in all",
    ]


async def test_commits_and_rows_are_counted() -> None:
    async with at_work() as parts:
        parts.directory.signs = [1, 2]
        assert await parts.saver.saved(parts.directory.change())
        assert await parts.saver.saved(parts.directory.change())
        stats = parts.saver.stats
        assert (stats.batches, stats.rows, parts.saver.trouble.failures) == (2, 4, 0)
        assert (stats.commit_s_total, stats.commit_s_max) == (0.5, 0.25)
        assert (stats.commits.sum_s, stats.commits.count) == (0.5, stats.batches)


async def test_the_stop_saves_everything() -> None:
    async with at_work(batch_rows_max=10) as parts:
        for slot in range(95):
            parts.directory.change(slot)
        parts.directory.signs = list(range(33))
        await parts.saver.finish()
        assert parts.store.slots == list(range(95))
        assert parts.directory.pending == 0
        assert not await parts.saver.saved(parts.directory.change()), "nothing is saved any more"


async def test_the_stop_tries_a_failing_store_again() -> None:
    async with at_work(retry_s_max=NEVER_S) as parts:
        parts.store.error = StoreError("busy")
        assert not await parts.saver.saved(parts.directory.change(1))
        parts.store.error = None
        await parts.saver.finish()
        assert parts.store.slots == [1]


@pytest.fixture
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openred_central.tasks.saver.LOOK_S", 0.001)


@pytest.mark.usefixtures("frequent_looks")
async def test_a_lost_store_is_noticed_without_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with at_work() as parts:
        await until(lambda: len(parts.store.looks) == 1)
        parts.store.error = parts.store.look_error = StoreError("the file is gone")
        parts.clock.advance(1.0)
        await until(lambda: parts.saver.failing)
        assert parts.saver.state is StoreState.DETACHED
        assert not await parts.saver.saved(parts.directory.change(1))
        await until(lambda: parts.saver.trouble.failures >= 3)
        parts.directory.changes.clear()
        parts.store.error = parts.store.look_error = None
        await until(lambda: not parts.saver.failing)
        assert await parts.saver.saved(parts.directory.change(2))
        assert [message for message in caplog.messages if "the file is gone" in message] == [
            "changes cannot be saved, to be tried again: the file is gone"
        ]
        assert len(parts.store.threads) == 1, "the writer's"


@pytest.mark.usefixtures("frequent_looks")
async def test_looks_at_the_files_cause_no_flush() -> None:
    async with at_work() as parts:
        await until(lambda: len(parts.store.looks) == 1)
        parts.directory.signs.append(7)
        for times in range(2, 5):
            parts.clock.advance(1.0)
            await until(lambda: len(parts.store.looks) == times)  # noqa: B023
        assert parts.store.attempts == 0
        for slot in range(20):
            parts.clock.advance(1.0)
            assert await parts.saver.saved(parts.directory.change(slot))
        assert len(parts.store.looks) >= 20


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
async def test_the_stop_is_bounded_and_answers_all_callers(
    hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_work(stop_timeout_s=0.05) as parts:
        if hangs:
            parts.store.gate.clear()
        else:
            parts.store.error = StoreError("the disk is gone")
        waiter = asyncio.create_task(parts.saver.saved(parts.directory.change()))
        await until(lambda: parts.store.attempts >= 1)
        await parts.saver.finish()
        assert not await waiter
        assert parts.saver.gave_up
    assert "gave up saving the last changes after 0.05 s; last error: " in caplog.text
    assert ("the last commit still runs" if hangs else "the disk is gone") in caplog.text


@pytest.mark.parametrize("fixed", [False, True])
async def test_changes_left_by_a_failed_run_are_saved_at_the_stop(
    monkeypatch: pytest.MonkeyPatch, fixed: bool
) -> None:
    monkeypatch.setattr("openred_central.tasks.periodic.PAUSE_S_MIN", NEVER_S)
    parts, broken = Parts(), [True]
    take_changes = parts.directory.take_changes

    def failing(limit: int, now: Now, *, closing: bool, flush: bool) -> Batch | None:
        if broken[0]:
            raise ZeroDivisionError
        return take_changes(limit, now, closing=closing, flush=flush)

    monkeypatch.setattr(parts.directory, "take_changes", failing)
    supervisor = Supervisor(parts.clock)
    task = asyncio.create_task(supervisor.run("saver", parts.saver.run))
    parts.directory.change(7)
    await until(lambda: supervisor.failures["saver"] == 1)
    broken[0] = not fixed
    supervisor.stop()
    await parts.saver.finish()
    await task
    assert parts.saver.gave_up is not fixed
    assert bool(parts.directory.pending) is not fixed
    parts.writer.shutdown()


async def test_callers_may_wait_before_the_saver_runs() -> None:
    parts = Parts()
    waiter = asyncio.create_task(parts.saver.saved(parts.directory.change(1)))
    await asyncio.sleep(0)
    assert not waiter.done()
    task = asyncio.create_task(parts.saver.run())
    assert await waiter
    assert parts.store.slots == [1]
    await parts.saver.finish()
    await task
    parts.writer.shutdown()


async def test_a_saver_that_never_ran_answers_and_stops() -> None:
    parts = Parts()
    waiter = asyncio.create_task(parts.saver.saved(parts.directory.change(1)))
    await asyncio.sleep(0)
    await parts.saver.finish()
    assert not await waiter
    assert not await parts.saver.saved(parts.directory.change(2))
    parts.writer.shutdown()


async def test_a_cancelled_saver_answers_all_callers() -> None:
    parts = Parts()
    parts.store.gate.clear()
    task = asyncio.create_task(parts.saver.run())
    waiter = asyncio.create_task(parts.saver.saved(parts.directory.change(1)))
    await until(lambda: parts.store.attempts == 1)
    task.cancel()
    assert not await waiter
    assert task.cancelled()
    parts.store.gate.set()
    parts.writer.shutdown()


@pytest.mark.parametrize(
    "name", ["flush_interval_s", "batch_rows_max", "retry_s_max", "commit_timeout_s", "stop_timeout_s"]
)
def test_an_option_of_zero_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0, allowed is anything above 0"):
        saver_options(**{name: 0})


async def test_durable_changes_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "openred.db"
    store = SqliteStore(path)
    store.open()
    async with at_work(store) as parts:  # type: ignore[arg-type]
        changes = [parts.directory.change(slot) for slot in range(100)]
        assert all(await asyncio.gather(*map(parts.saver.saved, changes)))
    store.close()
    store.open()
    assert [row.slot for rows in store.load_records(1_000) for row in rows] == list(range(100))
    store.close()


async def test_changes_survive_a_lack_of_threads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = without_threads(monkeypatch, 3)

    parts = Parts()
    change = parts.directory.change(7)
    task = asyncio.create_task(parts.saver.run())
    assert not await parts.saver.saved(change)
    while not parts.saver.stats.batches:
        await asyncio.sleep(0.001)
    assert 7 in parts.store.slots
    assert not task.done()
    await parts.saver.finish()
    await task
    assert not parts.saver.gave_up
    assert len(refused) == 3
    assert (
        caplog.text.count(
            "changes cannot be saved, to be tried again: the system cannot start a thread: can't start"
        )
        == 1
    )


async def test_a_restarted_saver_continues() -> None:
    parts = Parts()
    take, errors = parts.directory.take_changes, [MemoryError()]

    def failing(limit: int, now: Now, *, closing: bool, flush: bool) -> Batch | None:
        if errors:
            raise errors.pop()
        return take(limit, now, closing=closing, flush=flush)

    parts.directory.take_changes = failing  # type: ignore[method-assign]
    change = parts.directory.change(7)
    with pytest.raises(MemoryError):
        await parts.saver.run()
    assert not await parts.saver.saved(change)
    task = asyncio.create_task(parts.saver.run())
    while not parts.saver.stats.batches:
        await asyncio.sleep(0.001)
    assert await parts.saver.saved(parts.directory.change(8))
    assert parts.store.slots == [7, 8]
    await parts.saver.finish()
    await task

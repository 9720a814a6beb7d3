"""Brings changes from the directory to the store: natural group commit in one writer thread.

Whatever was changed while the last commit ran is the next batch; nothing waits for a batch to fill. Changes
that nobody waits for, such as signs of life, are flushed once in `flush_interval_s`. A store that fails is a
state and not an exception in a request: waiters learn that nothing is durable, the changes stay pending, and
the saver tries again until the store is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields
from typing import Protocol

from ..clock import Now
from ..directory.state.changes import Batch
from ..errors import InternalBug
from ..histogram import Histogram
from ..storage.store import RowsRefused, Store, StoreState
from .trouble import Trouble

log = logging.getLogger("openred.saver")

# The pause after a failed commit, doubled with every further one up to `SaverOptions.retry_s_max`.
RETRY_S_MIN = 0.1
# Changes that wait longer than this are behind: a commit takes milliseconds.
BEHIND_S = 2.0
# What is pending at a flush is spread over half of the time to the next one, and over this at most.
FLUSH_S_MAX = 0.5
# How often the files of the store are looked at, whether there is something to save or not.
LOOK_S = 1.0
# Of a batch with many rows that cannot be stored, so many are named in the log.
REFUSED_LOGGED_MAX = 10


class Changes(Protocol):
    """What the saver asks of the directory; `Saving` is what it gets."""

    @property
    def last_change(self) -> int:
        """Number of the newest change of a record; never goes back."""

    @property
    def pending(self) -> int:
        """How many changes wait to be stored, signs of life included."""

    def take_changes(self, limit: int, now: Now, *, closing: bool) -> Batch | None:
        """Up to `limit` pending changes, then not pending; None where there are none, unless `closing`."""

    def put_back(self, batch: Batch) -> None:
        """Make what the last batch taken held pending again, at the front."""


@dataclass(frozen=True, slots=True)
class SaverOptions:
    """How often and how much is saved at once.

    `flush_interval_s` is the most that a `kill -9` can take away of signs of life. `retry_s_max` is the
    longest pause between two attempts while the store fails, `commit_timeout_s` the time after which a
    commit that does not return counts as failing, `stop_timeout_s` the time for the last flush.
    `batch_rows_max` bounds what a batch holds up the loop for: 1,000 records are taken in 1 ms.
    """

    flush_interval_s: float = 1.0
    batch_rows_max: int = 1_000
    retry_s_max: float = 5.0
    commit_timeout_s: float = 10.0
    stop_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not value > 0:
                raise ValueError(f"{each.name} is {value}, allowed is anything above 0")


@dataclass(slots=True)
class SaverStats:
    """What the saver has done: `commits` is how long each commit took, from its asking to its return.

    `pending_since_s` is the monotonic time since when changes wait, or None.
    """

    batches: int = 0
    rows: int = 0
    rows_refused: int = 0
    commit_s_total: float = 0.0
    commit_s_max: float = 0.0
    failures: int = 0
    last_error: str | None = None
    pending_since_s: float | None = None
    commits: Histogram = field(default_factory=Histogram)


class Saver:
    """The task that saves. Run it with `run`, await `saved` before telling anyone that a change is durable.

    Arguments: `directory`, where changes come from; `store`, open and loaded; `writer`, an executor with
    one thread, in which alone the store is used from now on, by whomever; `now`, which tells the time.
    """

    def __init__(
        self,
        directory: Changes,
        store: Store,
        writer: Executor,
        now: Callable[[], Now],
        options: SaverOptions,
    ) -> None:
        self._directory = directory
        self._store = store
        self._writer = writer
        self._now = now
        self._options = options
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._gave_up = False
        self._ended = self._saved_all = False
        # Everything numbered up to here has been committed.
        self._saved_change = 0
        # In the order of asking. One who asks for an older change than the one before waits a little
        # longer than needed, never less.
        self._waiters: deque[tuple[int, asyncio.Future[bool]]] = deque()
        self._retry_s: float | None = None
        # How long the next batch has time, where more than one is pending and nobody waits for them.
        self._pace_s: float | None = None
        # Whether the commit under way has not returned in time.
        self._hanging = False
        self._told_behind = False
        self._unsaved = Trouble(log, now, "changes cannot be saved", "changes are saved again")
        self._untidy = Trouble(log, now, "housekeeping of the store failed", "housekeeping works again")
        # The monotonic time at which the store is to be looked at.
        self._look_s = 0.0
        self.stats = SaverStats()

    @property
    def failing(self) -> bool:
        """Whether the last commit failed, or the one under way does not return."""
        return self._retry_s is not None or self._hanging

    @property
    def gave_up(self) -> bool:
        """Whether the last changes could not be saved in time; a commit may still be under way."""
        return self._gave_up

    @property
    def lost_any(self) -> bool:
        """Whether changes are lost with the process: not saved in time, or of a row that cannot be stored."""
        return self._gave_up or self.stats.rows_refused > 0

    @property
    def state(self) -> StoreState:
        """How the store keeps up at this moment."""
        if self.failing:
            return StoreState.DETACHED
        since_s = self.stats.pending_since_s
        behind = since_s is not None and self._now().monotonic_s - since_s > BEHIND_S
        return StoreState.BEHIND if behind else StoreState.OK

    async def saved(self, change: int) -> bool:
        """Wait until every change numbered up to `change` is durable, and tell whether that is so.

        False at once where the store keeps nothing, where it is failing, and where nothing is saved any
        more; False later where the commit that held the change fails. The change itself is not lost by
        that: it stays pending. Raises `InternalBug` for a number that no change has yet.
        """
        if not self._store.durable:
            return False
        if change <= self._saved_change:
            return True
        if change > self._directory.last_change:
            raise InternalBug(f"asked for change {change}, the newest is {self._directory.last_change}")
        if self.failing or self._ended:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append((change, future))
        self._wake.set()
        return await future

    async def run(self) -> None:
        """Save what is pending, again and again, until `stop`. To be run as a task, one at a time."""
        self._task, self._ended = asyncio.current_task(), False
        try:
            while not (await self._save_batch() and self._stopping):
                await self._pause()
            self._saved_all = True
        except asyncio.CancelledError:
            if not self._gave_up:
                raise
        finally:
            self._end()

    async def stop(self) -> None:
        """Commit everything that is pending and end `run`, or give up after `stop_timeout_s`, saying so."""
        self._stopping = True
        if self._task is None:
            self._end()
            return
        self._wake.set()
        done, _ = await asyncio.wait({self._task}, timeout=self._options.stop_timeout_s)
        if not done:
            log.error(
                "gave up saving the last changes after %g s; last error: %s",
                self._options.stop_timeout_s,
                self.stats.last_error or "none, the last commit still runs",
            )
            self._gave_up = True
            self._task.cancel()
            await asyncio.wait({self._task})
        self._gave_up = not self._saved_all

    def _end(self) -> None:
        self._ended = True
        self._answer(self._directory.last_change, durable=False)

    async def _pause(self) -> None:
        """Sleep until somebody waits, or it is time for a flush or another attempt; look at the store."""
        delays_s = (self._retry_s, self._pace_s, self._options.flush_interval_s)
        delay_s = next(delay_s for delay_s in delays_s if delay_s is not None)
        timer = asyncio.get_running_loop().call_later(delay_s, self._wake.set)
        try:
            # After a look that fails another attempt is due at once: it tells what is the matter.
            while self.failing or await self._look_if_due():
                await self._tidy()
                if self._wake.is_set() or not await self._woken_to_look():
                    break
        finally:
            timer.cancel()
        self._wake.clear()

    async def _woken_to_look(self) -> bool:
        """Sleep; True where that ended because it is time for a look, and for nothing else."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._wake.wait()
        except TimeoutError:
            return not (self._wake.is_set() or self._stopping)
        return False

    async def _look_if_due(self) -> bool:
        return self._now().monotonic_s < self._look_s or await self._look()

    async def _look(self) -> bool:
        """Have the store look at its files; False where it is no longer what it was."""
        now_s = self._now().monotonic_s
        self._look_s = now_s + LOOK_S
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._store.look, now_s)
        except Exception as error:  # noqa: BLE001
            self._note_failure(error)
            return False
        return True

    async def _tidy(self) -> None:
        """Housekeeping of the store: a step after each batch, and more while there is nothing else to do."""
        loop = asyncio.get_running_loop()
        while self._store.tidy_due and not self.failing:
            try:
                await loop.run_in_executor(self._writer, self._store.tidy)
            except Exception as error:  # noqa: BLE001
                # Where the file is lost, the look tells so, and that is enough.
                if await self._look():
                    self._untidy.failed(error)
                return
            self._untidy.worked()
            if self._wake.is_set():
                return

    async def _save_batch(self) -> bool:
        """Take one batch and commit it. True where nothing was pending, which makes all before durable.

        True also for the last batch of all, which may be of vitals alone so that no attended time is lost.
        """
        now = self._now()
        started_s = now.monotonic_s
        closing = self._stopping
        batch = self._directory.take_changes(self._options.batch_rows_max, now, closing=closing)
        if batch is None:
            if self.failing and not await self._look():
                return False
            self._note_recovery()
            self._saved_change = self._directory.last_change
            self._answer(self._saved_change, durable=True)
            self.stats.pending_since_s = self._pace_s = None
            return True
        if self.stats.pending_since_s is None:
            self.stats.pending_since_s = started_s
        loop = asyncio.get_running_loop()
        try:
            # Also here it may fail: where the system gives no thread.
            commit = loop.run_in_executor(self._writer, self._commit, batch)
            done, _ = await asyncio.wait({commit}, timeout=self._options.commit_timeout_s)
            if not done:
                self._note_hanging()
            refused = await commit
        except asyncio.CancelledError:
            # Given up: what becomes of it, nobody waits to hear.
            commit.cancel()
            raise
        except Exception as error:  # noqa: BLE001
            self._directory.put_back(batch)
            self._note_failure(error)
            return False
        self._note_success(batch, self._now().monotonic_s - started_s, refused)
        return closing and not self._directory.pending

    def _commit(self, batch: Batch) -> list[str]:
        """Commit `batch` without the rows that cannot be stored; returns a line for each of those."""
        try:
            self._store.commit(batch)
        except RowsRefused as error:
            self._store.commit(error.remaining)
            return error.refused
        return []

    def _note_success(self, batch: Batch, commit_s: float, refused: list[str]) -> None:
        stats = self.stats
        stats.batches += 1
        stats.rows += batch.rows - len(refused)
        stats.rows_refused += len(refused)
        stats.commit_s_total += commit_s
        stats.commit_s_max = max(stats.commit_s_max, commit_s)
        stats.commits.observe(commit_s)
        for line in refused[:REFUSED_LOGGED_MAX]:
            log.error("not stored, and lost with this process: %s", line)
        # Which change made a refused row is not known here, so nobody in the batch is promised anything.
        self._answer(batch.last_change, durable=not refused)
        self._saved_change = max(self._saved_change, batch.last_change)
        self._tell_behind()
        self._note_recovery()
        self._pace_s = self._find_pace_s()
        if self._pace_s is None:
            stats.pending_since_s = None
        if self._waiters or self._stopping:
            self._wake.set()

    def _note_recovery(self) -> None:
        if self.failing:
            self._retry_s, self._hanging = None, False
            self._unsaved.worked()

    def _find_pace_s(self) -> float | None:
        """The pause before the next batch, if nobody waits for it; None where less than one is pending.

        Right after one another, the batches of a second would hold up requests for several milliseconds: with
        32,000 heartbeats/s, and so 33 batches, p99 was 7.3 ms. The fewer are left the longer it could be, but
        then what comes in meanwhile would never let it end: it only becomes shorter.
        """
        pending, rows = self._directory.pending, self._options.batch_rows_max
        if pending < rows:
            return None
        pace_s = min(self._options.flush_interval_s / 2, FLUSH_S_MAX) * rows / pending
        return pace_s if self._pace_s is None else min(pace_s, self._pace_s)

    def _note_hanging(self) -> None:
        """The commit under way takes too long: nobody waits for it, though it may still succeed."""
        self._hanging = True
        self.stats.failures += 1
        self.stats.last_error = f"a commit did not return within {self._options.commit_timeout_s:g} s"
        log.error("%s; nothing is promised until it does", self.stats.last_error)
        self._answer(self._directory.last_change, durable=False)

    def _tell_behind(self) -> None:
        """Put it into the log when the store falls behind, and when it has caught up; once each."""
        behind = self.state is StoreState.BEHIND
        if behind and not self._told_behind:
            log.warning("the store is behind: changes wait longer than %g s to be saved", BEHIND_S)
        elif self._told_behind and not behind:
            log.warning("the store has caught up")
        self._told_behind = behind

    def _note_failure(self, error: Exception) -> None:
        self.stats.failures += 1
        self.stats.last_error = str(error) or repr(error)
        self._hanging = False
        # The error itself: more of it is shown than of a text.
        self._unsaved.failed(error if str(error) else repr(error))
        if self._retry_s is None:
            self._retry_s = min(RETRY_S_MIN, self._options.retry_s_max)
        else:
            self._retry_s = min(2 * self._retry_s, self._options.retry_s_max)
        self._answer(self._directory.last_change, durable=False)
        # Those who woke us have their answer; the next attempt comes after the pause.
        self._wake.clear()

    def _answer(self, change: int, *, durable: bool) -> None:
        """Tell those who wait for changes up to `change`."""
        while self._waiters and self._waiters[0][0] <= change:
            _, future = self._waiters.popleft()
            if not future.done():
                future.set_result(durable)

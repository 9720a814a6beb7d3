"""Save changes and revocations in the store: group commit in one writer thread.

The changes made during a commit are the next batch; no change waits for a batch to fill. Changes for which no
caller waits, such as signs of life, are flushed once in `flush_interval_s`. A failing store is a state, not
an exception in a request: callers learn that their change is not durable, the changes stay pending, and the
saver tries again until the store works.
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
from ..security.tokens.revocations import Revocations
from ..storage.store import RowsRefused, Store, StoreState
from .periodic import StoppableTask, Trouble, in_thread

log = logging.getLogger("openred.saver")

# The pause after a failed commit; it doubles with every further failure, up to `SaverOptions.retry_s_max`.
RETRY_S_MIN = 0.1
# If changes wait longer than this, the store is behind.
BEHIND_S = 2.0
# A flush is spread over half of the time to the next one, and over this at most.
FLUSH_S_MAX = 0.5
# The store looks at its files this often, also while there is nothing to save.
LOOK_S = 1.0
# The log lists so many rows of a batch that cannot be stored.
REFUSED_LOGGED_MAX = 10
# A commit under way may still end within so long when another process has taken over the store.
ABANDON_S = 0.2
# The pause before revocations are stored again after a failure.
RETRY_REVOCATIONS_S = 1.0


class ChangeSource(Protocol):
    """A source of changes; the saver gets `Saving`."""

    @property
    def last_change(self) -> int:
        """Return the number of the newest change of a record; it never decreases."""

    @property
    def pending(self) -> int:
        """Return how many changes wait to be stored; all signs of life of a page are one."""

    @property
    def due(self) -> int:
        """Return how many rows may be taken before the next flush; a page counts as several."""

    def take_changes(self, limit: int, now: Now, *, closing: bool, flush: bool) -> Batch | None:
        """Take up to `limit` pending changes; return None if there are none, unless `closing`.

        Only with `flush` does it take signs of life that came since the last flush.
        """

    def put_back(self, batch: Batch) -> None:
        """Make the changes of the last batch pending again, at the front."""


@dataclass(frozen=True, eq=False)
class SaverOptions:
    """How often the saver saves, and how much at once.

    A `kill -9` loses the signs of life of at most `flush_interval_s`, and those that workers have not
    delivered. `batch_rows_max` bounds the time for which a batch blocks the loop. `retry_s_max` is the
    longest pause between two attempts while the store fails. A commit that takes longer than
    `commit_timeout_s` counts as failing. `stop_timeout_s` is the time for the last flush.
    """

    flush_interval_s: float
    batch_rows_max: int = 1_000
    retry_s_max: float = 5.0
    commit_timeout_s: float = 10.0
    stop_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not value > 0:
                raise ValueError(f"{each.name} is {value}, allowed is anything above 0")


@dataclass
class SaverStats:
    """Counts of the saver; `commits` are the durations of the commits.

    `pending_since_s` is the monotonic time since which changes wait, or None.
    """

    batches: int = 0
    rows: int = 0
    rows_refused: int = 0
    commit_s_total: float = 0.0
    commit_s_max: float = 0.0
    pending_since_s: float | None = None
    commits: Histogram = field(default_factory=Histogram)


class Saver(StoppableTask):
    """The task that saves changes. Await `saved` before reporting to a caller that a change is durable.

    `directory` is the source of changes. `store` is open and loaded; from now on only the single thread of
    `writer` uses it. `now` reads the time. `on_committed` is called with each batch as it was stored, before
    its callers have their answers.
    """

    def __init__(
        self,
        directory: ChangeSource,
        store: Store,
        writer: Executor,
        now: Callable[[], Now],
        options: SaverOptions,
        on_committed: Callable[[Batch], None] | None = None,
    ) -> None:
        super().__init__()
        self._on_committed = on_committed
        self._directory = directory
        self._store = store
        self._writer = writer
        self._now = now
        self._options = options
        self._task: asyncio.Task[None] | None = None
        self._gave_up = False
        self._ended = self._saved_all = False
        self._abandoned = False
        # All changes numbered up to here are committed.
        self._saved_change = 0
        # In the order of the calls. A caller may wait a little too long, behind a caller with a newer change,
        # but never too short.
        self._waiters: deque[tuple[int, asyncio.Future[bool]]] = deque()
        # The pause before the next attempt; None unless the last one failed.
        self.retry_s: float | None = None
        # The pause before the next batch while several are pending and no caller waits.
        self._pace_s: float | None = None
        # True while the commit under way takes too long.
        self._hanging = False
        self._behind_logged = False
        self.trouble = Trouble(log, lambda: now().monotonic_s, "changes are saved again")
        self._untidy = Trouble(log, lambda: now().monotonic_s, "housekeeping works again")
        # The monotonic times of the next look at the files, and of the next flush.
        self._look_s = self._flush_s = 0.0
        self.stats = SaverStats()

    @property
    def failing(self) -> bool:
        """Return whether the last commit failed, or the one under way takes too long."""
        return self.retry_s is not None or self._hanging

    @property
    def gave_up(self) -> bool:
        """Return whether the last changes could not be saved in time; a commit may still be under way."""
        return self._gave_up

    @property
    def lost_any(self) -> bool:
        """Return whether changes are lost: not saved in time, or in a row that cannot be stored."""
        return self._gave_up or self.stats.rows_refused > 0

    @property
    def state(self) -> StoreState:
        """Return how the store keeps up at present."""
        if self.failing:
            return StoreState.DETACHED
        since_s = self.stats.pending_since_s
        behind = since_s is not None and self._now().monotonic_s - since_s > BEHIND_S
        return StoreState.BEHIND if behind else StoreState.OK

    async def saved(self, change: int) -> bool:
        """Wait until every change numbered up to `change` is durable; return whether it is.

        Return False at once if the store is not durable, is failing, or is no longer used; return it later if
        the commit with the change fails. The change itself stays pending. With `on_committed`, wait for the
        commit in any case: others learn of the change by it. Raises `InternalBug` for a number that no change
        has yet.
        """
        durable = self._store.durable
        if not durable and self._on_committed is None:
            return False
        if change <= self._saved_change:
            return durable
        if change > self._directory.last_change:
            raise InternalBug(f"asked for change {change}, the newest is {self._directory.last_change}")
        if self.failing or self._ended:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append((change, future))
        self.wake()
        return await future and durable

    async def run(self) -> None:
        """Save pending changes until `stop` and all are saved. Run one task at a time."""
        self._task, self._ended = asyncio.current_task(), False
        try:
            while not self._abandoned and not (await self._save_batch() and self.stopping):
                await self._pause()
            self._saved_all = not self._abandoned or not self._directory.pending
        except asyncio.CancelledError:
            if not self._gave_up:
                raise
        finally:
            self._end()

    async def finish(self) -> None:
        """Commit all pending changes and end `run`, or log after `stop_timeout_s` that it gave up."""
        self.stop()
        if self._task is None:
            self._end()
            return
        timeout_s = ABANDON_S if self._abandoned else self._options.stop_timeout_s
        done, _ = await asyncio.wait({self._task}, timeout=timeout_s)
        if not done:
            log.error(
                "gave up saving the last changes after %g s; last error: %s",
                timeout_s,
                self.trouble.last_error or "none, the last commit still runs",
            )
            self._gave_up = True
            self._task.cancel()
            await asyncio.wait({self._task})
        self._gave_up = not self._saved_all

    def abandon(self) -> None:
        """Let `finish` save nothing more: another process has taken over the store."""
        self._abandoned = True
        self.stop()

    def _end(self) -> None:
        self._ended = True
        self._answer(self._directory.last_change, durable=False)

    async def _pause(self) -> None:
        """Sleep until a caller waits, or the next flush or attempt is due; meanwhile look at the files."""
        delays_s = (self.retry_s, self._pace_s, self._flush_s - self._now().monotonic_s)
        delay_s = next(delay_s for delay_s in delays_s if delay_s is not None)
        timer = asyncio.get_running_loop().call_later(delay_s, self.wake)
        try:
            # After a failed look, attempt a commit at once: it reports the cause.
            while self.failing or await self._look_if_due():
                await self._tidy()
                if self._woken.is_set() or not await self._woken_to_look():
                    break
        finally:
            timer.cancel()
        self._woken.clear()

    async def _woken_to_look(self) -> bool:
        """Sleep; return whether only a look at the files is due."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._woken.wait()
        except TimeoutError:
            return not (self._woken.is_set() or self.stopping)
        return False

    async def _look_if_due(self) -> bool:
        return self._now().monotonic_s < self._look_s or await self._look()

    async def _look(self) -> bool:
        """Let the store look at its files; return False if they were replaced or removed."""
        now_s = self._now().monotonic_s
        self._look_s = now_s + LOOK_S
        try:
            await in_thread(self._writer, self._store.look, now_s)
        except Exception as error:  # noqa: BLE001
            self._note_failure(error)
            return False
        return True

    async def _tidy(self) -> None:
        """Do housekeeping of the store: a step after each batch, more while there is nothing else to do."""
        while self._store.tidy_due and not self.failing:
            try:
                await in_thread(self._writer, self._store.tidy)
            except Exception as error:  # noqa: BLE001
                # If the file is lost, the look at it reports that.
                if await self._look():
                    self._untidy.failed("housekeeping of the store failed", error)
                return
            self._untidy.worked()
            if self._woken.is_set():
                return

    async def _save_batch(self) -> bool:
        """Take one batch and commit it. Return whether nothing is left to save.

        The very last batch may hold only the attended time.
        """
        now = self._now()
        started_s = now.monotonic_s
        closing = self.stopping
        flush = closing or started_s >= self._flush_s
        if flush:
            self._flush_s = started_s + self._options.flush_interval_s
        batch = self._directory.take_changes(self._options.batch_rows_max, now, closing=closing, flush=flush)
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
        try:
            commit = in_thread(self._writer, self._commit, batch)
            done, _ = await asyncio.wait({commit}, timeout=self._options.commit_timeout_s)
            if not done:
                self._note_hanging()
            stored, refused = await commit
        except asyncio.CancelledError:
            # `finish` gave up; no caller waits for the result, which nobody knows.
            commit.cancel()
            self._directory.put_back(batch)
            raise
        except Exception as error:  # noqa: BLE001
            self._directory.put_back(batch)
            self._note_failure(error)
            return False
        if self._on_committed is not None:
            self._on_committed(stored)
        self._note_success(batch, self._now().monotonic_s - started_s, refused)
        return closing and not self._directory.pending

    def _commit(self, batch: Batch) -> tuple[Batch, list[str]]:
        """Commit `batch` without the rows that cannot be stored. Return the rest, and a line for each."""
        try:
            self._store.commit(batch)
        except RowsRefused as error:
            self._store.commit(error.remaining)
            return error.remaining, error.refused
        return batch, []

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
        # It is unknown which change made a refused row, so no change of the batch is reported as durable.
        self._answer(batch.last_change, durable=not refused)
        self._saved_change = max(self._saved_change, batch.last_change)
        self._log_behind()
        self._note_recovery()
        self._pace_s = pace_s(self._options, self._directory.due, self._pace_s)
        if self._pace_s is None:
            stats.pending_since_s = None
        if self._waiters or self.stopping:
            self.wake()

    def _note_recovery(self) -> None:
        if self.failing:
            self.retry_s, self._hanging = None, False
            self.trouble.worked()

    def _note_hanging(self) -> None:
        """Release the callers that wait for the commit under way, though it may still succeed."""
        self._hanging = True
        error = TimeoutError(f"a commit did not return within {self._options.commit_timeout_s:g} s")
        self.trouble.failed("changes cannot be saved", error)
        self._answer(self._directory.last_change, durable=False)

    def _log_behind(self) -> None:
        """Log once that the store falls behind, and once that it has caught up."""
        behind = self.state is StoreState.BEHIND
        if behind and not self._behind_logged:
            log.warning("the store is behind: changes wait longer than %g s to be saved", BEHIND_S)
        elif self._behind_logged and not behind:
            log.warning("the store has caught up")
        self._behind_logged = behind

    def _note_failure(self, error: Exception) -> None:
        self._hanging = False
        self.trouble.failed("changes cannot be saved", error)
        if self.retry_s is None:
            self.retry_s = min(RETRY_S_MIN, self._options.retry_s_max)
        else:
            self.retry_s = min(2 * self.retry_s, self._options.retry_s_max)
        self._answer(self._directory.last_change, durable=False)
        # The callers have their answer; the next attempt comes after the pause.
        self._woken.clear()

    def _answer(self, change: int, *, durable: bool) -> None:
        """Answer the callers that wait for changes up to `change`."""
        while self._waiters and self._waiters[0][0] <= change:
            _, future = self._waiters.popleft()
            if not future.done():
                future.set_result(durable)


def pace_s(options: SaverOptions, due: int, last_pace_s: float | None) -> float | None:
    """Return the pause before the next batch if no caller waits, None if less than a batch is due.

    Batches without pauses would hold up requests. The fewer changes are left, the longer the pause could be;
    but then new changes would never let it end, so it is at most `last_pace_s`.
    """
    rows = options.batch_rows_max
    if due < rows:
        return None
    found_s = min(options.flush_interval_s / 2, FLUSH_S_MAX) * rows / due
    return found_s if last_pace_s is None else min(found_s, last_pace_s)


class RevocationSaver:
    """The saver of `revocations`, with the thread of `writer`: a crash must not revive a revoked token.

    After a failure it tries again every `retry_s`, since callers do not ask twice. `finish` tries until all
    are stored, for at most `stop_timeout_s`.
    """

    def __init__(
        self,
        revocations: Revocations,
        store: Store,
        writer: Executor,
        monotonic_s: Callable[[], float],
        *,
        stop_timeout_s: float,
        retry_s: float = RETRY_REVOCATIONS_S,
    ) -> None:
        self.revocations = revocations
        self._abandoned = False
        self._store = store
        self._writer = writer
        self._retry_s = retry_s
        self._stop_timeout_s = stop_timeout_s
        self._gave_up = False
        self._retrying: asyncio.Task[None] | None = None
        self._trouble = Trouble(log, monotonic_s, "revocations are saved again")
        # One write at a time; it covers all calls before it began.
        self._turn = asyncio.Lock()
        self._asked = 0
        self._saved = 0

    @property
    def gave_up(self) -> bool:
        """Return whether the last revocations could not be stored in time, and are lost with the process."""
        return self._gave_up

    async def save(self) -> bool:
        """Wait until all revocations so far are stored. Return whether they survive the process."""
        self._asked += 1
        if await self._try(self._asked):
            return self._store.durable
        if self._retrying is None:
            self._retrying = asyncio.create_task(self._retry())
        return False

    def abandon(self) -> None:
        """Let `finish` store nothing more: another process has taken over the store."""
        self._abandoned = True

    async def finish(self) -> None:
        """Store all revocations, or log after `stop_timeout_s` that it gave up."""
        if self._retrying is not None:
            self._retrying.cancel()
        try:
            async with asyncio.timeout(ABANDON_S if self._abandoned else self._stop_timeout_s):
                await self._retry()
        except TimeoutError:
            self._gave_up = True
            log.error(
                "gave up saving the last revocations after %g s; last error: %s",
                self._stop_timeout_s,
                self._trouble.last_error or "none, the last attempt still runs",
            )

    async def _retry(self) -> None:
        while self._saved < self._asked:
            if not await self._try(self._asked):
                await asyncio.sleep(self._retry_s)
        self._retrying = None

    async def _try(self, asked: int) -> bool:
        """Store the revocations of so many calls. Return whether they are stored."""
        async with self._turn:
            if self._saved < asked:
                covered, unsaved = self._asked, self.revocations.take_unsaved()
                try:
                    await in_thread(self._writer, self._store.save_revocations, unsaved)
                except Exception as error:  # noqa: BLE001
                    self.revocations.put_back(unsaved)
                    self._trouble.failed("a revocation cannot be saved", error)
                    return False
                except BaseException:
                    # Storing a revocation twice does no harm.
                    self.revocations.put_back(unsaved)
                    raise
                self._saved = covered
                self._trouble.worked()
            return True

"""Take snapshots of the store at intervals, in a thread of its own. A failure affects nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from ..clock import Clock
from ..storage.copies.snapshots import Manifest
from .periodic import NoThread, PeriodicTask, Trouble, in_thread

log = logging.getLogger("openred.snapshotter")

# The pause before the first snapshot: a server that restarts again and again must not spend its time on them.
FIRST_S = 60.0
# The pause after a failed snapshot, unless the interval is shorter.
RETRY_S = 300.0
STOPPING = "the server is stopping"
# The lowest priority for a processor (setpriority(2)).
NICENESS = 19


@dataclass(frozen=True, eq=False)
class SnapshotOptions:
    """How often a snapshot is taken, 0 for never, and how many are kept."""

    snapshot_interval_s: float
    snapshots_kept: int

    def __post_init__(self) -> None:
        if self.snapshot_interval_s < 0:
            raise ValueError(f"snapshot_interval_s is {self.snapshot_interval_s}, allowed is 0 or more")
        if self.snapshots_kept < 1:
            raise ValueError(f"snapshots_kept is {self.snapshots_kept}, allowed is 1 or more")


@dataclass
class SnapshotterStats:
    """The count of snapshots, and figures of the last one; `last_at` is wall time."""

    snapshots: int = 0
    last_at: float | None = None
    last_took_s: float = 0.0
    last_bytes: int = 0


class Stopped(Exception):
    """The server stops; the snapshot under way is given up."""


class SnapshotFailed(Exception):
    """A requested snapshot could not be taken. The message says why."""


class SnapshotSource(Protocol):
    """A source of snapshots; the snapshotter gets `Snapshots`. The methods run in a thread."""

    def clear(self) -> None:
        """Remove unfinished snapshots of processes that were killed."""

    def newest_at(self) -> float | None:
        """Return the wall time of the newest snapshot, or None."""

    def take(
        self, wall_s: float, *, kept: int, progress: Callable[[int, int], None]
    ) -> tuple[object, Manifest]:
        """Take a snapshot, and keep only `kept` of all; an exception in `progress` gives it up."""


def yield_to_others() -> None:
    """Give this thread the lowest priority, on Linux.

    Copying and checking need a processor but not the lock of the interpreter, and no request waits for them.
    """
    if sys.platform == "linux":
        # A filter of system calls may forbid it, or the kernel lack it.
        with contextlib.suppress(OSError):
            # On Linux, 0 is the calling thread; elsewhere it would be the whole process.
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


class Snapshotter(PeriodicTask):
    """The task that takes snapshots of `source`.

    `loss` returns how the file of the database was lost, or None: snapshots of another file must not replace
    good ones. `trouble` counts failures.
    """

    def __init__(
        self,
        source: SnapshotSource,
        clock: Clock,
        options: SnapshotOptions,
        loss: Callable[[], str | None],
    ) -> None:
        super().__init__()
        self._source = source
        self._loss = loss
        self._clock = clock
        self._interval_s = options.snapshot_interval_s
        self._kept = options.snapshots_kept
        self._waiting: list[asyncio.Future[Manifest]] = []
        self._thread: Executor | None = None
        # Set when the thread has to stop.
        self._stopped = threading.Event()
        self.stats = SnapshotterStats()
        self.trouble = Trouble(log, clock.monotonic_s, "snapshots are taken again")

    async def run(self) -> None:
        """Take a snapshot whenever one is due or requested, until `stop`."""
        with ThreadPoolExecutor(1, thread_name_prefix="snapshotter", initializer=yield_to_others) as thread:
            self._thread = thread
            await self.pause(await in_thread(thread, self._first_pause_s))
            await super().run()
        _answer(self._waiting, None, STOPPING)

    async def work(self) -> float | None:
        """Take a snapshot. Return the seconds until the next one, None for never."""
        waiting, self._waiting = self._waiting, []
        taken = None
        assert self._thread is not None
        try:
            pause_s, taken = await in_thread(self._thread, self._take)
        except NoThread as error:
            pause_s = self._failed(error)
        _answer(waiting, taken, STOPPING if self.stopping else self.trouble.last_error)
        return pause_s

    def stop(self) -> None:
        """Let `run` end; a snapshot under way is given up."""
        self._stopped.set()
        super().stop()

    async def take_now(self) -> Manifest:
        """Take a snapshot now, or after the one under way, and wait for it.

        Raises `SnapshotFailed`.
        """
        if self.stopping:
            raise SnapshotFailed(STOPPING)
        future: asyncio.Future[Manifest] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.wake()
        return await future

    def _first_pause_s(self) -> float | None:
        """Return the seconds until the first snapshot, None for never; the newest one begins the interval."""
        try:
            self._source.clear()
            newest_at = self._source.newest_at()
        except Exception as error:  # noqa: BLE001
            self._failed(error)
            newest_at = None
        if not self._interval_s:
            return None
        if newest_at is None:
            return min(FIRST_S, self._interval_s)
        # The wall clock may have been set back, so wait an interval at most.
        due_s = newest_at + self._interval_s - self._clock.wall_s()
        return min(max(FIRST_S, due_s), self._interval_s)

    def _take(self) -> tuple[float | None, Manifest | None]:
        """Take a snapshot. Return the seconds until the next one, None for never, and its manifest."""
        interval_s = self._interval_s or None
        began_s = self._clock.monotonic_s()
        try:
            loss = self._loss()
            if loss is not None:
                raise SnapshotFailed(f"the database {loss}")
            _, manifest = self._source.take(self._clock.wall_s(), kept=self._kept, progress=self._go_on)
        except Stopped:
            return interval_s, None
        except Exception as error:  # noqa: BLE001
            return self._failed(error), None
        stats = self.stats
        stats.snapshots += 1
        stats.last_at, stats.last_bytes = manifest.taken_at, manifest.file_bytes
        stats.last_took_s = self._clock.monotonic_s() - began_s
        self.trouble.worked()
        log.debug("took a snapshot of %d records in %.1f s", manifest.records, stats.last_took_s)
        return interval_s, manifest

    def _go_on(self, done: int, total: int) -> None:
        if self._stopped.is_set():
            raise Stopped

    def _failed(self, error: Exception) -> float | None:
        """Count a failure. Return the seconds until the next attempt, None for no other."""
        self.trouble.failed("a snapshot cannot be taken", error)
        return min(RETRY_S, self._interval_s) if self._interval_s else None


def _answer(waiting: list[asyncio.Future[Manifest]], taken: Manifest | None, error: str | None) -> None:
    """Give the result to the callers that requested the snapshot."""
    for future in waiting:
        if future.done():
            continue
        if taken is not None:
            future.set_result(taken)
        else:
            future.set_exception(SnapshotFailed(error))

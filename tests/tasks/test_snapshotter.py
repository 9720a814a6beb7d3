"""Snapshots are taken when due; a failure is logged once and harms nothing else."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from openred_central.storage.copies.snapshots import Manifest
from openred_central.tasks.snapshotter import (
    FIRST_S,
    NICENESS,
    RETRY_S,
    SnapshotFailed,
    Snapshotter,
)
from tests.support.clock import VirtualClock
from tests.support.options import snapshot_options
from tests.support.waiting import until

INTERVAL_S = 3_600.0
# The limit of each wait.
WAIT_S = 20.0


class FakeSource:
    """A source that records its calls; it raises `error`, and waits in a snapshot until its gate is open."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.newest: float | None = None
        self.taken: list[tuple[float, int]] = []
        self.cleared = 0
        self.error: Exception | None = None
        self.clear_error: Exception | None = None
        self.took = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.threads: set[int] = set()
        self.niceness = 0

    def clear(self) -> None:
        self.cleared += 1
        if self.clear_error is not None:
            raise self.clear_error

    def newest_at(self) -> float | None:
        return self.newest

    def take(
        self, wall_s: float, *, kept: int, progress: Callable[[int, int], None]
    ) -> tuple[object, Manifest]:
        self.threads.add(threading.get_ident())
        self.niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self.taken.append((wall_s, kept))
        self.took.set()
        assert self.gate.wait(WAIT_S)
        progress(1, 2)
        self.clock.advance(0.5)
        if self.error is not None:
            raise self.error
        return None, Manifest("openred.db", wall_s, 1, 4_096, "00", 3, 0, None)


class Parts:
    def __init__(self, **options: float) -> None:
        self.clock = VirtualClock()
        self.source = FakeSource(self.clock)
        given = {"snapshot_interval_s": INTERVAL_S, **options}
        self.loss: str | None = None
        self.snapshotter = Snapshotter(
            self.source,
            self.clock,
            snapshot_options(**given),  # type: ignore[arg-type]
            lambda: self.loss,
        )

    async def run(
        self, rounds: int, before: Callable[[int], object] = lambda number: None
    ) -> list[float | None]:
        """Run the snapshotter for so many pauses without waiting, `before` called in each; return them."""
        pauses: list[float | None] = []

        async def pause(pause_s: float | None) -> None:
            pauses.append(pause_s)
            before(len(pauses))
            if len(pauses) == rounds:
                self.snapshotter.stop()

        self.snapshotter.pause = pause  # type: ignore[method-assign]
        await self.snapshotter.run()
        return pauses


@pytest.mark.parametrize(
    ("newest_s_ago", "pause_s"),
    [
        (None, FIRST_S),
        (600.0, 3_000.0),
        (3_590.0, FIRST_S),
        (1e9, FIRST_S),
        # The clock was set back.
        (-1e6, INTERVAL_S),
    ],
)
async def test_the_first_snapshot_comes_an_interval_after_the_newest(
    newest_s_ago: float | None, pause_s: float
) -> None:
    parts = Parts()
    if newest_s_ago is not None:
        parts.source.newest = parts.clock.wall_s() - newest_s_ago
    assert await parts.run(1) == [pause_s]
    assert parts.source.cleared == 1


async def test_a_short_interval_is_never_exceeded() -> None:
    assert await Parts(snapshot_interval_s=2.0).run(1) == [2.0]


async def test_an_unreadable_folder_does_not_end_the_task() -> None:
    parts = Parts()
    parts.source.clear_error = PermissionError("no")
    assert await parts.run(1) == [FIRST_S]
    assert parts.snapshotter.trouble.last_error == "no"


async def test_snapshots_are_counted() -> None:
    parts = Parts(snapshots_kept=7)
    at = parts.clock.wall_s()
    assert await parts.run(2) == [FIRST_S, INTERVAL_S]
    assert parts.source.taken == [(at, 7)]
    stats = parts.snapshotter.stats
    assert (stats.snapshots, parts.snapshotter.trouble.failures, stats.last_at, stats.last_took_s) == (
        1,
        0,
        at,
        0.5,
    )
    assert (stats.last_bytes, parts.snapshotter.trouble.last_error) == (4_096, None)


async def test_the_beginning_and_end_of_failing_snapshots_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = Parts()
    parts.source.error = OSError("no room")

    def fix(number: int) -> None:
        if number == 4:
            assert parts.snapshotter.trouble.last_error == "no room"
            parts.source.error = None

    with caplog.at_level(logging.WARNING):
        assert await parts.run(6, fix) == [FIRST_S, *[RETRY_S] * 3, *[INTERVAL_S] * 2]
    assert caplog.messages == [
        "a snapshot cannot be taken, to be tried again: no room",
        "snapshots are taken again, after 3 failures in all",
    ]
    stats = parts.snapshotter.stats
    trouble = parts.snapshotter.trouble
    assert (stats.snapshots, trouble.failures, trouble.last_error) == (2, 3, None)


async def test_snapshots_are_taken_at_intervals_in_a_thread() -> None:
    parts = Parts(snapshot_interval_s=0.01)
    running = asyncio.create_task(parts.snapshotter.run())
    await until(lambda: parts.snapshotter.stats.snapshots >= 2)
    parts.snapshotter.stop()
    await running
    assert len(parts.source.threads) == 1
    assert threading.get_ident() not in parts.source.threads
    if sys.platform == "linux":
        assert parts.source.niceness == NICENESS, "all other threads go first"
        assert os.getpriority(os.PRIO_PROCESS, 0) < NICENESS


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
async def test_snapshots_do_not_need_the_lower_priority(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter of system calls may forbid it, or the kernel lack it."""

    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "setpriority", refuse)
    parts = Parts()
    running = asyncio.create_task(parts.snapshotter.run())
    assert (await parts.snapshotter.take_now()).records == 3
    parts.snapshotter.stop()
    await running


async def test_a_stop_gives_up_the_snapshot_under_way() -> None:
    parts = Parts(snapshot_interval_s=0.01)
    parts.source.gate.clear()
    running = asyncio.create_task(parts.snapshotter.run())
    await until(parts.source.took.is_set)
    parts.snapshotter.stop()
    parts.source.gate.set()
    await running
    assert (parts.snapshotter.stats.snapshots, parts.snapshotter.trouble.failures) == (0, 0)
    assert len(parts.source.taken) == 1


async def test_an_interval_of_zero_is_never() -> None:
    parts = Parts(snapshot_interval_s=0.0)
    running = asyncio.create_task(parts.snapshotter.run())
    await until(lambda: parts.source.cleared)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    parts.snapshotter.stop()
    await running
    assert parts.source.taken == []


@pytest.mark.parametrize("options", [{"snapshot_interval_s": -1.0}, {"snapshots_kept": 0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"allowed is \d or more"):
        snapshot_options(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("interval_s", [0.0, INTERVAL_S])
async def test_a_snapshot_can_be_requested_at_any_time(interval_s: float) -> None:
    parts = Parts(snapshot_interval_s=interval_s)
    running = asyncio.create_task(parts.snapshotter.run())
    assert (await parts.snapshotter.take_now()).records == 3
    assert (await parts.snapshotter.take_now()).records == 3
    assert parts.snapshotter.stats.snapshots == 2
    parts.snapshotter.stop()
    await running


async def test_a_request_during_a_snapshot_gets_the_next_one() -> None:
    parts = Parts()
    parts.source.gate.clear()
    running = asyncio.create_task(parts.snapshotter.run())
    first = asyncio.create_task(parts.snapshotter.take_now())
    await until(parts.source.took.is_set)
    second = asyncio.create_task(parts.snapshotter.take_now())
    await asyncio.sleep(0)
    parts.source.gate.set()
    await asyncio.gather(first, second)
    assert parts.snapshotter.stats.snapshots == 2
    parts.snapshotter.stop()
    await running


async def test_a_failed_request_for_a_snapshot_gets_the_cause() -> None:
    parts = Parts()
    parts.source.error = OSError("no room")
    running = asyncio.create_task(parts.snapshotter.run())
    with pytest.raises(SnapshotFailed, match="no room"):
        await parts.snapshotter.take_now()
    parts.source.gate.clear()
    parts.source.took.clear()
    under_way = asyncio.create_task(parts.snapshotter.take_now())
    await until(parts.source.took.is_set)
    behind = asyncio.create_task(parts.snapshotter.take_now())
    await asyncio.sleep(0)
    parts.snapshotter.stop()
    parts.source.gate.set()
    await running
    for asked in (under_way, behind, parts.snapshotter.take_now()):
        with pytest.raises(SnapshotFailed, match="the server is stopping"):
            await asked


async def test_a_file_that_is_not_the_database_is_not_copied() -> None:
    """Otherwise its snapshots would replace the good ones, one after the other."""
    parts = Parts()
    parts.loss = "was replaced: another file has its name"

    def find(number: int) -> None:
        if number == 2:
            assert parts.source.taken == []
            assert parts.snapshotter.trouble.last_error == f"the database {parts.loss}"
            parts.loss = None

    await parts.run(3, find)
    assert len(parts.source.taken) == 1
    assert parts.snapshotter.trouble.last_error is None


def starved(executor: ThreadPoolExecutor, *args: object) -> None:
    """Fail as a system without threads."""
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("interval_s", "pause_s"), [(INTERVAL_S, min(RETRY_S, INTERVAL_S)), (2.0, 2.0), (0.0, None)]
)
async def test_the_attempt_after_a_lack_of_threads_keeps_the_interval(
    monkeypatch: pytest.MonkeyPatch, interval_s: float, pause_s: float | None
) -> None:
    """A server without an interval takes no snapshot after a requested one failed."""
    parts = Parts(snapshot_interval_s=interval_s)
    # The thread ends with the first look at the folder.
    _, retry_s = await parts.run(2, lambda number: monkeypatch.setattr(ThreadPoolExecutor, "submit", starved))
    assert retry_s == pause_s


async def test_a_lack_of_threads_does_not_end_the_snapshotter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts()
    task = asyncio.create_task(parts.snapshotter.run())
    await until(lambda: parts.source.cleared)
    with monkeypatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "submit", starved)
        for _ in range(3):
            with pytest.raises(SnapshotFailed, match="can't start new thread"):
                await parts.snapshotter.take_now()
    assert parts.snapshotter.trouble.failures == 3
    assert (await parts.snapshotter.take_now()).records == 3
    parts.snapshotter.stop()
    await task

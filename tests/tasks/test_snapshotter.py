"""Snapshots are taken when they are due; what goes wrong with them is told once and harms nothing else."""

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
# Nothing here waits longer than this for what has to happen at once.
WAIT_S = 20.0


class FakeSource:
    """Counts what is asked; fails where told to, and waits in the middle of a snapshot where told to."""

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
def test_the_first_snapshot_comes_an_interval_after_the_newest(
    newest_s_ago: float | None, pause_s: float
) -> None:
    parts = Parts()
    if newest_s_ago is not None:
        parts.source.newest = parts.clock.wall_s() - newest_s_ago
    assert parts.snapshotter._first_pause_s() == pause_s
    assert parts.source.cleared == 1


def test_a_short_interval_is_never_exceeded() -> None:
    assert Parts(snapshot_interval_s=2.0).snapshotter._first_pause_s() == 2.0


def test_a_folder_that_cannot_be_read_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts()
    parts.source.clear_error = PermissionError("no")
    assert parts.snapshotter._first_pause_s() == FIRST_S
    assert parts.snapshotter.trouble.last_error == "no"


def test_what_was_taken_is_counted() -> None:
    parts = Parts(snapshots_kept=7)
    at = parts.clock.wall_s()
    pause_s, manifest = parts.snapshotter._take()
    assert pause_s == INTERVAL_S
    assert manifest is not None
    assert manifest.taken_at == at
    assert parts.source.taken == [(at, 7)]
    stats = parts.snapshotter.stats
    assert (stats.snapshots, parts.snapshotter.trouble.failures, stats.last_at, stats.last_took_s) == (
        1,
        0,
        at,
        0.5,
    )
    assert (stats.last_bytes, parts.snapshotter.trouble.last_error) == (4_096, None)


def test_a_failing_snapshot_is_told_once_in_each_direction_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = Parts()
    parts.source.error = OSError("no room")
    with caplog.at_level(logging.WARNING):
        assert [parts.snapshotter._take() for _ in range(3)] == [(RETRY_S, None)] * 3
        assert parts.snapshotter.trouble.last_error == "no room"
        parts.source.error = None
        assert [parts.snapshotter._take()[0] for _ in range(2)] == [INTERVAL_S] * 2
    assert caplog.messages == [
        "a snapshot cannot be taken, to be tried again: no room",
        "snapshots are taken again, after 3 failures in all",
    ]
    stats = parts.snapshotter.stats
    trouble = parts.snapshotter.trouble
    assert (stats.snapshots, trouble.failures, trouble.last_error) == (2, 3, None)


async def test_snapshots_are_taken_again_and_again_beside_the_loop() -> None:
    parts = Parts(snapshot_interval_s=0.01)
    running = asyncio.create_task(parts.snapshotter.run())
    await until(lambda: parts.snapshotter.stats.snapshots >= 2)
    parts.snapshotter.stop()
    await running
    assert len(parts.source.threads) == 1
    assert threading.get_ident() not in parts.source.threads
    if sys.platform == "linux":
        assert parts.source.niceness == NICENESS, "everybody else goes first"
        assert os.getpriority(os.PRIO_PROCESS, 0) < NICENESS


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
async def test_a_system_that_forbids_a_lower_priority_takes_snapshots_all_the_same(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a filter of system calls, or with a kernel that lacks this one."""

    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "setpriority", refuse)
    parts = Parts()
    running = asyncio.create_task(parts.snapshotter.run())
    assert (await parts.snapshotter.take_now()).records == 3
    parts.snapshotter.stop()
    await running


async def test_the_loop_goes_on_during_a_snapshot_and_stopping_gives_it_up() -> None:
    parts = Parts(snapshot_interval_s=0.01)
    parts.source.gate.clear()
    running = asyncio.create_task(parts.snapshotter.run())
    await until(parts.source.took.is_set)
    parts.snapshotter.stop()
    parts.source.gate.set()
    await running
    assert (parts.snapshotter.stats.snapshots, parts.snapshotter.trouble.failures) == (0, 0)
    assert len(parts.source.taken) == 1


async def test_an_interval_of_nothing_is_never() -> None:
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
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"allowed is \d or more"):
        snapshot_options(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("interval_s", [0.0, INTERVAL_S])
async def test_a_snapshot_can_be_asked_for_at_any_time(interval_s: float) -> None:
    parts = Parts(snapshot_interval_s=interval_s)
    running = asyncio.create_task(parts.snapshotter.run())
    assert (await parts.snapshotter.take_now()).records == 3
    assert (await parts.snapshotter.take_now()).records == 3
    assert parts.snapshotter.stats.snapshots == 2
    parts.snapshotter.stop()
    await running


async def test_one_asked_for_while_another_is_under_way_comes_behind_it() -> None:
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


async def test_whoever_asked_is_told_why_there_is_none() -> None:
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


def test_a_file_that_is_not_the_database_is_not_copied() -> None:
    """It would push out the good snapshots, one after the other."""
    parts = Parts()
    parts.loss = "was replaced: another file has its name"
    assert parts.snapshotter._take()[1] is None
    assert parts.source.taken == []
    assert parts.snapshotter.trouble.last_error == "the database was replaced: another file has its name"
    parts.loss = None
    assert parts.snapshotter._take()[1] is not None
    assert parts.snapshotter.trouble.last_error is None


@pytest.mark.parametrize(
    ("interval_s", "pause_s"), [(INTERVAL_S, min(RETRY_S, INTERVAL_S)), (2.0, 2.0), (0.0, None)]
)
async def test_without_a_thread_the_next_attempt_keeps_to_the_interval(
    monkeypatch: pytest.MonkeyPatch, interval_s: float, pause_s: float | None
) -> None:
    """A server without an interval takes no snapshot after a requested one failed."""
    parts, pauses = Parts(snapshot_interval_s=interval_s), list[float | None]()

    async def pause(pause_s: float | None) -> None:
        pauses.append(pause_s)
        # After the first look at the folder the system gives no thread.
        monkeypatch.setattr(ThreadPoolExecutor, "submit", starved)
        if len(pauses) > 1:
            parts.snapshotter.stop()

    def starved(executor: ThreadPoolExecutor, *args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(parts.snapshotter, "pause", pause)
    await parts.snapshotter.run()
    assert pauses[1:] == [pause_s]


async def test_without_a_thread_no_snapshot_is_taken_and_the_task_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def starved(executor: ThreadPoolExecutor, *args: object) -> None:
        raise RuntimeError("can't start new thread")

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

"""Background tasks: their loop and supervision, and the log of lasting failures."""

from __future__ import annotations

import asyncio
import logging

import pytest

from openred_central.listening import StartError
from openred_central.tasks import periodic
from openred_central.tasks.periodic import (
    PAUSE_S_MAX,
    REPORT_S,
    PeriodicTask,
    Supervisor,
    Trouble,
    described,
)
from tests.support.clock import VirtualClock

# The limit of each wait.
WAIT_S = 20.0


class Work:
    """Work that raises each of `errors` in turn, then returns; each run takes `took_s` seconds."""

    def __init__(self, *errors: Exception, clock: VirtualClock | None = None, took_s: float = 0.0) -> None:
        self.errors = list(errors)
        self.clock = clock
        self.took_s = took_s
        self.begun = 0

    async def __call__(self) -> None:
        self.begun += 1
        if self.clock is not None:
            self.clock.advance(self.took_s)
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "PAUSE_S_MIN", 0.001)


async def test_a_failed_task_is_restarted_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervising = Supervisor(VirtualClock())
    work = Work(RuntimeError("can't start new thread"), MemoryError())
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(supervising.run("saver", work), WAIT_S)
    assert work.begun == 3
    assert supervising.failures == {"saver": 2}
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("the saver failed and is restarted in 0.001 s: RuntimeError(")
    assert "can't start new thread" in first
    assert "(test_periodic.py:" in first
    assert second.startswith("the saver failed and is restarted in 0.002 s: MemoryError()")
    assert all(record.exc_info is None for record in caplog.records)


async def test_after_a_long_run_the_pause_is_short_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    work = Work(ValueError(), ValueError(), ValueError(), clock=clock, took_s=PAUSE_S_MAX)
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(Supervisor(clock).run("prober", work), WAIT_S)
    assert [record.args[1] for record in caplog.records] == [0.001] * 3  # type: ignore[index]


async def test_a_start_error_ends_a_task() -> None:
    with pytest.raises(StartError):
        await Supervisor(VirtualClock()).run("keykeeper", Work(StartError("no key")))


@pytest.mark.parametrize("fixed", [False, True])
async def test_a_stop_runs_a_pausing_task_once_more(
    monkeypatch: pytest.MonkeyPatch, fixed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(periodic, "PAUSE_S_MIN", 3_600.0)
    supervising, work = Supervisor(VirtualClock()), Work(*[ValueError()] * 3)
    task = asyncio.create_task(supervising.run("saver", work))
    while not supervising.failures["saver"]:
        await asyncio.sleep(0)
    if fixed:
        work.errors.clear()
    supervising.stop()
    await asyncio.wait_for(task, WAIT_S)
    assert work.begun == 2
    assert supervising.failures == {"saver": 1 if fixed else 2}
    assert ("the saver failed at the stop: ValueError()" in caplog.text) is not fixed


def test_an_error_that_was_never_raised_has_no_location() -> None:
    assert described(ValueError("x")) == "ValueError('x')"


class Counting(PeriodicTask):
    """A task that counts its calls and pauses for `pause_s`."""

    def __init__(self, pause_s: float | None) -> None:
        super().__init__()
        self.pause_s = pause_s
        self.calls = 0

    async def work(self) -> float | None:
        self.calls += 1
        return self.pause_s


@pytest.mark.parametrize("pause_s", [0.0, 0.001])
async def test_a_task_works_at_its_pace_until_it_stops(pause_s: float) -> None:
    task = Counting(pause_s)
    running = asyncio.create_task(task.run())
    async with asyncio.timeout(WAIT_S):
        while task.calls < 3:
            await asyncio.sleep(0)
        task.stop()
        await running


async def test_a_task_is_woken_and_stopped_during_a_pause() -> None:
    task = Counting(None)
    running = asyncio.create_task(task.run())
    async with asyncio.timeout(WAIT_S):
        for calls in (1, 2):
            while task.calls < calls:
                await asyncio.sleep(0)
            task.wake()
        while task.calls < 3:
            await asyncio.sleep(0)
        task.stop()
        await running
    assert task.calls == 3


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def trouble(clock: VirtualClock) -> Trouble:
    return Trouble(logging.getLogger("test"), clock.monotonic_s, "it works again")


def test_the_beginning_and_end_of_a_failure_are_logged_once(
    trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    trouble.worked()
    for what in ("no room", "still no room"):
        trouble.failed("it fails", OSError(what))
    for _ in range(2):
        trouble.worked()
    assert [(entry.levelname, entry.message) for entry in caplog.records] == [
        ("ERROR", "it fails, to be tried again: no room"),
        ("WARNING", "it works again, after 2 failures in all"),
    ]


def test_an_intermittent_failure_is_logged_once_a_minute(
    trouble: Trouble, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(int(3 * REPORT_S / 0.5)):
        trouble.failed("it fails", OSError("no room"))
        clock.advance(0.25)
        trouble.worked()
        clock.advance(0.25)
    assert [entry.levelname for entry in caplog.records] == ["ERROR", "WARNING"] * 3


def test_a_failure_that_returns_and_stays_is_logged(
    trouble: Trouble, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    trouble.failed("it fails", OSError("no room"))
    trouble.worked()
    caplog.clear()
    trouble.failed("it fails", OSError("gone"))
    assert caplog.messages == []
    clock.advance(REPORT_S)
    trouble.failed("it fails", OSError("still gone"))
    assert caplog.messages == ["it fails, to be tried again: still gone"]

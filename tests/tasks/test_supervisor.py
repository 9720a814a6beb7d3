"""No background task ends the server: it is begun anew, told and counted."""

from __future__ import annotations

import asyncio
import logging

import pytest

from openred_central.listening import StartError
from openred_central.tasks import supervisor
from openred_central.tasks.supervisor import PAUSE_S_MAX, Supervisor, described
from tests.support.clock import VirtualClock

# Nothing here waits longer than this for what has to happen at once.
WAIT_S = 20.0


class Work:
    """Fails as often as there are `errors`, and then ends; each time it runs for so many seconds."""

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
    monkeypatch.setattr(supervisor, "PAUSE_S_MIN", 0.001)


async def test_a_task_that_fails_is_begun_anew_told_in_one_line_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervising = Supervisor(VirtualClock())
    work = Work(RuntimeError("can't start new thread"), MemoryError())
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(supervising.run("saver", work), WAIT_S)
    assert work.begun == 3
    assert supervising.failures == {"saver": 2}
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("the saver failed, and begins anew in 0.001 s: RuntimeError(")
    assert "can't start new thread" in first
    assert "(test_supervisor.py:" in first
    assert second.startswith("the saver failed, and begins anew in 0.002 s: MemoryError()")
    assert all(record.exc_info is None for record in caplog.records)


async def test_after_a_long_run_the_pause_is_short_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    work = Work(ValueError(), ValueError(), ValueError(), clock=clock, took_s=PAUSE_S_MAX)
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(Supervisor(clock).run("prober", work), WAIT_S)
    assert [record.args[1] for record in caplog.records] == [0.001] * 3  # type: ignore[index]


async def test_what_a_start_refuses_ends_it() -> None:
    with pytest.raises(StartError):
        await Supervisor(VirtualClock()).run("keykeeper", Work(StartError("no key")))


@pytest.mark.parametrize("mended", [False, True])
async def test_a_stop_waits_for_no_pause_and_begins_what_pauses_once_more(
    monkeypatch: pytest.MonkeyPatch, mended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_S_MIN", 3_600.0)
    supervising, work = Supervisor(VirtualClock()), Work(*[ValueError()] * 3)
    task = asyncio.create_task(supervising.run("saver", work))
    while not supervising.failures["saver"]:
        await asyncio.sleep(0)
    if mended:
        work.errors.clear()
    supervising.stop()
    await asyncio.wait_for(task, WAIT_S)
    assert work.begun == 2
    assert supervising.failures == {"saver": 1 if mended else 2}
    assert ("the saver failed at the stop: ValueError()" in caplog.text) is not mended


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert described(ValueError("x")) == "ValueError('x')"

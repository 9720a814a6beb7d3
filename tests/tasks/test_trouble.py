"""A trouble is told when it begins and when it ends, and one that comes and goes fills no log."""

from __future__ import annotations

import logging

import pytest

from openred_central.clock import AttendedTime
from openred_central.tasks.trouble import TELL_S, Trouble
from tests.support.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def trouble(clock: VirtualClock) -> Trouble:
    return Trouble(logging.getLogger("test"), AttendedTime(clock).now, "it fails", "it works again")


def test_its_beginning_and_its_end_are_told_once_each(
    trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    trouble.worked()
    for what in ("no room", "still no room"):
        trouble.failed(what)
    for _ in range(2):
        trouble.worked()
    assert [(entry.levelname, entry.message) for entry in caplog.records] == [
        ("ERROR", "it fails, to be tried again: no room"),
        ("WARNING", "it works again, after 2 failures in all"),
    ]


def test_one_that_comes_and_goes_is_told_once_a_minute(
    trouble: Trouble, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(int(3 * TELL_S / 0.5)):
        trouble.failed("no room")
        clock.advance(0.25)
        trouble.worked()
        clock.advance(0.25)
    assert [entry.levelname for entry in caplog.records] == ["ERROR", "WARNING"] * 3


def test_one_that_came_back_too_soon_and_stays_is_told_all_the_same(
    trouble: Trouble, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    trouble.failed("no room")
    trouble.worked()
    caplog.clear()
    trouble.failed("gone")
    assert caplog.messages == []
    clock.advance(TELL_S)
    trouble.failed("still gone")
    assert caplog.messages == ["it fails, to be tried again: still gone"]

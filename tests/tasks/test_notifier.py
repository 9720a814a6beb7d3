"""Reports to the service manager, over a real datagram socket."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openred_central.tasks.notifier import STATUS_S, Notifier

PROCESS = 42


class Manager:
    """A stand-in for the service manager; it receives at the address `named`."""

    def __init__(self, named: str) -> None:
        self.named = named
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(named.replace("@", "\0", 1))
        self.socket.setblocking(False)

    def received(self) -> list[str]:
        """Return the datagrams received since the last call."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4_096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    named = str(tmp_path / "notify") if request.param == "path" else f"@openred-{secrets.token_hex(8)}"
    made = Manager(named)
    yield made
    made.socket.close()


class Reporting:
    """A notifier and the status that it reports."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.status = ""
        self.notifier = Notifier(environment, PROCESS, lambda: self.status)


Open = Callable[..., Reporting]


@pytest.fixture
def open_notifier() -> Iterator[Open]:
    made: list[Reporting] = []

    def make(**environment: str) -> Reporting:
        made.append(Reporting(environment))
        return made[-1]

    yield make
    for each in made:
        each.notifier.close()


async def test_start_changes_and_stop_are_reported(manager: Manager, open_notifier: Open) -> None:
    reporting = open_notifier(NOTIFY_SOCKET=manager.named)
    notifier = reporting.notifier
    notifier.loading()
    reporting.status = "3 nodes"
    notifier.ready()
    await notifier.work()
    reporting.status = "4 nodes"
    await notifier.work()
    notifier.ending()
    assert manager.received() == [
        "STATUS=loading",
        "READY=1\nSTATUS=3 nodes",
        "STATUS=4 nodes",
        "STOPPING=1\nSTATUS=stopping",
    ]


@pytest.mark.parametrize(("watchdog", "pause_s"), [("4000000", 2.0), ("60000000", STATUS_S)])
async def test_the_watchdog_gets_two_reports_per_interval(
    manager: Manager, open_notifier: Open, watchdog: str, pause_s: float
) -> None:
    reporting = open_notifier(NOTIFY_SOCKET=manager.named, WATCHDOG_USEC=watchdog, WATCHDOG_PID=str(PROCESS))
    for status in ("a", "a", "b"):
        reporting.status = status
        assert await reporting.notifier.work() == pause_s
    assert manager.received() == ["WATCHDOG=1\nSTATUS=a", "WATCHDOG=1", "WATCHDOG=1\nSTATUS=b"]


async def test_a_stopping_server_still_reports_to_the_watchdog(manager: Manager, open_notifier: Open) -> None:
    reporting = open_notifier(NOTIFY_SOCKET=manager.named, WATCHDOG_USEC="4000000")
    reporting.notifier.ending()
    await reporting.notifier.work()
    assert manager.received() == ["STOPPING=1\nSTATUS=stopping", "WATCHDOG=1"]


async def test_without_a_watchdog_only_changes_are_sent(manager: Manager, open_notifier: Open) -> None:
    reporting = open_notifier(NOTIFY_SOCKET=manager.named)
    reporting.status = "same"
    for _ in range(3):
        await reporting.notifier.work()
    assert manager.received() == ["STATUS=same"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "many"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(PROCESS + 1)},
    ],
)
def test_a_watchdog_that_is_off_or_of_another_process_is_ignored(
    environment: dict[str, str], open_notifier: Open
) -> None:
    assert open_notifier(**environment).notifier.watchdog_s is None


def test_without_a_manager_nothing_is_sent(open_notifier: Open, caplog: pytest.LogCaptureFixture) -> None:
    notifier = open_notifier().notifier
    notifier.ready()
    notifier.ending()
    assert caplog.messages == []


@pytest.mark.parametrize("named", ["relative/path", "vsock:2:1234", "x"])
def test_an_unusable_address_is_logged_once(
    open_notifier: Open, caplog: pytest.LogCaptureFixture, named: str
) -> None:
    open_notifier(NOTIFY_SOCKET=named).notifier.ready()
    (message,) = caplog.messages
    assert named in message


async def test_a_lost_manager_is_logged_once(
    tmp_path: Path, open_notifier: Open, caplog: pytest.LogCaptureFixture
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    reporting = open_notifier(NOTIFY_SOCKET=manager.named)
    for number in range(5_000):
        reporting.status = str(number)
        await reporting.notifier.work()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    manager.received()
    reporting.status = "heard again"
    await reporting.notifier.work()
    assert manager.received() == ["STATUS=heard again"]
    manager.socket.close()
    reporting.notifier.ready()
    reporting.notifier.ending()
    assert len(caplog.records) == 2

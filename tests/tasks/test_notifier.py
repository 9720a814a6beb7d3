"""What the service manager is told, over a real datagram socket."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openred_central.tasks.notifier import STATUS_S, Notifier

PROCESS = 42


class Manager:
    """Stands in for the service manager: hears what is sent to `named`."""

    def __init__(self, named: str) -> None:
        self.named = named
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(named.replace("@", "\0", 1))
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """What came since it was last asked, a datagram each."""
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


@pytest.fixture
def open_notifier() -> Iterator[Callable[..., Notifier]]:
    made: list[Notifier] = []

    def make(**environment: str) -> Notifier:
        made.append(Notifier(environment, PROCESS))
        return made[-1]

    yield make
    for notifier in made:
        notifier.close()


Open = Callable[..., Notifier]


def test_the_life_of_a_server_is_told(manager: Manager, open_notifier: Open) -> None:
    notifier = open_notifier(NOTIFY_SOCKET=manager.named)
    notifier.status("loading")
    notifier.ready("3 nodes")
    notifier.status("3 nodes")
    notifier.status("4 nodes")
    notifier.stopping()
    assert manager.heard() == [
        "STATUS=loading",
        "READY=1\nSTATUS=3 nodes",
        "STATUS=4 nodes",
        "STOPPING=1\nSTATUS=stopping",
    ]


async def let_run(notifier: Notifier, turns: int, pauses: list[float], status: Callable[[], str]) -> None:
    """Run `notifier` for so many signs of life; how long it would have waited goes into `pauses`."""
    waited_for = asyncio.wait_for

    async def wait_for(awaitable: object, timeout_s: float) -> None:
        pauses.append(timeout_s)
        if len(pauses) == turns:
            notifier.stop()
        await waited_for(awaitable, 0)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "wait_for", wait_for)
        await notifier.run(status)


@pytest.mark.parametrize(("watchdog", "pause_s"), [("4000000", 2.0), ("60000000", STATUS_S)])
async def test_signs_of_life_come_at_half_the_interval_of_the_watchdog_at_least(
    manager: Manager, open_notifier: Open, watchdog: str, pause_s: float
) -> None:
    notifier = open_notifier(NOTIFY_SOCKET=manager.named, WATCHDOG_USEC=watchdog, WATCHDOG_PID=str(PROCESS))
    pauses: list[float] = []
    statuses = iter(["a", "a", "b"])
    await let_run(notifier, 3, pauses, lambda: next(statuses))
    assert pauses == [pause_s] * 3
    assert manager.heard() == ["WATCHDOG=1\nSTATUS=a", "WATCHDOG=1", "WATCHDOG=1\nSTATUS=b"]


async def test_a_server_that_stops_still_gives_signs_of_life(manager: Manager, open_notifier: Open) -> None:
    notifier = open_notifier(NOTIFY_SOCKET=manager.named, WATCHDOG_USEC="4000000")
    notifier.stopping()
    await let_run(notifier, 1, [], lambda: "3 nodes")
    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping", "WATCHDOG=1"]


async def test_without_a_watchdog_only_changes_are_told(manager: Manager, open_notifier: Open) -> None:
    notifier = open_notifier(NOTIFY_SOCKET=manager.named)
    await let_run(notifier, 3, [], lambda: "same")
    assert manager.heard() == ["STATUS=same"]


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
def test_a_watchdog_that_is_off_or_anothers_is_none(environment: dict[str, str], open_notifier: Open) -> None:
    assert open_notifier(**environment).watchdog_s is None


def test_without_a_manager_nothing_is_told(open_notifier: Open, caplog: pytest.LogCaptureFixture) -> None:
    notifier = open_notifier()
    notifier.ready("3 nodes")
    notifier.stopping()
    assert caplog.messages == []


@pytest.mark.parametrize("named", ["relative/path", "vsock:2:1234", "x"])
def test_an_address_of_another_kind_is_told_once(
    open_notifier: Open, caplog: pytest.LogCaptureFixture, named: str
) -> None:
    open_notifier(NOTIFY_SOCKET=named).ready("3 nodes")
    (message,) = caplog.messages
    assert named in message


def test_a_manager_that_is_gone_or_does_not_read_harms_nothing_and_is_logged_once(
    tmp_path: Path, open_notifier: Open, caplog: pytest.LogCaptureFixture
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = open_notifier(NOTIFY_SOCKET=manager.named)
    for number in range(5_000):
        notifier.status(str(number))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    manager.heard()
    notifier.status("heard again")
    assert manager.heard() == ["STATUS=heard again"]
    manager.socket.close()
    notifier.ready("3 nodes")
    notifier.stopping()
    assert len(caplog.records) == 2

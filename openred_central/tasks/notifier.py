"""Tells the service manager how the server is: ready, alive, stopping (sd_notify(3)).

The protocol is a few lines of ``NAME=value`` in one datagram to the Unix socket that ``NOTIFY_SOCKET`` names.
That the server is alive is said by the event loop itself, so that one that hangs falls silent and is
restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Final

# How often the status is looked at where no watchdog asks for more.
STATUS_S: Final = 10.0
# A sign of life comes at half the watchdog's interval, as sd_watchdog_enabled(3) advises.
SIGNS_PER_WATCHDOG: Final = 2

log = logging.getLogger("openred.notifier")


class Notifier:
    """Speaks to the service manager whose socket `environment` names; where it names none, to nobody.

    `environment` holds ``NOTIFY_SOCKET``, a path or, behind ``@``, an abstract name; and, for a watchdog,
    ``WATCHDOG_USEC`` and ``WATCHDOG_PID``, which count only if meant for `process_id`.
    """

    def __init__(self, environment: Mapping[str, str], process_id: int) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment, process_id)
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # A manager that does not read must not hold up the loop.
            self._socket.setblocking(False)
        self._status = ""
        self._ending = False
        self._told_failure = False
        self._stopping = asyncio.Event()

    def ready(self, status: str) -> None:
        """The server is up: what waits for it may start."""
        self._tell("READY=1", self._changed(status))

    def status(self, status: str) -> None:
        """One line for people, told only where it is another than before."""
        self._tell(self._changed(status))

    def stopping(self) -> None:
        """The server is on its way out."""
        self._ending = True
        self._tell("STOPPING=1", self._changed("stopping"))

    async def run(self, status: Callable[[], str]) -> None:
        """Give signs of life, and tell when `status` has changed, until `stop`."""
        pause_s = STATUS_S
        if self.watchdog_s is not None:
            pause_s = min(pause_s, self.watchdog_s / SIGNS_PER_WATCHDOG)
        while not self._stopping.is_set():
            sign = "WATCHDOG=1" if self.watchdog_s is not None else ""
            # While it stops, which may take a while, the server is still alive; but that is its status.
            self._tell(sign, "" if self._ending else self._changed(status()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def close(self) -> None:
        """Nothing is told any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _changed(self, status: str) -> str:
        if status == self._status:
            return ""
        self._status = status
        return f"STATUS={status}"

    def _tell(self, *lines: str) -> None:
        """Send what is not empty of `lines`. Where it does not arrive, that is logged once."""
        said = [line for line in lines if line]
        if self._socket is None or self._address is None or not said:
            return
        try:
            # Several assignments in one datagram take effect together.
            self._socket.sendto("\n".join(said).encode("utf-8"), self._address)
        except OSError as error:
            if not self._told_failure:
                log.warning("the service manager cannot be told %s: %s", said[0], error)
            self._told_failure = True
        else:
            self._told_failure = False


def _address(named: str) -> str | bytes | None:
    """The address of the socket that ``NOTIFY_SOCKET`` names; None where there is none to speak to."""
    if named.startswith("@"):
        return b"\0" + named[1:].encode("utf-8")
    if named.startswith("/"):
        return named
    if named:
        log.warning("NOTIFY_SOCKET is %r, allowed is an absolute path or @ and a name; nobody is told", named)
    return None


def _watchdog_s(environment: Mapping[str, str], process_id: int) -> float | None:
    """How long the manager waits for a sign of life; None where it does not (sd_watchdog_enabled(3))."""
    if environment.get("WATCHDOG_PID", str(process_id)) != str(process_id):
        return None
    written = environment.get("WATCHDOG_USEC", "")
    if not written.isascii() or not written.isdigit() or int(written) == 0:
        return None
    return int(written) / 1_000_000

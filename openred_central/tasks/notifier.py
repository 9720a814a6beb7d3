"""Report the state of the server to the service manager: ready, alive, stopping (sd_notify(3)).

A report is one datagram with lines of ``NAME=value``, sent to the Unix socket that ``NOTIFY_SOCKET`` names.
The event loop itself reports that the server is alive, so the manager notices a loop that hangs and restarts
the server.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Final

from .periodic import PeriodicTask

# The longest pause between two looks at the status.
STATUS_S: Final = 10.0
# Two reports in each interval of the watchdog, as sd_watchdog_enabled(3) advises.
REPORTS_PER_WATCHDOG: Final = 2

log = logging.getLogger("openred.notifier")


class Notifier(PeriodicTask):
    """The task that reports to the service manager, if `environment` names its socket.

    ``NOTIFY_SOCKET`` is a path, or ``@`` and an abstract name. ``WATCHDOG_USEC`` is the interval of a
    watchdog; it is ignored if ``WATCHDOG_PID`` is not `process_id`. `status` returns one line for people.
    """

    def __init__(self, environment: Mapping[str, str], process_id: int, status: Callable[[], str]) -> None:
        super().__init__()
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment, process_id)
        self._read_status = status
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # A manager that does not read must not block the loop.
            self._socket.setblocking(False)
        self._status = ""
        self._ending = False
        self._failure_logged = False

    def loading(self) -> None:
        """Report that the server is loading its database."""
        self._send(self._changed("loading"))

    def ready(self) -> None:
        """Report that the server is up: units that wait for it may start."""
        self._send("READY=1", self._changed(self._read_status()))

    def ending(self) -> None:
        """Report that the server is stopping."""
        self._ending = True
        self._send("STOPPING=1", self._changed("stopping"))

    async def work(self) -> float:
        """Report to the watchdog, and report a changed status. Return the seconds until the next call."""
        alive = "WATCHDOG=1" if self.watchdog_s is not None else ""
        # A server that takes long to stop is still alive, but its status stays "stopping".
        self._send(alive, "" if self._ending else self._changed(self._read_status()))
        return min(STATUS_S, (self.watchdog_s or STATUS_S * REPORTS_PER_WATCHDOG) / REPORTS_PER_WATCHDOG)

    def close(self) -> None:
        """Close the socket; later reports are dropped."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _changed(self, status: str) -> str:
        if status == self._status:
            return ""
        self._status = status
        return f"STATUS={status}"

    def _send(self, *lines: str) -> None:
        """Send the lines that are not empty, in one datagram. Log a lasting failure once."""
        sent = [line for line in lines if line]
        if self._socket is None or self._address is None or not sent:
            return
        try:
            # Several assignments in one datagram take effect together.
            self._socket.sendto("\n".join(sent).encode("utf-8"), self._address)
        except OSError as error:
            if not self._failure_logged:
                log.warning("cannot send %s to the service manager: %s", sent[0], error)
            self._failure_logged = True
        else:
            self._failure_logged = False


def _address(name: str) -> str | bytes | None:
    """Return the address of the socket that ``NOTIFY_SOCKET`` names; None without one."""
    if name.startswith("@"):
        return b"\0" + name[1:].encode("utf-8")
    if name.startswith("/"):
        return name
    if name:
        log.warning("NOTIFY_SOCKET is %r, allowed is an absolute path or @ and a name; it is ignored", name)
    return None


def _watchdog_s(environment: Mapping[str, str], process_id: int) -> float | None:
    """Return the interval of the watchdog in seconds; None without one (sd_watchdog_enabled(3))."""
    if environment.get("WATCHDOG_PID", str(process_id)) != str(process_id):
        return None
    written = environment.get("WATCHDOG_USEC", "")
    if not written.isascii() or not written.isdigit() or int(written) == 0:
        return None
    return int(written) / 1_000_000

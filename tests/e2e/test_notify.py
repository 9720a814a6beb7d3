"""The server and its service manager: readiness, signs of life and the end, as they are really sent."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests.support.running import WAIT_S_MAX, Client, Start, until

# Long beside a tick of the scheduler, short beside a test.
WATCHDOG_S = 1.0


def test_the_service_manager_follows_the_server(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT_S_MAX)
        server = start(
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC=str(int(WATCHDOG_S * 1_000_000)),
            ready=False,
        )
        assert manager.recv(4_096) == b"STATUS=loading"
        assert manager.recv(4_096) == b"READY=1\nSTATUS=0 nodes, store ok"
        # A server that is ready accepts connections.
        server.wait_ready()
        with Client(server.address) as client:
            client.register("alice")
        until(lambda: _sign_of_life(manager) == b"\nSTATUS=1 node, store ok", "the number of nodes")
        assert _sign_of_life(manager) == b""
        server.send_signal(signal.SIGSTOP)
        manager.settimeout(2 * WATCHDOG_S)
        # Read what was on its way; then comes nothing: the manager would restart the server.
        silent = _drain(manager)
        server.send_signal(signal.SIGCONT)
        assert silent
        manager.settimeout(WAIT_S_MAX)
        # The store may be behind for a moment.
        _sign_of_life(manager)
        server.send_signal(signal.SIGTERM)
        until(lambda: manager.recv(4_096).startswith(b"STOPPING=1"), "the end to be told")
        assert server.wait() == 0


def _sign_of_life(manager: socket.socket) -> bytes:
    """Return what is said beside the sign of life that has to come next."""
    message = manager.recv(4_096)
    assert message.startswith(b"WATCHDOG=1")
    return message.removeprefix(b"WATCHDOG=1")


def _drain(manager: socket.socket) -> bool:
    """Return whether `manager` hears nothing within its timeout, but for what had been sent already."""
    for _ in range(10):
        try:
            manager.recv(4_096)
        except TimeoutError:
            return True
    return False

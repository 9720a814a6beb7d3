"""Nobody but the server's own user reaches the leader as a worker does."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from openred_central.server.assembly import Assembly
from openred_central.server.crew import SOCKET, Crew
from openred_central.settings.config import load
from tests.support.clock import VirtualClock


def test_only_the_user_of_the_server_reaches_the_leader() -> None:
    assembly = Assembly(
        load({"workers": "2"}, {}),
        VirtualClock(),
        random=lambda: 0.5,
        entropy=bytes,
        started_s=0.0,
        proofs_from_s=0.0,
    )
    crew = Crew(assembly, {})
    try:
        with crew.leaders_listener() as listener:
            path = Path(listener.getsockname())
            assert listener.family == socket.AF_UNIX
            assert path.name == SOCKET
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert [each.name for each in path.parent.iterdir()] == [SOCKET]
    finally:
        crew.close()
    assert not path.parent.exists()

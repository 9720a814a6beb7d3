"""A worker leaves alone what others still need."""

from __future__ import annotations

from pathlib import Path

from openred_central.listening import listen_unix
from openred_central.server.worker import remove_abandoned


def test_only_a_socket_whose_owner_has_ended_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "openred-x" / "leader.sock"
    path.parent.mkdir()
    listener = listen_unix(path, backlog=1)
    remove_abandoned(path)
    assert path.is_socket(), "one worker that is cut off takes nothing from the others"
    listener.close()
    remove_abandoned(path)
    assert not path.parent.exists()
    remove_abandoned(path)

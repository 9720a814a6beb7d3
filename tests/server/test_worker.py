"""A worker leaves alone what others still need, and takes what its owner tells before it serves."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from openred_central.cluster.link import Kind, Link, LinkBroken
from openred_central.listening import listen_unix
from openred_central.micro_engine.places import KEY_BYTES, shared_memory
from openred_central.server import worker as module
from openred_central.server.worker import Passed, Worker, remove_abandoned
from openred_central.settings.config import load


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


async def test_a_worker_that_loads_takes_another_certificate_and_outlives_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "on_signal", lambda callback: None)
    monkeypatch.setattr(module, "ENDING_S", 0.0)
    path = tmp_path / "openred-x" / "leader.sock"
    path.parent.mkdir()
    listen_unix(path, backlog=1).close()
    ours, its = socket.socketpair()
    places = shared_memory(1)
    with closing(os.fdopen(places)):
        worker = Worker(load({"workers": "2"}, {}), 0, Passed(its.detach(), places, (), ()))
        owner = await Link.over(ours)
        hello = {"told": {"attended_s": 0.0}, "events": "run", "places_key": bytes(KEY_BYTES).hex()}
        owner.tell(Kind.HELLO, hello | {"socket": str(path)})
        owner.send(Kind.RENEW)
        await owner.close()
        with pytest.raises(LinkBroken, match="the other end has ended"):
            await worker.run()
    assert not path.parent.exists()

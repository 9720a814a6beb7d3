"""A follower tells the leader in time what it has heard, however seldom that is stored."""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from openred_central.cluster.followers import GRACE_S
from openred_central.cluster.lease import Role
from openred_central.cluster.link import LinkBroken
from openred_central.server import follower_role
from openred_central.server.follower_role import FollowerRole, delivery_s
from openred_central.server.membership import Membership, run_of
from openred_central.storage.postgres.leasing import LeaseRow


def test_a_follower_that_delivers_is_never_missing() -> None:
    assert delivery_s(1.0) == 0.5
    for flush_interval_s in (0.01, 30.0, 3_600.0):
        assert delivery_s(flush_interval_s) < GRACE_S / 2


def membership(**leader: object) -> tuple[Membership, LeaseRow]:
    """Return an instance, and the row of another one that leads and describes itself so."""
    row = LeaseRow("ab-cd", 3, "other", 1, 7, 1, 0.0, 0.0, leader)
    others: Any = SimpleNamespace(accept_database=None)
    made = Membership(
        *[others] * 4,
        who={"name": "a", "run": "own"},
        stop=asyncio.Event(),
        changed=asyncio.Event(),
        link_context=ssl.create_default_context(),
        asking_context=ssl.create_default_context(),
    )
    return made, row


@pytest.mark.parametrize("leader", [{}, {"url": "nowhere"}, {"url": None}, {"url": "host:port"}])
def test_a_leader_that_does_not_say_where_it_is_ends_nobody(leader: dict[str, object]) -> None:
    made, row = membership(**leader)
    with pytest.raises(LinkBroken, match="does not say where it is"):
        made.way_to(row)


async def test_a_lease_that_is_free_is_taken_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_role, "RETRY_S", 3_600.0)
    made, row = membership()
    asked = asyncio.Event()
    leadership: Any = SimpleNamespace(role=Role.FOLLOWER, row=row, step=asked.set)
    others: Any = SimpleNamespace(clock=None, retarget=lambda way: None)
    made.leadership, made.assembly, made.forwarder = leadership, others, others
    following = asyncio.create_task(FollowerRole(made, lambda *_: None).run())
    # It cannot be followed, since it does not say where it is, so the row is read again.
    await asked.wait()
    leadership.role = Role.CATCHING_UP
    made.changed.set()
    await following


def test_the_way_to_a_leader_is_read_from_the_row() -> None:
    made, row = membership(url="[::1]:8100")
    assert made.way_to(row)[:2] == ("::1", 8100)
    assert run_of(row.lineage) == "abcd"

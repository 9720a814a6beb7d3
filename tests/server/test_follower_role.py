"""A follower tells the leader in time what it has heard, however seldom that is stored."""

from __future__ import annotations

from openred_central.cluster.followers import GRACE_S
from openred_central.server.follower_role import delivery_s


def test_a_follower_that_delivers_is_never_missing() -> None:
    assert delivery_s(1.0) == 0.5
    for flush_interval_s in (0.01, 30.0, 3_600.0):
        assert delivery_s(flush_interval_s) < GRACE_S / 2

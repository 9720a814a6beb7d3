"""Networks fail, to the database and between instances: one leads at most, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.conftest import SOAK
from tests.support.instances import MakeCluster
from tests.support.proxy import Proxy

from .trial import FLAGS, PATIENT, trial

WAYS: dict[str, Callable[[Proxy], None]] = {
    "silent": lambda proxy: proxy.half_open(),
    "answers": lambda proxy: proxy.swallow("to_client"),
    "requests": lambda proxy: proxy.swallow("to_server"),
    "cut": lambda proxy: proxy.cut(),
}
# The others are variations that take as long.
DATABASE_WAYS = list(WAYS) if SOAK else ["silent"]
LINK_WAYS = list(WAYS) if SOAK else ["silent"]
# Longer than it takes followers to notice.
APART_S = 5.0


@pytest.mark.parametrize("way", DATABASE_WAYS)
def test_a_leader_cut_off_from_the_database_is_followed_by_another(cluster: MakeCluster, way: str) -> None:
    made = cluster(flags=FLAGS)
    made.start()
    with trial(made) as under:
        under.more()
        leader = made.leader()
        WAYS[way](leader.database)
        made.leader(other_than=leader)
        under.more()
        leader.database.restore()
        made.wait_ready()
        under.more()


@pytest.mark.parametrize("way", LINK_WAYS)
def test_a_leader_cut_off_from_its_followers_goes_on(cluster: MakeCluster, way: str) -> None:
    made = cluster(flags=PATIENT)
    made.start()
    leader = made.leader()
    with trial(made) as under:
        under.more()
        WAYS[way](leader.link)
        cut_s = time.monotonic()
        under.more()
        time.sleep(max(0.0, cut_s + APART_S - time.monotonic()))
        assert made.leaders() == [leader]
        leader.link.restore()
        made.wait_ready()
        under.more()

"""Leaders and followers are killed and halted under load: nothing acknowledged is lost."""

from __future__ import annotations

import time

from tests.conftest import SOAK
from tests.support.instances import MakeCluster

from .trial import FLAGS, FLUSH_S, trial

ROUNDS = 10 if SOAK else 1
# Longer than a lease and its margins.
HALT_S = 6.0


def test_kills_lose_nothing(cluster: MakeCluster) -> None:
    made = cluster(flags=FLAGS)
    made.start()
    with trial(made) as under:
        for _ in range(ROUNDS):
            under.more()
            leader = made.leader()
            under.spared.add(leader.name)
            leader.kill()
            made.leader(other_than=leader)
            under.more()
            made.start(leader)
            follower = made.followers()[0]
            under.spared.add(follower.name)
            # It may be the former leader: it tells what it hears before it is lost once more.
            time.sleep(2 * FLUSH_S)
            follower.kill()
            under.more()
            made.start(follower)


def test_a_leader_that_is_halted_finds_another_one_and_follows_it(cluster: MakeCluster) -> None:
    made = cluster(flags=FLAGS)
    made.start()
    with trial(made) as under:
        for _ in range(ROUNDS):
            under.more()
            leader = made.leader()
            under.spared.add(leader.name)
            leader.pause()
            halted_s = time.monotonic()
            under.next_leader(halted=leader)
            time.sleep(max(0.0, halted_s + HALT_S - time.monotonic()))
            leader.go_on()
            under.more()
            made.wait_ready()
            assert not leader.leads

"""A cluster under load while a test harms it, and then all judges."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.support.history import (
    History,
    backwards,
    disordered,
    failed_beats,
    granted,
    lost,
    outrun,
    stood_s,
    unheard,
)
from tests.support.instances import Believers, Cluster, Instance, Watcher
from tests.support.loading import Beater, Loop, Writer, register, running, shown_at
from tests.support.running import WAIT_S_MAX, until
from tests.support.signing import wait_for_the_next_second

FLUSH_S = 0.4
# The clock of a follower may be two ticks ahead, and stands then until the next leader has caught up.
TICK_S = 0.2
FLAGS = ("--flush-interval-s", str(FLUSH_S), "--tick-s", str(TICK_S))
# For tests in which the leader must stay the leader, however busy this machine is.
PATIENT = (*FLAGS, "--lease-s", "6")
WRITERS = 3
MORE = 15
# Clients that asked a halted instance come back only when they give up.
CALM_S_MAX = 60.0
BEATING = 4


class Trial(NamedTuple):
    """All that is watched while a test harms a cluster; instances named in `spared` may fail heartbeats."""

    cluster: Cluster
    history: History
    watcher: Watcher
    believers: Believers
    spared: set[str]

    def more(self, count: int = MORE) -> None:
        """Wait until so many changes were acknowledged that were sent from now on."""
        since_s = time.monotonic()
        until(
            lambda: len(self.history.acknowledged_since(since_s)) >= count,
            f"{count} more changes",
            CALM_S_MAX,
        )

    def next_leader(self, halted: Instance) -> None:
        """Wait until another one than this leads."""
        others = [one for one in self.cluster.running if one is not halted]
        until(lambda: any(one.leads for one in others), "another leader", CALM_S_MAX)


@contextmanager
def trial(cluster: Cluster, *, goes_back: bool = False) -> Iterator[Trial]:
    """Let clients change and beat at all instances meanwhile; judge all of it, also at rest.

    `goes_back`: the test makes the database forget commits, so that its row may fall.
    """
    history = History()
    wait_for_the_next_second()
    # From before the load on: a follower is ahead by as long as the leader was held up.
    with Watcher(cluster) as watcher, Believers(cluster) as believers:
        made = Trial(cluster, history, watcher, believers, set())
        beating = {instance.name: _beating(cluster, instance) for instance in cluster.instances}
        loops: list[Loop] = [Beater(history, one, beating[one.name]) for one in cluster.instances]
        for number in range(WRITERS):
            turned = cluster.instances[number % len(cluster.instances) :]
            places = turned + [place for place in cluster.instances if place not in turned]
            loops.append(Writer(history, places, f"w{number}"))
        with running(loops):
            yield made
        # It sees how all ends.
        cluster.wait_ready()
    # Others are told only the first sign of life at one attended time.
    forgiven_s = stood_s(watcher.sights) + 2 * TICK_S + (2 * FLUSH_S if made.spared else 0.0)
    judge(made, [name for names in beating.values() for name in names], forgiven_s, goes_back=goes_back)


def _beating(cluster: Cluster, instance: Instance) -> list[str]:
    """Register the nodes that beat at an instance; return when it knows them."""
    names = [f"at-{instance.name}-{number}" for number in range(BEATING)]
    for name in names:
        register(cluster.leader(), name)
    until(lambda: len(shown_at(instance, names)[0]) == BEATING, f"{instance.name} to know its nodes")
    return names


def judge(trial: Trial, beating: list[str], forgiven_s: float, *, goes_back: bool) -> None:
    """Fail with every complaint of every judge."""
    history = trial.history
    complaints = granted(history) + disordered(history) + trial.believers.rivals()
    complaints += outrun(trial.watcher.sights) + failed_beats(history, but=trial.spared)
    if not goes_back:
        complaints += backwards(trial.watcher.sights)
    assert not complaints, "\n".join(complaints[:30])
    assert history.acknowledged > 0
    # Signs of life reach all within a flush interval.
    ends_s = time.monotonic() + WAIT_S_MAX
    while (wrong := _wrong_at_rest(trial, beating, forgiven_s)) and time.monotonic() < ends_s:
        time.sleep(FLUSH_S)
    assert not wrong, "\n".join(wrong[:30])


def _wrong_at_rest(trial: Trial, beating: list[str], forgiven_s: float) -> list[str]:
    complaints = []
    for instance in trial.cluster.running:
        shown, last_seen = shown_at(instance, [*trial.history.possible(), *beating])
        complaints += lost(trial.history, shown, instance.name)
        complaints += unheard(trial.history, last_seen, forgiven_s)
        complaints += [f"{instance.name} lost {name}" for name in beating if name not in shown]
        stored = trial.cluster.stored()
        complaints += [
            f"{instance.name} shows {name} as {shown.get(name)}, stored is {stored.get(name)}"
            for name in {*shown, *beating, *trial.history.possible()}
            if stored.get(name) != (shown[name].state if name in shown else None)
        ]
    return complaints

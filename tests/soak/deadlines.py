"""Deadlines in a cluster: no node ages because of the instance it speaks to, or by a change of leader."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

from tests.conftest import SOAK
from tests.support.history import History, longest_silence_s
from tests.support.instances import Cluster, Instance, MakeCluster
from tests.support.loading import Beater, ask, register, running, shown_at
from tests.support.running import until

TOLERANCE_S = 4.0
# Many silent nodes at once would be held back otherwise, and hide what is looked for.
QUICK = (
    *("--mass-silence-share", "1", "--all-silent-s", "0", "--log-level", "debug", "--tick-s", "0.2"),
    *("--heartbeat-tolerance-s", str(TOLERANCE_S), "--flush-interval-s", "0.2"),
)
HALT_S = TOLERANCE_S + 1.0


def late(made: Cluster) -> set[str]:
    """Return the nodes that were ever late, by the log of whoever led then."""
    return {
        name
        for instance in made.instances
        for run in instance.runs
        for name in re.findall(r"node (\S+): active → ", run.log)
    }


def expect_just(made: Cluster, history: History, halted: Iterable[Instance] = ()) -> None:
    """Check that no node was late whose heartbeats were taken in time, or when their instance went on."""
    excused = {f"at-{instance.name}-": HALT_S for instance in halted}
    silences = {name: longest_silence_s(history, name) - excused.get(name[:5], 0.0) for name in late(made)}
    assert all(silence_s > TOLERANCE_S for silence_s in silences.values()), silences


def test_nodes_that_beat_at_a_follower_do_not_age_while_it_is_halted(cluster: MakeCluster) -> None:
    made = cluster(flags=QUICK)
    made.start()
    leader, history = made.leader(), History()
    loops = []
    for instance in made.instances:
        # Each node has a connection of its own: its heartbeat is on its way while the instance is halted.
        loops += [Beater(history, instance, [f"at-{instance.name}-{number}"]) for number in range(3)]
    with running(loops):
        for loop in loops:
            for name in loop.node_ids:
                register(leader, name)
        register(leader, "silent")
        halted = made.followers() if SOAK else made.followers()[:1]
        for follower in halted:
            follower.pause()
            time.sleep(HALT_S)
            follower.go_on()
            time.sleep(0.5)
        # Nodes that are silent do age.
        until(lambda: "silent" in late(made), "the silent node to be late")
    expect_just(made, history, halted)


def test_no_node_ages_by_a_change_of_leader(cluster: MakeCluster) -> None:
    """Time in which nobody leads counts for no node."""
    made = cluster(flags=QUICK)
    made.start()
    leader, history = made.leader(), History()
    loops = [Beater(history, one, [f"at-{one.name}"]) for one in made.followers()]
    for loop in loops:
        for name in loop.node_ids:
            register(leader, name)
    with running(loops):
        leader.kill()
        next_leader = made.leader(other_than=leader)
        register(next_leader, "silent")
        until(lambda: "silent" in late(made), "the silent node to be late")
    expect_just(made, history)


def test_a_hold_outlives_its_leader(cluster: MakeCluster) -> None:
    # Long enough that all are registered before the first is late, also on a busy machine.
    flags = ("--tick-s", "0.2", "--heartbeat-tolerance-s", "8", "--flush-interval-s", "0.2")
    made = cluster(flags=[*flags, "--mass-silence-nodes-min", "5"])
    made.start()
    leader = made.leader()
    names = [f"node-{number}" for number in range(20)]
    for name in names:
        register(leader, name)

    def silence(instance: Instance) -> dict[str, Any]:
        figures: dict[str, Any] = ask(instance, "GET", "/stats").document["empathy"]["mass_silence"]
        return figures

    def active(instance: Instance) -> set[str]:
        shown, _ = shown_at(instance, names)
        return {name for name, node in shown.items() if node.state == "active"}

    until(lambda: all(silence(one)["held"] for one in made.instances), "all to know of the hold")
    # It would end if no more than a few waited.
    until(lambda: silence(leader)["waiting"] > len(names) // 2, "most of the nodes to be due")
    # Followers hear of it twice a second.
    time.sleep(1.0)
    # A few may have been late before there were too many.
    before = active(leader)
    assert len(before) > len(names) // 2
    leader.kill()
    next_leader = made.leader(other_than=leader)
    assert silence(next_leader)["held"]
    assert active(next_leader) == before

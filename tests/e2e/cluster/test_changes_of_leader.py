"""Nobody waits for a leader that leads no more, and what was handed on to it changes nothing."""

from __future__ import annotations

import threading
import time

from openred_central.cluster.forwarding import ANSWERLESS_S_MAX
from tests.support.instances import Instance, MakeCluster
from tests.support.running import Client, until
from tests.support.world import Reply

from .trial import PATIENT


def test_a_silent_leader_keeps_no_request_once_another_one_leads(cluster: MakeCluster) -> None:
    made = cluster(flags=("--limit-register", "off"))
    made.start()
    silent = made.leader()
    follower, third = made.followers()
    replies: dict[str, Reply] = {}

    def register(node_id: str) -> None:
        with Client(follower.address) as client:
            while told(reply := client.register(node_id)) == "no_leader":
                # It took long until another one leads.
                continue
        replies[node_id] = reply

    register("before")
    silent.pause()
    sent = [threading.Thread(target=register, args=(f"sent-{number}",)) for number in range(3)]
    sent[0].start()
    until(lambda: follower.ask("/health/live")[0] == 200, "the follower to have taken the first")
    # The others find it silent before they are sent.
    time.sleep(1.5 * ANSWERLESS_S_MAX)
    for thread in sent[1:]:
        thread.start()
    until(lambda: leader_of(follower) not in (None, silent.name), "the follower to know another leader")
    # Nobody is sent to the silent one any more, and nobody waits for it.
    register("later")
    for thread in sent:
        thread.join()
    assert sorted(told(reply) for reply in replies.values()) == ["outcome_unknown", *["registered"] * 4]
    assert told(replies["before"]) == told(replies["later"]) == "registered"
    silent.go_on()
    made.wait_ready()
    made.wait_at_rest()
    status, document = third.ask("/stats")
    assert (status, document["directory"]["nodes"]) == (200, 4)


def test_an_instance_that_leads_again_answers_what_others_hand_on(cluster: MakeCluster) -> None:
    made = cluster(count=2, flags=("--limit-register", "off"))
    made.start()
    leader, (follower,) = made.leader(), made.followers()
    with Client(follower.address) as client:
        assert told(client.register("before")) == "registered"
        # Its term is over, and nobody else has led: the follower keeps its connections.
        made.sql("UPDATE openred.cluster SET term = term + 1")
        until(lambda: "leads in term 3" in leader.log, "the leader to lead again")
        made.wait_ready()
        reply = client.register("after")
        while told(reply) == "no_leader":
            reply = client.register("after")
    assert told(reply) == "registered"


def leader_of(instance: Instance) -> str | None:
    """Return the name of the leader, as an instance knows it."""
    _, document = instance.ask("/health/leader")
    name: str | None = (document or {}).get("leader")
    return name


def told(reply: Reply) -> str:
    return str(reply.document["status"] if reply.status < 300 else reply.document["error"])


def test_an_instance_with_other_settings_says_so_and_leads_only_alone(cluster: MakeCluster) -> None:
    made = cluster(flags=PATIENT)
    former, same, other = made.instances
    made.start(former)
    made.begin(same)
    made.begin(other, OPENRED_MAX_NODES="9999", OPENRED_AUTH="strict")
    made.wait_ready()
    said = (
        "a leads with other settings: OPENRED_AUTH=open (here strict), OPENRED_MAX_NODES=100000 (here 9999)"
    )
    until(lambda: said in other.log, "the other one to name its settings")
    assert "with other settings" not in same.log
    former.stop()
    assert made.leader() is same
    same.stop()
    assert made.leader() is other
    changed = "leads with other settings than its predecessor: OPENRED_AUTH, OPENRED_MAX_NODES"
    # It leads before the line is in its log.
    until(lambda: changed in other.log, "the new leader to name what differs")

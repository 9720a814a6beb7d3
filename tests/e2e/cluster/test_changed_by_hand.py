"""Somebody changes the database by hand: the instances say so, and none of them ends for it."""

from __future__ import annotations

from openred_central.exit_codes import ExitCode
from tests.support.instances import MakeCluster
from tests.support.loading import Caller, ask, register
from tests.support.running import until

from .trial import FLAGS

BODY = {"node_id": "early", "address": "192.0.2.1", "port": 1, "public_key": "key"}


def test_rows_that_contradict_the_leader_are_read_anew(cluster: MakeCluster) -> None:
    made = cluster(count=2, flags=FLAGS)
    made.start()
    leader, (follower,) = made.leader(), made.followers()
    claim = {"Authorization": f"Claim {register(leader, 'moved')['claim']}"}
    made.sql("UPDATE openred.node SET slot = slot + 100")
    moving = follower, "POST", "/heartbeat/moved", {"port": 2}, claim
    reply = ask(*moving)
    assert (reply.status, reply.document["error"]) == (503, "outcome_unknown")
    until(lambda: ask(*moving).status == 200, "the change to be made")
    said = "leads no more with this copy of the directory, and loads it anew"
    until(lambda: said in leader.log, "the leader to say so")
    assert made.leader() is leader
    made.wait_at_rest()
    assert leader.log.count(said) == 1
    assert made.sql("SELECT slot >= 100 FROM openred.node") == "t"
    for instance in made.running:
        assert instance.ask("/nodes/moved")[1]["port"] == 2


def test_a_damaged_secret_ends_nobody_who_serves(cluster: MakeCluster) -> None:
    made = cluster(count=2, flags=FLAGS)
    made.start()
    leader, (follower,) = made.leader(), made.followers()
    register(leader, "node")
    until(lambda: follower.ask("/nodes/node")[0] == 200, "the follower to know the node")
    made.sql("CREATE TABLE public.aside AS TABLE openred.secret")
    made.sql("UPDATE openred.secret SET value = substr(value, 1, 20) WHERE name = 'runs'")
    leader.kill()
    until(lambda: "leaves the lease to others" in follower.log, "the follower to say why it does not lead")
    (line,) = (line for line in follower.log.splitlines() if "leaves the lease to others" in line)
    assert "cannot unseal 'runs'" in line
    assert follower.ready
    assert follower.ask("/nodes/node")[0] == 200
    assert ask(follower, "POST", "/heartbeat/node").status == 200
    assert ask(follower, "POST", "/register", BODY).status == 503
    made.sql("UPDATE openred.secret AS s SET value = a.value FROM public.aside AS a WHERE a.name = s.name")
    made.start(leader)
    assert made.leader() is leader
    until(lambda: leader.ask("/security/keys")[0] == 200, "the leader to have opened its keys")
    # A commit that this leader never made: the database is another one.
    made.sql("UPDATE openred.cluster SET tag = 5")
    with Caller([leader]) as caller:
        # Something to save there, unless the leader has noticed before; nothing waits for that.
        if caller.connect():
            caller.ask("POST", "/register", {**BODY, "node_id": "late"})
    assert leader.server is not None
    assert leader.server.wait() == ExitCode.CONFIG
    assert "which this run never saw" in leader.log
    assert "gave up" not in leader.log

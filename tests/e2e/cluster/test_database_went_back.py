"""A database that went back to an earlier state, without the leader that knew better."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.support.instances import Cluster, Instance, MakeCluster
from tests.support.loading import ask
from tests.support.loading import register as registered
from tests.support.postgres import Bench
from tests.support.proxy import Proxy
from tests.support.running import Client, run, until

TABLES = ("cluster", "node", "tombstone", "seen", "kept", "revocation", "secret")
# Long ago, for a cluster: instances that know better leave it to an operator.
HOUR_S = 3_600


def socket_of(cluster: Cluster, instance: Instance) -> Path:
    return cluster.folder / f"{instance.name}.sock"


def operate(cluster: Cluster, instance: Instance, action: str) -> list[str]:
    """Return the lines that the command prints for an instance."""
    done = run("cluster", action, "--admin-socket", str(socket_of(cluster, instance)))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def begun(cluster: MakeCluster) -> tuple[Cluster, Instance, Instance]:
    """Return a cluster of two, its leader and its follower.

    The database was copied aside before the node ``lost`` registered.
    """
    made = cluster(count=2)
    for instance in made.instances:
        made.start(instance, ready=False, OPENRED_ADMIN_SOCKET=str(socket_of(made, instance)))
    leader = made.wait_ready()
    (follower,) = made.followers()
    register(leader, "kept")
    made.sql("CREATE SCHEMA aside")
    for table in TABLES:
        made.sql(f"CREATE TABLE aside.{table} AS TABLE openred.{table}")
    register(leader, "lost")
    until(partial(known, follower, "lost"), "the follower to know the node")
    # The follower reads the row more often than it is renewed.
    seen = "SELECT c.renewals > a.renewals + 8 FROM openred.cluster AS c, aside.cluster AS a"
    until(lambda: made.sql(seen) == "t", "the lease to be renewed")
    return made, leader, follower


def register(instance: Instance, node_id: str) -> None:
    with Client(instance.address) as client:
        assert client.register(node_id).status == 201


def go_back(cluster: Cluster, seconds: float = 0.0) -> None:
    """Bring the database to the state that was copied aside, as if that was so long ago."""
    cluster.sql(f"UPDATE aside.cluster SET at = at - {seconds}")
    back = "".join(f"DELETE FROM openred.{t}; INSERT INTO openred.{t} TABLE aside.{t};" for t in TABLES)
    cluster.sql(f"BEGIN; {back} COMMIT")


def known(instance: Instance, node_id: str) -> bool:
    return instance.ask(f"/nodes/{node_id}")[0] == 200


def test_the_next_leader_tells_what_is_lost(cluster: MakeCluster) -> None:
    made, leader, follower = begun(cluster)
    leader.kill()
    go_back(made)
    assert made.leader() is follower
    assert known(follower, "kept")
    assert not known(follower, "lost")
    said = "1 change of nodes that were acknowledged are lost"
    until(lambda: said in follower.log, "the new leader to say so")
    assert operate(made, follower, "lost") == [
        "lost is not registered any more",
        "1 acknowledged changes are lost, as far as this instance knows",
    ]


def test_all_who_knew_more_than_a_standby_name_what_is_lost(
    cluster: MakeCluster, postgres_bench: Bench
) -> None:
    primary = postgres_bench.server()
    with Proxy(("127.0.0.1", primary.port)) as replication:
        standby = primary.standby(through=replication.port)
        made = cluster(primary)
        for instance in made.instances:
            made.start(instance, ready=False, OPENRED_ADMIN_SOCKET=str(socket_of(made, instance)))
        leader = made.wait_ready()
        survivors = made.followers()
        claims = {
            name: {"Authorization": f"Claim {registered(leader, name)['claim']}"}
            for name in ("kept", "older", "back")
        }
        count = "SELECT count(*) FROM openred.node"
        until(lambda: standby.execute(count, made.database_name) == "3", "the standby to have all")
        replication.swallow("to_client")
        registered(leader, "gone")
        assert ask(leader, "POST", "/heartbeat/older", {"port": 2}, claims["older"]).status == 200
        assert ask(leader, "DELETE", "/nodes/back?mode=forget", None, claims["back"]).status == 200
        until(lambda: not any(known(one, "back") for one in survivors), "the survivors to know of the last")
        leader.kill()
        primary.kill()
        replication.cut()
        standby.promote()
        made.follow(standby)
        made.wait_ready()
        made.wait_at_rest()
        # One of them leads now, and the other one has gone straight from one leader to the next.
        for instance in survivors:
            *lines, total = operate(made, instance, "lost")
            assert sorted(lines) == [
                "back is there, although it had left or died",
                "gone is not registered any more",
                "older is as it was before its last change",
            ]
            assert total.startswith("3 acknowledged changes are lost")
            assert [known(instance, name) for name in ("kept", "older", "back", "gone")] == [True] * 3 + [
                False
            ]


def test_nobody_leads_on_a_database_of_long_ago_until_an_operator_says_so(cluster: MakeCluster) -> None:
    made, leader, follower = begun(cluster)
    leader.kill()
    go_back(made, HOUR_S)
    until(lambda: "long before what this run knows" in follower.log, "the follower to refuse the database")
    # It goes on to answer from its copy, and balancers may send it requests.
    assert known(follower, "lost")
    until(lambda: follower.ready, "the follower to be ready while nobody leads")
    assert not follower.leads
    assert operate(made, follower, "accept-database") == [
        "The database is taken as it is. An instance leads there within seconds."
    ]
    assert made.leader() is follower
    assert not known(follower, "lost")
    # One that starts knows nothing better.
    made.start(leader)
    assert known(leader, "kept")
    assert operate(made, follower, "accept-database") == ["This instance does not refuse the database."]

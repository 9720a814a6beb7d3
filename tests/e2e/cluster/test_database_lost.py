"""The database is killed, cut off, slow, replaced by its standby: nothing that was acknowledged is lost."""

from __future__ import annotations

import time

import pytest

from tests.conftest import SOAK
from tests.support.history import History
from tests.support.instances import Cluster, MakeCluster
from tests.support.loading import Beater, ask, register, running
from tests.support.postgres import Bench
from tests.support.proxy import Proxy
from tests.support.running import until

from .trial import FLAGS, PATIENT, trial

AWAY_S = 12.0 if SOAK else 4.0
CUTS_S = 30.0 if SOAK else 2.0
LOCKED_S = 4.0 if SOAK else 1.5
LATE_S = 0.1
TOLERANCE_S = 3.0


def read_by(cluster: Cluster) -> None:
    """Check that every instance answers reads and plain heartbeats."""
    for instance in cluster.running:
        assert ask(instance, "GET", "/nodes/silent").document["state"] == "active"
        assert ask(instance, "GET", "/discover").status == 200


def test_without_the_database_reads_and_heartbeats_go_on_and_nobody_ages(
    cluster: MakeCluster, postgres_bench: Bench
) -> None:
    primary = postgres_bench.server()
    made = cluster(
        primary, flags=[*FLAGS, "--heartbeat-tolerance-s", str(TOLERANCE_S), "--mass-silence-share", "1"]
    )
    made.start()
    register(made.leader(), "silent")
    # The time of leaders goes on until their lease runs out.
    with running([Beater(History(), instance, ["silent"]) for instance in made.instances]):
        primary.kill()
        killed_s = time.monotonic()
        until(lambda: not made.leaders(), "nobody to lead")
    while time.monotonic() < killed_s + AWAY_S:
        read_by(made)
        beat = ask(made.instances[0], "POST", "/heartbeat/silent")
        assert beat.status == 200, beat
        time.sleep(0.2)
    refused = ask(made.instances[0], "POST", "/register", BODY)
    assert (refused.status, "Retry-After" in refused.headers) == (503, True)
    time.sleep(TOLERANCE_S)
    read_by(made)
    primary.start()
    leader = made.leader()
    until(lambda: ask(leader, "POST", "/register", BODY).status in (200, 201), "changes to be made again")
    until(
        lambda: ask(leader, "GET", "/nodes/silent").document["state"] != "active",
        "the silent node to be late",
    )


BODY = {"node_id": "unlucky", "address": "192.0.2.1", "port": 1, "public_key": "key"}


def test_a_database_that_dies_and_comes_back_loses_nothing(
    cluster: MakeCluster, postgres_bench: Bench
) -> None:
    primary = postgres_bench.server()
    made = cluster(primary, flags=FLAGS)
    made.start()
    with trial(made) as under:
        under.more()
        primary.kill()
        time.sleep(AWAY_S)
        primary.start()
        under.more()


def test_a_database_in_trouble_only_costs_time(cluster: MakeCluster, postgres_bench: Bench) -> None:
    primary = postgres_bench.server()
    made = cluster(primary, flags=PATIENT)
    made.start()
    leader = made.leader()
    term = made.sql("SELECT term FROM openred.cluster")
    with trial(made) as under:
        for _ in range(5 if SOAK else 1):
            end_connections(made)
            under.more()
            made.sql(f"BEGIN; LOCK TABLE openred.node; SELECT pg_sleep({LOCKED_S}); COMMIT")
            under.more()
            for table in ("node", "seen", "tombstone"):
                made.sql(f"VACUUM FULL openred.{table}")
            for instance in made.instances:
                instance.database.delay_s = LATE_S
            under.more()
            for instance in made.instances:
                instance.database.delay_s = 0.0
        assert (made.leaders(), made.sql("SELECT term FROM openred.cluster")) == ([leader], term)


def end_connections(made: Cluster) -> None:
    """Have the database end all connections, again and again."""
    ends_s = time.monotonic() + CUTS_S
    while time.monotonic() < ends_s:
        made.primary.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{made.database_name}'"
        )
        time.sleep(0.2)


@pytest.mark.parametrize("round_number", range(5 if SOAK else 1))
def test_a_synchronous_standby_takes_over_without_loss(
    cluster: MakeCluster, postgres_bench: Bench, round_number: int
) -> None:
    primary = postgres_bench.server()
    standby = primary.standby(synchronous=True)
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    made = cluster(primary, flags=FLAGS, hosts=hosts)
    made.start()
    with trial(made) as under:
        under.more()
        primary.kill()
        standby.promote()
        made.primary = standby
        under.more()


@pytest.mark.parametrize("round_number", range(5 if SOAK else 1))
def test_an_asynchronous_standby_is_told_again_what_it_lacks(
    cluster: MakeCluster, postgres_bench: Bench, round_number: int
) -> None:
    primary = postgres_bench.server()
    with Proxy(("127.0.0.1", primary.port)) as replication:
        standby = primary.standby(through=replication.port)
        made = cluster(primary, flags=PATIENT)
        made.start()
        leader = made.leader()
        with trial(made, goes_back=True) as under:
            under.more()
            replication.swallow("to_client")
            under.more()
            before = int(made.sql("SELECT seq FROM openred.cluster"))
            primary.kill()
            replication.cut()
            standby.promote()
            assert int(standby.execute("SELECT seq FROM openred.cluster", made.database_name)) < before
            made.follow(standby)
            under.more()
            assert made.leaders() == [leader]

"""Instances on one PostgreSQL: a lost leader, lag, registrations, a slow link, and loading many nodes.

PostgreSQL, the instances and the server with SQLite beside them run on all cores: on one, which they would
fill, each waits for the others. All of them wait for the same disk.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from itertools import count
from time import perf_counter, sleep

import orjson

from ..load.running import run_here
from ..population import document
from . import contestants, workers
from .instances import Cluster, Heartbeats, Instance, Relay, cluster, status
from .postgres import Postgres, missing, running
from .samples import Bench, Subject
from .servers import LOOK_S, Meter, Running, free_port

TWO = "2 instances"
# How the leader is lost, each with its signal.
LOSSES = {
    "kill -9": signal.SIGKILL,
    "SIGSTOP": signal.SIGSTOP,
    "SIGTERM": signal.SIGTERM,
}
KILLED, SILENT, STOPPED = (
    f"{name} of the leader to the first acknowledged change elsewhere" for name in LOSSES
)
# Heartbeats run for so long before the leader is lost.
BEATING_S = 0.5
SIZES = {1: "1 instance", 2: TWO, 4: "4 instances"}
CONNECTIONS = 64
REGISTER_CASE = f"register durably at an instance that follows, {CONNECTIONS} connections"
THROTTLED_CASE = f"{REGISTER_CASE}, {workers.QUOTA_PERCENT} % of a core for each instance"
CHANGES_CASE = f"changes of a directory with {TWO}, {workers.CHANGES_PER_S:,.0f} a second"
LINK_CASE = "heartbeat at an instance that follows"
# Each way.
LINK_S = 0.04
NEAR, FAR = "link without delay", f"link of {LINK_S * 1e3:g} ms"
TOOK, LEADS, FOLLOWS, READY = "took the lease", "leads in term", "follows, from", "ready: follows"
PROMOTED, JOINED = "a promotion, from PostgreSQL", "an instance that follows, from the leader"


def load_case(nodes: int) -> str:
    return f"load of {nodes:,} nodes"


def measure(bench: Bench) -> None:
    """Measure all of it, or say what is missing."""
    if reason := missing():
        bench.note(f"cluster: left out: {reason}")
        return
    cores = bench.site.cores
    free = bench.site._replace(cores=cores._replace(server=cores.server | cores.load))
    bench = bench._replace(site=free)
    with running(free.cores.server) as postgres:
        few = bench.site.databases.path(bench.effort.small)
        with cluster(free.folder, postgres, free.cores.server, "ab", few) as two:
            for case, number in zip((KILLED, SILENT, STOPPED), LOSSES.values(), strict=True):
                _lose(bench, two, case, number)
            _lag(bench, two)
        _register(bench, postgres)
        _far(bench, postgres)
        _load(bench, postgres)


def _lose(bench: Bench, two: Cluster, case: str, number: signal.Signals) -> None:
    """Lose the leader again and again, and time from each loss until the other one acknowledges a change."""
    rounds = bench.effort.failovers if number is signal.SIGKILL else bench.effort.rounds
    times_s, beats = [], []
    for each in range(rounds):
        bench.log(f"round {each + 1} of {rounds}: {case}")
        leader, other = two.roles()
        with Heartbeats(other.server.port) as heartbeats:
            sleep(BEATING_S)
            began_s = perf_counter()
            leader.server.process.send_signal(number)
            _change(other)
            times_s.append(perf_counter() - began_s)
        beats.append(heartbeats)
        bench.samples.add(Subject(case, TWO), seconds=times_s[-1])
        if number is signal.SIGSTOP:
            leader.server.process.send_signal(signal.SIGCONT)
        else:
            leader.server.process.wait()
            two.start(leader.name)
    bench.samples.add(
        Subject(case, TWO),
        longest_s=max(times_s),
        heartbeats_sent=sum(each.sent for each in beats),
        heartbeats_failed=sum(each.failed for each in beats),
    )


def _change(instance: Instance) -> None:
    """Register new nodes at an instance until one is acknowledged."""
    began = perf_counter()
    for attempt in count():
        body = orjson.dumps(document(0, f"change-{began}-{attempt}"))
        if status(instance.server.port, "POST", "/register", body) == 201:
            return
        sleep(LOOK_S)


def _lag(bench: Bench, two: Cluster) -> None:
    """Register nodes with the leader at a fixed rate; add the lags of the one that follows."""
    leader, other = two.roles()
    for number in range(bench.effort.rounds):
        bench.log(f"round {number + 1} of {bench.effort.rounds}: {CHANGES_CASE}")
        before = workers.lags(other.admin_port)
        options = bench.options(
            leader.server,
            "register",
            rate=workers.CHANGES_PER_S,
            duration_s=max(bench.effort.measured_s, workers.MEASURED_S_MIN),
            run=f"lag-{number}",
        )
        tally = run_here(options)
        sleep(workers.REPORTED_S)
        bench.samples.add(
            Subject(CHANGES_CASE, TWO),
            requests_per_s=tally.requests_per_s,
            **workers.lag_figures(before, workers.lags(other.admin_port)),
        )


def _register(bench: Bench, postgres: Postgres) -> None:
    """Register at the last of one, two and four instances, and at a server with SQLite.

    Two cores hold no four instances beside PostgreSQL and the load. Where each instance has a share of a
    core, they do: then the leader is the limit, as it is on a machine that has room.
    """
    with ExitStack() as stack:
        site, chains = bench.site, {}
        ours = stack.enter_context(site.server(contestants.OURS))
        chains[contestants.OURS] = [ours]
        for size, name in SIZES.items():
            made = stack.enter_context(cluster(site.folder, postgres, site.cores.server, "abcd"[:size]))
            chains[name] = [each.server for each in made.instances.values()]
        _register_rounds(bench, REGISTER_CASE, chains)
        del chains[contestants.OURS]
        try:
            with workers.quotas([each.process.pid for chain in chains.values() for each in chain]):
                _register_rounds(bench, THROTTLED_CASE, chains)
        except OSError as error:
            bench.note(f"{THROTTLED_CASE}: left out: it needs cgroups of version 1 and root: {error}")


def _register_rounds(bench: Bench, case: str, chains: dict[str, list[Running]]) -> None:
    """Register at the last server of each chain; add the processor time of the first one, which leads."""
    for number in range(bench.effort.rounds):
        bench.log(f"round {number + 1} of {bench.effort.rounds}: {case}")
        # Each round begins with the other end.
        for name in list(chains)[:: 1 if number % 2 == 0 else -1]:
            leader, *_ = chain = chains[name]
            run = f"size-{number}" if case == REGISTER_CASE else f"share-{number}"
            _rate(bench, Subject(case, name), chain[-1], "register", run, leader)


def _far(bench: Bench, postgres: Postgres) -> None:
    """Send heartbeats at an instance that follows, over a link to its leader without and with delay."""
    site, port = bench.site, free_port()
    database = site.databases.path(bench.effort.small)
    with Relay(port) as relay, cluster(site.folder, postgres, site.cores.server, "", database) as made:
        made.start("a", {"cluster-port": str(port), "cluster-url": f"127.0.0.1:{relay.port}"})
        other = made.start("b")
        delays = {NEAR: 0.0, FAR: LINK_S}
        for number in range(bench.effort.rounds):
            bench.log(f"round {number + 1} of {bench.effort.rounds}: {LINK_CASE}")
            for name in list(delays)[:: 1 if number % 2 == 0 else -1]:
                relay.delay_s = delays[name]
                _rate(bench, Subject(LINK_CASE, name), other.server, "heartbeat", f"link-{number}")


def _rate(
    bench: Bench, subject: Subject, server: Running, kind: str, run: str, leader: Running | None = None
) -> None:
    """Load an instance once, and add how much it answered; nothing if it refused any of it.

    With its `leader`, add the processor time of that one, too.
    """
    duration_s = max(bench.effort.measured_s, workers.MEASURED_S_MIN)
    options = bench.options(
        server,
        kind,
        nodes=bench.effort.small,
        connections=CONNECTIONS,
        duration_s=duration_s,
        run=run,
    )
    meter = Meter(leader or server, bench.site.cores)
    tally = run_here(options, edge=meter.read)
    if tally.error or not tally.answered or tally.refused:
        reason = tally.error or f"{tally.answered} answers, {tally.refused} of them refusals"
        bench.log(f"  {subject.name}: left out of this round: {reason}")
        return
    times_ms = tally.all_times().summary_ms()
    leading = {"leader_us": meter.figures(tally.answered)["cpu_us"]} if leader else {}
    bench.samples.add(
        subject,
        requests_per_s=tally.requests_per_s,
        **leading,
        p50_ms=times_ms["p50"],
        p99_ms=times_ms["p99"],
    )


def _load(bench: Bench, postgres: Postgres) -> None:
    """Stop the leader and start it again; add how long both loaded all nodes, as their logs tell.

    The new leader loads between the lines that it took the lease and that it leads. The one that follows
    loads between the line of the leader that it follows, and its own that it serves.
    """
    nodes, site = bench.effort.usual, bench.site
    case, database = load_case(nodes), site.databases.path(nodes)
    with cluster(site.folder, postgres, site.cores.server, "ab", database) as two:
        rounds = min(bench.effort.rounds, 3)
        for number in range(rounds):
            bench.log(f"round {number + 1} of {rounds}: {case}")
            former, leader = two.roles()
            former.server.process.send_signal(signal.SIGTERM)
            former.server.process.wait()
            _change(leader)
            joined = two.start(former.name)
            for name, begun, last, ended in (
                (PROMOTED, TOOK, leader, LEADS),
                (JOINED, FOLLOWS, joined, READY),
            ):
                bench.samples.add(Subject(case, name), seconds=leader.logged_until_s(begun, last, ended))

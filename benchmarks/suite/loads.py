"""Contestants under load: requests a second, and the processor time of the server for each.

All servers run at the same time, each idle until its turn. In every round each case goes to each contestant
in turn, and each round starts with another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from ..load.requests import LoadOptions
from ..load.running import run_here
from . import contestants, machine
from .contestants import CONTESTANTS
from .samples import Bench, Effort, Subject
from .servers import Meter, Running

EVERYBODY = tuple(CONTESTANTS)
DIRECTORIES = (
    contestants.OURS,
    contestants.ENGINE,
    contestants.GRANIAN,
    contestants.AIOHTTP,
    contestants.FASTAPI,
)
FEW = (contestants.OURS, contestants.BARE, contestants.GRANIAN, contestants.AIOHTTP)
ONE_SERVICE = ("storage",)
TWO_SERVICES = ("index", "storage")
# Open files of a server or of the load in addition to connections; FastAPI has many libraries.
FILES_BESIDES = 128


class LoadCase(NamedTuple):
    """A kind of request among so many nodes, and the names of its contestants."""

    name: str
    kind: str
    nodes: int
    names: tuple[str, ...]
    services: tuple[str, ...] = ONE_SERVICE
    connections: int = 64
    idle_connections: int = 0
    pipeline: int = 1
    fresh: bool = False
    tls: bool = False


def heartbeat_case(effort: Effort) -> str:
    """Return the name of the case that most goals are about."""
    return f"heartbeat of {effort.usual:,}, 64 connections"


def discover_case(nodes: int, services: tuple[str, ...]) -> str:
    return f"discover 50 of {nodes:,}, {'one service' if len(services) == 1 else 'two services'}"


def cases(effort: Effort) -> Iterator[LoadCase]:
    """Yield all cases, in the order of a round."""
    usual = effort.usual
    yield LoadCase(heartbeat_case(effort), "heartbeat", usual, EVERYBODY)
    yield LoadCase(f"heartbeat of {usual:,}, 16 pipelined", "heartbeat", usual, EVERYBODY, pipeline=16)
    yield LoadCase(f"heartbeat of {usual:,}, 1 connection", "heartbeat", usual, FEW, connections=1)
    yield LoadCase(f"heartbeat of {usual:,}, 1,000 connections", "heartbeat", usual, FEW, connections=1_000)
    idle = effort.idle_connections
    name = f"heartbeat of {usual:,}, 64 connections beside {idle:,} idle ones"
    yield LoadCase(name, "heartbeat", usual, FEW, idle_connections=idle)
    for services in (ONE_SERVICE, TWO_SERVICES):
        yield LoadCase(discover_case(usual, services), "discover", usual, DIRECTORIES, services)
        for nodes in filter(None, (effort.small, effort.large)):
            yield LoadCase(discover_case(nodes, services), "discover", nodes, (contestants.OURS,), services)
    # Last, because it adds nodes.
    yield LoadCase("register, 64 connections", "register", usual, DIRECTORIES)


def proxied_cases(effort: Effort) -> Iterator[LoadCase]:
    """Yield heartbeats as nginx passes them on."""
    names = (contestants.PROXIED, contestants.BARE, contestants.GRANIAN, contestants.FASTWSGI)
    yield LoadCase(f"heartbeat through nginx of {effort.usual:,}", "proxied", effort.usual, names)


def own_cases(effort: Effort) -> Iterator[LoadCase]:
    """Yield heartbeats of one node for each connection, with and without limits."""
    names = (contestants.LIMITED, contestants.OURS, contestants.BARE, contestants.GRANIAN)
    name = f"heartbeat of {effort.usual:,}, one node for each connection"
    yield LoadCase(name, "own_heartbeat", effort.usual, names)


def cold_cases(effort: Effort) -> Iterator[LoadCase]:
    """Yield heartbeats that each come over a new connection."""
    names = (
        contestants.OURS,
        contestants.BARE_CLOSING,
        contestants.GRANIAN,
        contestants.FASTWSGI,
        contestants.BJOERN,
        contestants.NGINX,
    )
    yield LoadCase(cold_case(effort), "heartbeat", effort.usual, names, fresh=True)


def tls_cases(effort: Effort) -> Iterator[LoadCase]:
    """Yield heartbeats that each come over a new connection with TLS."""
    names = (contestants.OURS_TLS, contestants.NGINX_TLS)
    name = f"cold heartbeat of {effort.usual:,} over TLS"
    yield LoadCase(name, "heartbeat", effort.usual, names, fresh=True, tls=True)


def varied_cases(effort: Effort) -> Iterator[LoadCase]:
    """Yield discoveries with another question each time."""
    usual = effort.usual
    names = (contestants.OURS, contestants.BARE, contestants.GRANIAN)
    yield LoadCase(varied_case(usual), "discover_varied", usual, names)
    for nodes in filter(None, (effort.small, effort.large)):
        yield LoadCase(varied_case(nodes), "discover_varied", nodes, (contestants.OURS,))


def cold_case(effort: Effort) -> str:
    return f"cold heartbeat of {effort.usual:,}, 64 closing clients"


def varied_case(nodes: int) -> str:
    return f"varied discovery of 50 of {nodes:,}"


GROUPS = {
    "loads": cases,
    "proxied": proxied_cases,
    "own_heartbeat": own_cases,
    "cold": cold_cases,
    "tls": tls_cases,
    "discover_varied": varied_cases,
}


def measure(group: str, bench: Bench) -> None:
    """Run all cases of a group against all contestants that are present."""
    effort = bench.effort
    allowed, possible = machine.open_files_max(), []
    for case in GROUPS[group](effort):
        if reason := shortage(case, allowed):
            bench.log(f"{case.name}: left out: {reason}")
        else:
            possible.append(case)
    wanted = {(name, case.nodes) for case in possible for name in case.names}
    with ExitStack() as stack:
        running: dict[tuple[str, int], Running] = {}
        for name, nodes in sorted(wanted):
            reason = CONTESTANTS[name].missing()
            if reason:
                bench.log(f"{name} is missing: {reason}")
            else:
                bench.log(f"starting {name} with {nodes:,} nodes")
                running[name, nodes] = stack.enter_context(bench.site.server(name, nodes))
        for number in range(effort.rounds):
            for case in possible:
                bench.log(f"round {number + 1} of {effort.rounds}: {case.name}")
                turn = [name for name in case.names if (name, case.nodes) in running and _can(name, case)]
                first = number % max(len(turn), 1)
                for name in turn[first:] + turn[:first]:
                    _one(bench, case, name, running[name, case.nodes], number)


def shortage(case: LoadCase, allowed: int) -> str:
    """Return why a case cannot run with so many open files for each process; "" if it can."""
    needed = case.connections + case.idle_connections + FILES_BESIDES
    if needed <= allowed:
        return ""
    return f"it needs {needed:,} open files, allowed are {allowed:,}; raise the limit: ulimit -Hn {needed}"


def _can(name: str, case: LoadCase) -> bool:
    contestant = CONTESTANTS[name]
    return case.kind in contestant.kinds and (case.pipeline == 1 or contestant.pipelines)


def _one(bench: Bench, case: LoadCase, name: str, server: Running, number: int) -> None:
    """Run one round of one case for one contestant."""
    kind = CONTESTANTS[name].kinds[case.kind]
    options = bench.options(
        server,
        kind,
        nodes=case.nodes,
        services=case.services,
        connections=case.connections,
        idle_connections=case.idle_connections,
        pipeline=case.pipeline,
        fresh=(kind,) if case.fresh else (),
        tls=case.tls,
        run=f"round-{number}",
    )
    run_once(bench, Subject(case.name, name), server, options)


def run_once(bench: Bench, subject: Subject, server: Running, options: LoadOptions) -> None:
    """Load a server once, and add the figures unless a request was refused or failed."""
    meter = Meter(server, bench.site.cores)
    tally = run_here(options, edge=meter.read)
    if tally.error or not tally.answered or tally.refused:
        reason = tally.error or f"{tally.answered} answers, {tally.refused} of them refusals"
        bench.log(f"  {subject.name}: left out of this round: {reason}")
        return
    times_ms = tally.all_times().summary_ms()
    bench.samples.add(
        subject,
        requests_per_s=tally.requests_per_s,
        **meter.figures(tally.answered),
        p50_ms=times_ms["p50"],
        p99_ms=times_ms["p99"],
    )

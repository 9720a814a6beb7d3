"""Contestants under load: requests a second, and the processor time of the server for each.

All servers run at the same time, each idle until its turn. In every round each case goes to each contestant
in turn, and each round starts with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from .. import machine
from ..load.requests import LoadOptions
from ..load.running import run_here
from . import contestants
from .contestants import CONTESTANTS
from .samples import Bench, Effort, Subject
from .servers import Meter, Running, ServerError

EVERYBODY = (
    contestants.OURS,
    contestants.BARE,
    contestants.ENGINE,
    contestants.GRANIAN,
    contestants.FASTWSGI,
    contestants.BJOERN,
    contestants.AIOHTTP,
    contestants.FASTAPI,
    contestants.NGINX,
    contestants.STDISCOSRV,
)
DIRECTORIES = (
    contestants.OURS,
    contestants.ENGINE,
    contestants.GRANIAN,
    contestants.AIOHTTP,
    contestants.FASTAPI,
)
FEW = (contestants.OURS, contestants.BARE, contestants.GRANIAN, contestants.AIOHTTP)
CLOSING = (
    contestants.OURS,
    contestants.BARE_CLOSING,
    contestants.GRANIAN,
    contestants.FASTWSGI,
    contestants.BJOERN,
    contestants.NGINX,
)
PROXIED = (contestants.PROXIED, contestants.BARE, contestants.GRANIAN, contestants.FASTWSGI)
NEAREST = (contestants.OURS, contestants.BARE, contestants.GRANIAN)
OWN = (contestants.LIMITED, *NEAREST)
ONE_SERVICE = ("storage",)
TWO_SERVICES = ("index", "storage")
# Open files of a server or of the load in addition to connections; FastAPI has many libraries.
FILES_BESIDES = 128


class LoadCase(NamedTuple):
    """A kind of request among so many nodes, and the names of its contestants.

    With `fresh` each request has a connection of its own, with `tls` an encrypted one.
    """

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


def heartbeat_case(nodes: int) -> str:
    return f"heartbeat of {nodes:,}, 64 connections"


def logged_case(nodes: int) -> str:
    return f"heartbeat of {nodes:,}, a sampled access log"


def proxied_case(nodes: int) -> str:
    return f"heartbeat of {nodes:,} through nginx"


def own_case(nodes: int) -> str:
    return f"heartbeat of {nodes:,}, one node for each connection"


def cold_case(nodes: int) -> str:
    return f"cold heartbeat of {nodes:,}, 64 closing clients"


def tls_case(nodes: int) -> str:
    return f"cold heartbeat of {nodes:,} over TLS (P-256)"


def discover_case(nodes: int, services: tuple[str, ...]) -> str:
    return f"discover 50 of {nodes:,}, {'one service' if len(services) == 1 else 'two services'}"


def varied_case(nodes: int) -> str:
    return f"varied discovery of 50 of {nodes:,}"


def cases(effort: Effort) -> Iterator[LoadCase]:
    """Yield the cases of kept connections, in the order of a round."""
    usual = effort.usual
    yield LoadCase(heartbeat_case(effort.small), "heartbeat", effort.small, NEAREST)
    yield LoadCase(heartbeat_case(usual), "heartbeat", usual, EVERYBODY)
    yield LoadCase(logged_case(usual), "heartbeat", usual, (contestants.OURS, contestants.LOGGED))
    yield LoadCase(f"heartbeat of {usual:,}, 16 pipelined", "heartbeat", usual, EVERYBODY, pipeline=16)
    yield LoadCase(f"heartbeat of {usual:,}, 1 connection", "heartbeat", usual, FEW, connections=1)
    yield LoadCase(f"heartbeat of {usual:,}, 1,000 connections", "heartbeat", usual, FEW, connections=1_000)
    idle = effort.idle_connections
    name = f"heartbeat of {usual:,}, 64 connections beside {idle:,} idle ones"
    yield LoadCase(name, "heartbeat", usual, FEW, idle_connections=idle)
    for services in (ONE_SERVICE, TWO_SERVICES):
        yield LoadCase(discover_case(usual, services), "discover", usual, DIRECTORIES, services)
    # Last, because it adds nodes.
    yield LoadCase("register, 64 connections", "register", usual, DIRECTORIES)


def varied_cases(effort: Effort) -> Iterator[LoadCase]:
    """Yield discoveries with another question each time, among more and more nodes."""
    yield LoadCase(varied_case(effort.small), "discover_varied", effort.small, (contestants.OURS,))
    yield LoadCase(varied_case(effort.usual), "discover_varied", effort.usual, NEAREST)
    if effort.large:
        yield LoadCase(varied_case(effort.large), "discover_varied", effort.large, (contestants.OURS,))


def _only(
    name: Callable[[int], str], kind: str, names: tuple[str, ...], *, fresh: bool = False, tls: bool = False
) -> Callable[[Effort], Iterator[LoadCase]]:
    """Return a group with one case, among the usual number of nodes."""
    return lambda effort: iter(
        [LoadCase(name(effort.usual), kind, effort.usual, names, fresh=fresh, tls=tls)]
    )


# By the name of the case on the command line: what it consists of.
GROUPS: dict[str, Callable[[Effort], Iterator[LoadCase]]] = {
    "loads": cases,
    "own_heartbeat": _only(own_case, "own_heartbeat", OWN),
    "proxied": _only(proxied_case, "proxied", PROXIED),
    "cold": _only(cold_case, "heartbeat", CLOSING, fresh=True),
    "tls": _only(tls_case, "heartbeat", (contestants.OURS_TLS, contestants.NGINX_TLS), fresh=True, tls=True),
    "discover_varied": varied_cases,
}


def measure(group: str, bench: Bench) -> None:
    """Run all cases of a group against all contestants that are present."""
    effort = bench.effort
    allowed, possible = machine.open_files_max(), []
    for case in GROUPS[group](effort):
        if reason := shortage(case, allowed):
            bench.note(f"{case.name}: left out: {reason}")
        else:
            possible.append(case)
    wanted = {(name, case.nodes) for case in possible for name in case.names}
    with ExitStack() as stack:
        running: dict[tuple[str, int], Running] = {}
        for name, nodes in sorted(wanted):
            reason = CONTESTANTS[name].missing()
            if reason:
                bench.note(f"{name} is missing: {reason}")
                continue
            bench.log(f"starting {name} with {nodes:,} nodes")
            try:
                running[name, nodes] = stack.enter_context(bench.site.server(name, nodes))
            except ServerError as error:
                # A peer that does not start here must not cost the figures of all others.
                bench.note(f"{name} did not start: {str(error).rstrip().splitlines()[-1]}")
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


def run_once(
    bench: Bench, subject: Subject, server: Running, options: LoadOptions, *, by_thread: bool = False
) -> dict[str, float]:
    """Load a server once, and add and return the figures; none if a request was refused or failed.

    With `by_thread` they say how much of the processor time was that of the loop and of all other threads.
    """
    meter = Meter(server, bench.site.cores)
    tally = run_here(options, edge=meter.read)
    if tally.error or not tally.answered or tally.refused:
        reason = tally.error or f"{tally.answered} answers, {tally.refused} of them refusals"
        bench.log(f"  {subject.name}: left out of this round: {reason}")
        return {}
    times_ms = tally.all_times().summary_ms()
    figures = {
        "requests_per_s": tally.requests_per_s,
        **meter.figures(tally.answered),
        **(meter.by_thread(tally.answered) if by_thread else {}),
        "p50_ms": times_ms["p50"],
        "p99_ms": times_ms["p99"],
    }
    bench.samples.add(subject, **figures)
    return figures

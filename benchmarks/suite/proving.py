"""Cost of proofs: heartbeats by kind of proof, and tokens, in turns on one server; and a day as it is.

Heartbeats by session are compared with unproven ones that are also of one node for each connection. Signed
requests are of very many nodes, because each may sign sixteen times a minute. They are signed before the
measured time, because the load signs more slowly than the server checks.

The day consists of signed heartbeats that each come over a new connection, sessions on kept connections,
varied discoveries and registrations.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .. import machine
from ..load.requests import LoadOptions
from . import contestants
from .loads import run_once
from .samples import Bench, Effort, Subject
from .servers import Running

CONNECTIONS = 64
UNPROVEN = "heartbeat, unproven"
SESSION = "heartbeat, by session"
# Percent of all nodes without a proof, and of those with an Ed25519 and with an RSA key of the load.
UNPROVEN_PERCENT, SIGNERS_PERCENT = 40, 30
# More than a server checks in a second; if it checks more, the rest is signed when it is sent.
STOCK_PER_S = 10_000
COLD, COLD_SIGNED = "cold heartbeat, unproven", "cold heartbeat, signed by Ed25519"
CHECK = "the bare check of an Ed25519 signature"
ABOVE = "signed, above the unproven one and the bare check"
CHECKS, MESSAGE_BYTES = 500, 300
# Shares of the requests of a day.
DAY = {"signed_ed25519": 40, "session": 40, "discover_varied": 15, "register": 5}


class Row(NamedTuple):
    """A kind of request that `percent` of the nodes send."""

    name: str
    kind: str
    percent: int
    is_signed: bool = False
    fresh: bool = False


ROWS = (
    Row(UNPROVEN, "own_heartbeat", UNPROVEN_PERCENT),
    Row(SESSION, "session", SIGNERS_PERCENT),
    Row("heartbeat, unproven, each of another node", "heartbeat", UNPROVEN_PERCENT),
    Row(
        "heartbeat, signed by Ed25519, each of another node",
        "signed_ed25519",
        SIGNERS_PERCENT,
        is_signed=True,
    ),
    Row("heartbeat, signed by RSA-2048, each of another node", "signed_rsa", SIGNERS_PERCENT, is_signed=True),
    Row("a token, by session", "token", SIGNERS_PERCENT),
    Row("a pair of tokens, by session", "token_pair", SIGNERS_PERCENT),
)


COLD_ROWS = (
    Row(COLD, "heartbeat", UNPROVEN_PERCENT, fresh=True),
    Row(COLD_SIGNED, "signed_ed25519", SIGNERS_PERCENT, is_signed=True, fresh=True),
)


def case(effort: Effort) -> str:
    return f"proofs and tokens among {effort.usual:,}, {CONNECTIONS} connections"


def cold_case(effort: Effort) -> str:
    return f"proofs among {effort.usual:,} on new connections, {CONNECTIONS} closing clients"


def day_case(effort: Effort) -> str:
    return f"a day among {effort.usual:,}: " + ", ".join(f"{DAY[kind]} % {kind}" for kind in DAY)


def measure(bench: Bench) -> None:
    """Measure every kind in every round; each round starts with another."""
    effort = bench.effort
    with _server(bench) as server:
        for number in range(effort.rounds):
            bench.log(f"round {number + 1} of {effort.rounds}: {case(effort)}")
            first = number % len(ROWS)
            for row in ROWS[first:] + ROWS[:first]:
                run_once(bench, Subject(case(effort), row.name), server, _options(bench, server, row))
        for number in range(effort.rounds):
            bench.log(f"round {number + 1} of {effort.rounds}: {cold_case(effort)}")
            _measure_cold(bench, server)


def _measure_cold(bench: Bench, server: Running) -> None:
    """Measure heartbeats on new connections, with and without a signature, and the bare check."""
    samples, subject = bench.samples, Subject(cold_case(bench.effort), CHECK)
    unproven, signed = (
        run_once(bench, subject._replace(name=row.name), server, _options(bench, server, row))
        for row in COLD_ROWS
    )
    with machine.on_cores(bench.site.cores.server):
        check_us = bare_check_us()
    samples.add(subject, cpu_us=check_us)
    if unproven and signed:
        above_us = signed["cpu_us"] - unproven["cpu_us"] - check_us
        samples.add(subject._replace(name=ABOVE), cpu_us=above_us)


def bare_check_us() -> float:
    """Return the processor time of one check of an Ed25519 signature alone, in microseconds."""
    key, message = Ed25519PrivateKey.generate(), os.urandom(MESSAGE_BYTES)
    signature, public = key.sign(message), key.public_key()
    began_s = process_time()
    for _ in range(CHECKS):
        public.verify(signature, message)
    return (process_time() - began_s) / CHECKS * 1e6


def measure_day(bench: Bench) -> None:
    """Send the requests of a day as fast as they are answered."""
    effort = bench.effort
    with _server(bench) as server:
        for number in range(effort.rounds):
            bench.log(f"round {number + 1} of {effort.rounds}: {day_case(effort)}")
            row = Row(contestants.OURS, "signed_ed25519", SIGNERS_PERCENT, is_signed=True, fresh=True)
            options = _options(bench, server, row)._replace(mix=DAY, run=f"day-{number}")
            run_once(bench, Subject(day_case(effort), row.name), server, options)


@contextmanager
def _server(bench: Bench) -> Iterator[Running]:
    """Run our server with nodes that sign, and wait for its keys."""
    unproven, signers = (
        bench.effort.usual * percent // 100 for percent in (UNPROVEN_PERCENT, SIGNERS_PERCENT)
    )
    bench.log(f"making a database with {2 * signers:,} nodes that sign")
    database = bench.site.databases.path_with_signers(unproven, signers)
    with bench.site.server(contestants.OURS, settings={"database": str(database)}) as server:
        server.open_keys()
        yield server


def _options(bench: Bench, server: Running, row: Row) -> LoadOptions:
    effort = bench.effort
    return bench.options(
        server,
        row.kind,
        nodes=effort.usual * row.percent // 100,
        connections=CONNECTIONS,
        signers=bench.site.databases.signers,
        stock=int(STOCK_PER_S * (effort.warm_up_s + effort.measured_s)) if row.is_signed else 0,
        fresh=(row.kind,) if row.fresh else (),
    )

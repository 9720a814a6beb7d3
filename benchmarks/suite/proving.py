"""Cost of proofs: heartbeats by kind of proof, and tokens, in turns on one server.

Heartbeats by session are compared with unproven ones that are also of one node for each connection. Signed
requests are of very many nodes, because each may sign sixteen times a minute. They are signed before the
measured time, because the load signs more slowly than the server checks.
"""

from __future__ import annotations

from typing import NamedTuple

from . import contestants
from .loads import run_once
from .samples import Bench, Effort, Subject

CONNECTIONS = 64
UNPROVEN = "heartbeat, unproven"
SESSION = "heartbeat, by session"
# Percent of all nodes without a proof, and of those with an Ed25519 and with an RSA key of the load.
UNPROVEN_PERCENT, SIGNERS_PERCENT = 40, 30
# More than a server checks in a second; if it checks more, the rest is signed when it is sent.
STOCK_PER_S = 10_000


class Row(NamedTuple):
    """A kind of request that `percent` of the nodes send."""

    name: str
    kind: str
    percent: int
    is_signed: bool = False


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


def case(effort: Effort) -> str:
    return f"proofs and tokens among {effort.usual:,}, {CONNECTIONS} connections"


def measure(bench: Bench) -> None:
    """Measure every kind in every round; each round starts with another."""
    effort, databases = bench.effort, bench.site.databases
    unproven, signers = (effort.usual * percent // 100 for percent in (UNPROVEN_PERCENT, SIGNERS_PERCENT))
    bench.log(f"making a database with {2 * signers:,} nodes that sign")
    database = databases.path_with_signers(unproven, signers)
    with bench.site.server(contestants.OURS, settings={"database": str(database)}) as server:
        server.open_keys()
        for number in range(effort.rounds):
            bench.log(f"round {number + 1} of {effort.rounds}: {case(effort)}")
            first = number % len(ROWS)
            for row in ROWS[first:] + ROWS[:first]:
                seconds = effort.warm_up_s + effort.measured_s
                options = bench.options(
                    server,
                    row.kind,
                    nodes=effort.usual * row.percent // 100,
                    connections=CONNECTIONS,
                    signers=databases.signers,
                    stock=int(STOCK_PER_S * seconds) if row.is_signed else 0,
                )
                run_once(bench, Subject(case(effort), row.name), server, options)

"""What proofs cost: signs of life by what they show, and tokens, all in turns on one server.

Like is compared with like: who has a session keeps a connection, and so the heartbeat that it is held against
is of one node for each connection as well. What is signed is of very many nodes, since each signs sixteen
times a minute at most. It is signed before the measured time: the load is slower to sign than the server to
check.
"""

from __future__ import annotations

from typing import NamedTuple

from ..load.generator import LoadOptions
from . import contestants as who
from .effort import Bench, Effort
from .loads import run_once
from .samples import Subject

CONNECTIONS = 64
UNPROVEN = "heartbeat, unproven"
SESSION = "heartbeat, by session"
# Of all nodes, how many in a hundred have no proof, and how many an Ed25519 and an RSA key of the load's.
UNPROVEN_PERCENT, SIGNERS_PERCENT = 40, 30
# More than a server checks in a second. If it is not, after all, the rest is signed as it is sent.
STOCK_PER_S = 10_000


class Row(NamedTuple):
    """One kind of request; `percent` of the nodes send it."""

    name: str
    kind: str
    percent: int
    is_signed: bool = False


ROWS = (
    Row(UNPROVEN, "own_heartbeat", UNPROVEN_PERCENT),
    Row(SESSION, "session", SIGNERS_PERCENT),
    Row("heartbeat, unproven, each of another node", "heartbeat", UNPROVEN_PERCENT),
    Row("the same, signed by Ed25519", "signed_ed25519", SIGNERS_PERCENT, is_signed=True),
    Row("the same, signed by RSA-2048", "signed_rsa", SIGNERS_PERCENT, is_signed=True),
    Row("a token, by session", "token", SIGNERS_PERCENT),
    Row("a pair of tokens, by session", "token_pair", SIGNERS_PERCENT),
)


def case(effort: Effort) -> str:
    return f"proofs and tokens among {effort.usual:,}, {CONNECTIONS} connections"


def measure(bench: Bench) -> None:
    """Every kind in every round, each round beginning with another."""
    effort, databases = bench.effort, bench.site.databases
    unproven, signers = (effort.usual * percent // 100 for percent in (UNPROVEN_PERCENT, SIGNERS_PERCENT))
    bench.tell(f"making a database with {2 * signers:,} nodes that sign")
    database = databases.path_with_signers(unproven, signers)
    with bench.site.server(who.OURS, settings={"database": str(database)}) as server:
        server.open_keys()
        for number in range(effort.rounds):
            bench.tell(f"round {number + 1} of {effort.rounds}: {case(effort)}")
            first = number % len(ROWS)
            for row in ROWS[first:] + ROWS[:first]:
                seconds = effort.warm_up_s + effort.measured_s
                options = LoadOptions(
                    host="127.0.0.1",
                    port=server.port,
                    mix={row.kind: 1},
                    nodes=effort.usual * row.percent // 100,
                    duration_s=effort.measured_s,
                    warm_up_s=effort.warm_up_s,
                    connections=CONNECTIONS,
                    seed=bench.seed,
                    signers=databases.signers,
                    stock=int(STOCK_PER_S * seconds) if row.is_signed else 0,
                )
                run_once(bench, Subject(case(effort), row.name), server, options)

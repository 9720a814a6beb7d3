"""Time from the start of a process to its first answer, empty and with many nodes."""

from __future__ import annotations

import compileall
import subprocess
import sys
from time import perf_counter

from .. import machine
from ..machine import ROOT
from . import contestants
from .contestants import CONTESTANTS
from .databases import select_s
from .samples import Bench, Subject
from .servers import ask

CASE = "start to the first answer"
IMPORT = 'python -c "import uvloop"'
SELECT = "bare SELECT of all rows"
STARTERS = (contestants.OURS, contestants.GRANIAN, contestants.AIOHTTP, contestants.FASTAPI)


def measure(bench: Bench) -> None:
    """Start the contestants in turns, round by round."""
    # An installation compiles the package; in a checkout half of the first start would be compiling.
    for folder in ("openred_central", "benchmarks"):
        compileall.compile_dir(ROOT / folder, quiet=1)
    present = [name for name in STARTERS if not CONTESTANTS[name].missing()]
    for number in range(bench.effort.rounds):
        bench.log(f"round {number + 1} of {bench.effort.rounds}: {CASE}")
        bench.samples.add(Subject(CASE, IMPORT), seconds=_import_s(bench))
        for name in present:
            began_s = perf_counter()
            with bench.site.server(name) as server:
                # An answer that the node is unknown is an answer.
                ask(server.port, "POST", "/heartbeat/node-0000000000")
                bench.samples.add(Subject(CASE, name), seconds=perf_counter() - began_s)


def _import_s(bench: Bench) -> float:
    with machine.on_cores(bench.site.cores.server):
        began_s = perf_counter()
        subprocess.run([sys.executable, "-c", "import uvloop"], check=True)
        return perf_counter() - began_s


def restore_case(nodes: int) -> str:
    return f"start to the first answer with {nodes:,} nodes"


def measure_restoring(bench: Bench) -> None:
    """Start our server on larger and larger databases."""
    for nodes in filter(None, (bench.effort.usual, bench.effort.large)):
        bench.log(restore_case(nodes))
        database = bench.site.databases.path(nodes)
        for _ in range(min(bench.effort.rounds, 3)):
            bench.samples.add(Subject(restore_case(nodes), SELECT), seconds=select_s(database))
            with bench.site.server(contestants.OURS, nodes) as server:
                ask(server.port, "GET", "/health/live")
                bench.samples.add(Subject(restore_case(nodes), contestants.OURS), seconds=server.started_s)

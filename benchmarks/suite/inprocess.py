"""Figures of a directory without a server: memory of a node, and a crowd of deadlines due at once.

    python -m benchmarks.suite.inprocess memory 1000000
    python -m benchmarks.suite.inprocess deadlines 1000000

Each prints its figures as JSON. A process measures only one, so that its memory is that of the figure.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
from time import perf_counter, process_time

from openred_central.clock import AttendedTime, SystemClock
from openred_central.directory.directory import Directory
from openred_central.directory.state.columns import RecordColumns
from openred_central.directory.state.node import Record
from openred_central.settings.config import Configuration
from openred_central.tasks.prober import Submission
from openred_central.tasks.scheduler import Scheduler, log_transitions

from .. import machine
from ..load.tally import Histogram
from ..machine import ROOT, Cores
from ..population import ATTENDED_S, records

TOLERANCE_S = 100.0


def filled_directory(nodes: int, last_seen_s: float | None = None) -> Directory:
    """Return a directory with so many nodes, in which mass silence never holds deadlines."""
    settings = Configuration(max_nodes=nodes, heartbeat_tolerance_s=TOLERANCE_S, mass_silence_share=1.0)
    directory = Directory(settings.directory(), settings.lifecycle(), settings.mass_silence(), random.random)
    directory.saving.restore_records(map(columns_of, records(nodes, last_seen_s)))
    return directory


def columns_of(batch: list[Record]) -> RecordColumns:
    """Return records in columns, as a store returns them."""
    columns = zip(*batch, strict=True)
    return RecordColumns._make(
        [value.encode() if isinstance(value, str) else value for value in column] for column in columns
    )


def memory(nodes: int) -> dict[str, float]:
    """Return the growth of resident memory for each node."""
    # Memory that making records needs for a moment is not that of the nodes.
    filled_directory(10_000)
    gc.collect()
    before_bytes = machine.resident_bytes([os.getpid()])
    directory = filled_directory(nodes)
    gc.collect()
    return {"bytes_each": (machine.resident_bytes([os.getpid()]) - before_bytes) / len(directory)}


def deadlines(nodes: int) -> dict[str, float]:
    """Have all nodes due at the same moment; return transitions a second and the times of ticks."""
    directory = filled_directory(nodes, ATTENDED_S - TOLERANCE_S - 1.0)
    attended = AttendedTime(SystemClock(), attended_s=ATTENDED_S)
    directory.nodes.transitions.observers.append(log_transitions)
    scheduler = Scheduler(
        directory,
        attended,
        tick_s=1.0,
        store_reachable=lambda: True,
        submit_probe=lambda request: Submission.REFUSED,
    )
    pieces, more = Histogram(), True
    gc.collect()
    gc.freeze()
    began_s, began_cpu_s = perf_counter(), process_time()
    while more:
        piece_s = perf_counter()
        more = scheduler.tick()
        pieces.add(int((perf_counter() - piece_s) * 1e6))
    took_s, cpu_s = perf_counter() - began_s, process_time() - began_cpu_s
    times_ms = pieces.summary_ms()
    figures = {"transitions_per_s": nodes / took_s, "cpu_us": cpu_s / nodes * 1e6}
    return {**figures, "p99_ms": times_ms["p99"], "max_ms": times_ms["max"]}


FIGURES = {"memory": memory, "deadlines": deadlines}


def run_alone(cores: Cores, figure: str, nodes: int) -> dict[str, float]:
    """Measure a figure in a process of its own."""
    with machine.on_cores(cores.server):
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.suite.inprocess", figure, str(nodes)],
            check=True,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ).stdout
    found: dict[str, float] = json.loads(output)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite.inprocess", description=__doc__)
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("nodes", type=int)
    given = parser.parse_args()
    print(json.dumps(FIGURES[given.figure](given.nodes)))


if __name__ == "__main__":
    main()

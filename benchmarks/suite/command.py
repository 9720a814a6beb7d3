"""``python -m benchmarks suite``: every contestant on this machine, on the same work."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from types import FrameType

from .. import machine
from ..load.requests import LoadError
from ..machine import ROOT
from . import (
    cluster,
    following,
    holding,
    latency,
    loads,
    proving,
    registering,
    report,
    stalls,
    starting,
    workers,
)
from .databases import Databases
from .goals import outcomes
from .samples import QUICK, WHOLE, Bench, Samples
from .servers import ServerError, Site

CASES: dict[str, Callable[[Bench], None]] = {
    **{group: partial(loads.measure, group) for group in loads.GROUPS},
    "proofs": proving.measure,
    "mixed": proving.measure_day,
    "events": following.measure,
    "register": registering.measure,
    "latency": latency.measure,
    "start": starting.measure,
    "restore": starting.measure_restoring,
    "memory": holding.measure,
    "stalls": stalls.measure,
    "workers": workers.measure,
    "cluster": cluster.measure,
}
# Failures of one case after which the others go on.
FAILURES = (ServerError, LoadError, OSError, RuntimeError, subprocess.SubprocessError, sqlite3.Error)
# Ignored by git: a run changes no file of the project unless --report names one.
RUNS = ROOT / "build" / "benchmarks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="six minutes instead of 45: fewer rounds, up to 100,000 nodes",
    )
    add("--only", nargs="+", choices=CASES, metavar="CASE", help=f"only these: {', '.join(CASES)}")
    add(
        "--report",
        type=Path,
        metavar="FILE",
        help="also write the Markdown report to this file, to commit it",
    )
    add("--seed", type=int, default=0, help="seed of all random choices (0)")


def run(given: argparse.Namespace) -> int:
    """Measure and report, even if a case fails. Return the exit code: 1 if one did."""
    signal.signal(signal.SIGTERM, _interrupt)
    machine.allow_open_files()
    described, began_s, samples = machine.describe(), perf_counter(), Samples()
    described["measured at"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    cores = machine.choose_cores()
    if not cores.server:
        print("there is only one core: server and load share it", file=sys.stderr)
    effort, failed = QUICK if given.quick else WHOLE, False

    def log(message: str) -> None:
        print(f"{perf_counter() - began_s:6.0f} s  {message}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="openred-bench-") as folder, machine.on_cores(cores.load):
        site = Site(Path(folder), Databases(Path(folder)), cores)
        bench = Bench(site, effort, samples, log, given.seed)
        for name in given.only or CASES:
            try:
                CASES[name](bench)
            except KeyboardInterrupt:
                log("interrupted: the report holds the cases up to here")
                failed = True
                break
            except FAILURES as error:
                log(f"{name} failed: {error}")
                failed = True
    described["load_average_afterwards"] = f"{os.getloadavg()[0]:.2f}"
    _report(given, bench, described)
    return 1 if failed else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _report(given: argparse.Namespace, bench: Bench, described: dict[str, str]) -> None:
    """Print the tables, and write them and the figures of every round."""
    samples, command = bench.samples, "python -m benchmarks " + shlex.join(sys.argv[1:])
    found = [each for each in outcomes(bench.effort, samples) if each.measured is not None or not given.only]
    print(report.text(samples, found, described))
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    page = report.page(samples, found, described, command)
    written = json.dumps(report.document(samples, found, described, command, bench.seed), indent=1) + "\n"
    files = {RUNS / f"{name}.json": written, RUNS / f"{name}.md": page}
    if given.report is not None:
        files[given.report] = page
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        print(f"written: {path}")

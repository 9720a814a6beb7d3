"""``python -m benchmarks prediction``: how well the directory predicts, beside simpler rules."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import perf_counter

from openred_central.settings.kinds import parse_duration

from . import report
from .clients import Kind
from .evaluation import Case, Result, evaluate
from .population import HOUR_MIXES, MIXES, YEAR_S, generated
from .replay import HOUR_S, Options
from .traces import DAY_S, READERS, WEEK_S, Presence, read, settled

# Nodes and length of generated populations, on the scale of hours and on that of months.
HOURS = (240, 20 * WEEK_S)
MONTHS = (800, 4 * YEAR_S)
MOMENTS = 2_000
# Complaints about a trace that are printed; the others are counted.
NAMED_MAX = 5
ALL_KINDS = (Kind.OFFLINE, Kind.SUSPENDING, Kind.BOOTING)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--trace", type=Path, metavar="FILE", help="replay this trace instead of generated populations")
    add("--format", choices=READERS, default="sessions", help="format of the trace (sessions)")
    add("--mix", choices=MIXES, help="only this generated population")
    add("--pace", type=_paces, metavar="P,P", help="paces of heartbeats that are advised (1h,1d; months: 1d)")
    add("--ignore", type=float, default=0.2, metavar="SHARE", help="share of clients that ignore it (0.2)")
    add("--clients", choices=[*Kind, "all"], help="what becomes of clients while their node is down")
    add("--nodes", type=int, help="number of generated nodes")
    add("--moments", type=int, default=MOMENTS, help=f"random moments to ask at ({MOMENTS})")
    add("--seed", type=int, default=1, help="seed of all random choices (1)")
    add("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    add("--chart", type=Path, metavar="FILE", help="also draw the reliability to this file, as SVG")


def run(given: argparse.Namespace) -> int:
    """Replay, and print the scores. Return the exit code: 2 for a trace without nodes."""
    try:
        cases = list(_cases(given))
    except (OSError, EOFError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results: list[Result] = []
    for case in cases:
        began_s = perf_counter()
        result = evaluate(case, given.seed)
        results.append(result)
        print(report.text(result), flush=True)
        print(f"{case.name}: {perf_counter() - began_s:.0f} s", file=sys.stderr)
    if given.json is not None:
        document = {"seed": given.seed, "cases": [result.document() for result in results]}
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"written: {given.json}")
    if given.chart is not None:
        date = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        given.chart.write_text(report.chart(results, date), encoding="utf-8")
        print(f"written: {given.chart}")
    return 0


def _paces(text: str) -> tuple[float, ...]:
    return tuple(parse_duration(part) for part in text.split(","))


def _cases(given: argparse.Namespace) -> Iterator[Case]:
    """Yield what is to be replayed. Raise `ValueError` for a trace that holds nothing to replay."""
    if given.trace is not None:
        nodes = _traced(given.trace, given.format)
        for pace_s in given.pace or (HOUR_S, DAY_S):
            yield _case(given, given.trace.name, nodes, pace_s, given.clients or Kind.OFFLINE)
        return
    for mix in (given.mix,) if given.mix else ("hours", "home"):
        is_hours = mix in HOUR_MIXES
        count, length_s = HOURS if is_hours else MONTHS
        nodes = generated(mix, given.nodes or count, length_s, Random(given.seed))
        kind = given.clients or (Kind.OFFLINE if is_hours else "all")
        for pace_s in given.pace or ((HOUR_S, DAY_S) if is_hours else (DAY_S,)):
            yield _case(given, mix, nodes, pace_s, kind)
        if is_hours and not (given.pace or given.clients):
            for kind in (Kind.BOOTING, Kind.SUSPENDING):
                yield _case(given, mix, nodes, DAY_S, kind)


def _traced(file: Path, form: str) -> list[Presence]:
    trace = read(file, form)
    for fault in trace.faults[:NAMED_MAX]:
        print(f"skipped: {fault}", file=sys.stderr)
    nodes = settled(trace.nodes)
    print(f"{file.name}: {len(nodes):,} nodes, {len(trace.faults):,} lines skipped")
    if not nodes:
        raise ValueError(f"{file} holds no node that was ever up, as {form}")
    return nodes


def _case(given: argparse.Namespace, name: str, nodes: list[Presence], pace_s: float, kind: str) -> Case:
    length_s = max(node.observed[-1][1] for node in nodes) - min(node.observed[0][0] for node in nodes)
    options = Options(
        pace_s=pace_s,
        kinds=ALL_KINDS if kind == "all" else (Kind(kind),),
        ignore=given.ignore,
        moments=given.moments,
        # Nothing is known of a node at first: a seventh is for learning, or a year.
        warm_up_s=min(length_s / 7, YEAR_S),
    )
    return Case(name, nodes, options)

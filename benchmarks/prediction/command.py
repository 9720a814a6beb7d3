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

from openred_central.directory.lifecycle import DAY_S
from openred_central.settings.kinds import parse_duration
from openred_central.simulation.clients import Kind
from openred_central.simulation.population import HOUR_MIXES, MIXES, YEAR_S, Presence, generated

from . import fit, report
from .evaluation import Case, Result, evaluate
from .replay import HOUR_S, Options
from .traces import READERS, WEEK_S, read, settled

# Nodes and length of generated populations, on the scale of hours and on that of months.
HOURS = (120, 12 * WEEK_S)
MONTHS = (320, 4 * YEAR_S)
# Visits are further apart there than in life: they take most of the time, and hours hardly matter.
MONTHS_VISITS_APART_S = 8 * HOUR_S
MOMENTS = 1_000
# Mixes to fit the weights to, with nodes, days and weight; and the weight of a trace.
FITTED = (("hours", 240, 70, 3.0), ("phones", 240, 70, 1.0), ("home", 400, 300, 1.0))
TRACE_WEIGHT = 3.0
# Complaints about a trace that are printed; the others are counted.
NAMED_MAX = 5
# The least and the longest pace; the directory chooses within.
Pace = tuple[float, float]
HOURLY, DAILY = (HOUR_S, HOUR_S), (DAY_S, DAY_S)
HOURS_PACES = (HOURLY, DAILY, (HOUR_S, DAY_S))
ALL_KINDS = (Kind.OFFLINE, Kind.SUSPENDING, Kind.BOOTING)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--trace", type=Path, metavar="FILE", help="replay this trace instead of generated populations")
    add("--format", choices=READERS, default="sessions", help="format of the trace (sessions)")
    add("--mix", choices=MIXES, help="only this generated population")
    add("--pace", type=_paces, metavar="P,P", help="paces that are advised (1h,1d,1h-1d; months: 1d)")
    add("--ignore", type=float, default=0.2, metavar="SHARE", help="share of clients that ignore it (0.2)")
    add("--clients", choices=[*Kind, "all"], help="what becomes of clients while their node is down")
    add("--nodes", type=int, help="number of generated nodes")
    add("--moments", type=int, default=MOMENTS, help=f"random moments to ask at ({MOMENTS})")
    add("--seed", type=int, default=1, help="seed of all random choices (1)")
    add("--fit", action="store_true", help="fit the weights of the directory instead, and print them")
    add("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    add("--chart", type=Path, metavar="FILE", help="also draw the reliability to this file, as SVG")


def run(given: argparse.Namespace) -> int:
    """Replay, and print the scores. Return the exit code: 2 for a trace without nodes."""
    try:
        cases = list(_fitted(given) if given.fit else _cases(given))
    except (OSError, EOFError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.fit:
        print(fit.report(cases, given.seed))
        return 0
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


def _paces(text: str) -> tuple[Pace, ...]:
    """Return the least and the longest of each pace in a text such as 1h,1h-1d."""
    found = []
    for part in text.split(","):
        least, _, most = part.partition("-")
        found.append((parse_duration(least), parse_duration(most or least)))
    return tuple(found)


def _cases(given: argparse.Namespace) -> Iterator[Case]:
    """Yield what is to be replayed. Raise `ValueError` for a trace that holds nothing to replay."""
    if given.trace is not None:
        nodes = _traced(given.trace, given.format)
        for pace in given.pace or HOURS_PACES:
            yield _case(given, given.trace.name, nodes, pace, given.clients or Kind.OFFLINE)
        return
    for mix in (given.mix,) if given.mix else ("hours", "home"):
        is_hours = mix in HOUR_MIXES
        count, length_s = HOURS if is_hours else MONTHS
        nodes = generated(mix, given.nodes or count, length_s, Random(given.seed))
        kind = given.clients or (Kind.OFFLINE if is_hours else "all")
        for pace in given.pace or (HOURS_PACES if is_hours else (DAILY,)):
            yield _case(given, mix, nodes, pace, kind)
        if is_hours and not (given.pace or given.clients):
            for kind in (Kind.BOOTING, Kind.SUSPENDING):
                yield _case(given, mix, nodes, DAILY, kind)


def _fitted(given: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases to fit the weights to: all scales and paces, and the trace if there is one."""
    populations = [
        (mix, generated(mix, nodes, days * DAY_S, Random(given.seed)), weight)
        for mix, nodes, days, weight in FITTED
    ]
    if given.trace is not None:
        populations.append((given.trace.name, _traced(given.trace, given.format), TRACE_WEIGHT))
    for name, nodes, weight in populations:
        for pace in given.pace or (HOURLY, DAILY):
            # Nodes of the scale of months say little more at a quick pace.
            some = nodes[: len(nodes) // 4] if name == "home" and pace == HOURLY else nodes
            yield _case(given, name, some, pace, "all")._replace(weight=weight)


def _traced(file: Path, form: str) -> list[Presence]:
    trace = read(file, form)
    for fault in trace.faults[:NAMED_MAX]:
        print(f"skipped: {fault}", file=sys.stderr)
    nodes = settled(trace.nodes)
    print(f"{file.name}: {len(nodes):,} nodes, {len(trace.faults):,} lines skipped")
    if not nodes:
        raise ValueError(f"{file} holds no node that was ever up, as {form}")
    return nodes


def _case(given: argparse.Namespace, name: str, nodes: list[Presence], pace: Pace, kind: str) -> Case:
    length_s = max(node.observed[-1][1] for node in nodes) - min(node.observed[0][0] for node in nodes)
    options = Options(
        pace_s=pace[1],
        pace_min_s=pace[0],
        kinds=ALL_KINDS if kind == "all" else (Kind(kind),),
        ignore=given.ignore,
        moments=given.moments,
        # Nothing is known of a node at first: a seventh is for learning, or a year.
        warm_up_s=min(length_s / 7, YEAR_S),
        visits_apart_s=HOUR_S if length_s < YEAR_S or pace[0] < DAY_S else MONTHS_VISITS_APART_S,
    )
    return Case(name, nodes, options)

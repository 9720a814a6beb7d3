"""`simulate`: the time machine, years of very many nodes under several policies."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from ..collector import paused
from ..exit_codes import ExitCode
from ..settings.config import Configuration
from ..settings.kinds import parse_duration, show_duration
from ..simulation import report
from ..simulation.faults import Kind, schedule
from ..simulation.machines import Machines
from ..simulation.policies import POLICIES
from ..simulation.population import HOUR_MIXES, MIXES, YEAR_S
from ..simulation.world import Setting, World
from .command import Command, UsageError, argument, configuration_of
from .console import Console
from .maintenance_command import progress_of

NODES_MAX: Final = 10_000_000
YEARS_MAX: Final = 100.0
PACE_S_MIN: Final = 3_600.0
PACE_S_MAX: Final = 30 * 86_400.0
SEED_MAX: Final = 2**63
MONTH_MIXES: Final = tuple(mix for mix in MIXES if mix not in HOUR_MIXES)


def run(options: argparse.Namespace, console: Console) -> int:
    """Simulate, and print the report."""
    settings = configuration_of(options, console)
    for path in filter(None, (options.json, options.chart)):
        if not path.parent.is_dir():
            raise UsageError(f"the folder of {path} does not exist: create it, or name another file")
    try:
        results = list(_results(options, settings, console))
    except KeyboardInterrupt:
        console.complain("interrupted, so there is no report, and no file was written")
        raise
    console.say(report.text(results).rstrip("\n"))
    if options.json is not None:
        form = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        options.json.write_bytes(orjson.dumps(_document(options, results), option=form))
    if options.chart is not None:
        subtitle = (
            f"{options.nodes:,} nodes, {options.years:g} years, mix {options.mix}, seed {options.seed}, "
            f"a heartbeat every {show_duration(options.pace)}"
        )
        options.chart.write_text(report.chart(results, subtitle), encoding="utf-8")
    return ExitCode.DONE


def _results(
    options: argparse.Namespace, settings: Configuration, console: Console
) -> Iterator[report.Result]:
    length_s = int(options.years * YEAR_S)
    with _quiet(), paused():
        machines = Machines(options.mix, options.nodes, length_s, options.seed)
        faults = schedule(set(map(Kind, options.faults)), length_s, options.seed)
        setting = Setting(machines, faults, settings, options.pace, options.seed)
        for name in options.policies:
            world = World(setting, POLICIES[name])
            with progress_of(console, name) as progress:
                for done in world.run():
                    if console.errors.isatty():
                        progress(done, setting.steps)
            yield report.Result(world.policy, world.tally)


def _document(options: argparse.Namespace, results: Sequence[report.Result]) -> dict[str, Any]:
    """Return what was simulated, and the figures."""
    return {
        "format": 1,
        "nodes": options.nodes,
        "years": options.years,
        "seed": options.seed,
        "mix": options.mix,
        "pace_s": options.pace,
        "faults": list(options.faults),
        "policies": report.document(results),
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let the simulated directory log nothing: it is in trouble all the time."""
    logger = logging.getLogger("openred")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _number(parse: Callable[[str], float], least: float, most: float, allowed: str) -> Callable[[str], float]:
    """Return a parser of numbers within bounds."""

    def parsed(written: str) -> float:
        try:
            value = parse(written)
        except ValueError:
            value = most + 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{written!r} was given, allowed is {allowed}")
        return value

    return parsed


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser of names joined by commas, each at most once; `none` is no name at all."""

    def parsed(written: str) -> list[str]:
        names = [] if written == "none" else list(dict.fromkeys(written.split(",")))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(known)}")
        return names

    return parsed


COMMAND = Command(
    "simulate",
    "let years of very many nodes pass, under several policies, and report what silence did to them",
    run,
    (
        argument(
            "--nodes",
            type=_number(int, 0, NODES_MAX, f"0 to {NODES_MAX:,}"),
            default=10_000,
            metavar="N",
            help="number of nodes; default: 10000",
        ),
        argument(
            "--years",
            type=_number(float, 0.1, YEARS_MAX, f"0.1 to {YEARS_MAX:g}"),
            default=5.0,
            metavar="Y",
            help="years that pass; default: 5",
        ),
        argument(
            "--seed",
            type=_number(int, 0, SEED_MAX, f"0 to {SEED_MAX}"),
            default=1,
            metavar="S",
            help="seed of all that happens by chance; default: 1",
        ),
        argument("--mix", choices=MONTH_MIXES, default="home", help="kind of nodes; default: home"),
        argument(
            "--pace",
            type=_number(parse_duration, PACE_S_MIN, PACE_S_MAX, "1h to 30d"),
            default="7d",
            metavar="P",
            help="interval between heartbeats that is advised; default: 7d",
        ),
        argument(
            "--faults",
            type=_names(tuple(Kind)),
            default=list(map(str, Kind)),
            metavar="F,F",
            help=f"what goes wrong: {', '.join(Kind)}, or none; default: all",
        ),
        argument(
            "--policies",
            type=_names(tuple(POLICIES)),
            default=list(POLICIES),
            metavar="P,P",
            help=f"how silence is judged: {', '.join(POLICIES)}; default: all",
        ),
        argument("--json", type=Path, metavar="FILE", help="write all figures to this file"),
        argument("--chart", type=Path, metavar="FILE", help="draw the figures to this file, as SVG"),
    ),
    """\
  openred-central simulate --nodes 2000 --years 3
  openred-central simulate --nodes 100000 --pace 7d --json years.json --chart years.svg
  openred-central simulate --faults uplink,region --policies adaptive --heartbeat-tolerance-s 90d
""",
    "No database and no network are used. Settings of the life cycle are those of the server.\n"
    "The same seed, arguments and settings give the same figures.\n"
    f"exit codes: {ExitCode.DONE:d} done, {ExitCode.USAGE:d} wrong usage, "
    f"{ExitCode.INTERRUPTED:d} interrupted\n",
)

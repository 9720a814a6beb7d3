"""``python -m benchmarks load``: options, warnings, progress, reports."""

from __future__ import annotations

import argparse
import ipaddress
import json
import resource
import secrets
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from openred_central.security.sessions import LIFE_S
from openred_central.settings.kinds import parse_duration

from ..signers import RSA, new_signers
from . import report
from .generator import LoadOptions
from .kinds import KINDS, keys_needed
from .mix import MixError, parse
from .preparing import registered_number
from .proofs import TOKEN_KINDS
from .running import LoadError, register_nodes, run_here, run_in_processes
from .tally import Second, Tally

# What one run may ask for at most: it is to end by itself, and to leave the machine usable.
DURATION_S_MAX = 3_600.0
RATE_MAX = 1_000_000.0
CONNECTIONS_MAX = 50_000
PROCESSES_MAX = 64
NODES_MAX = 1_000_000
PIPELINE_MAX = 256
# A session that was granted in the beginning still holds so long.
TOKENS_S_MAX = LIFE_S - 10
# Open files of a process besides its connections.
FILES_BESIDES = 64
# What helps against 429 where the server is one of ours.
EXEMPTION = "our server takes them all with --rate-limit-exempt=127.0.0.0/8,::1/128"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ", ".join(KINDS)
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000", help="the server; a path is put before every request's own")
    add("--mix", default="heartbeat=80,discover=15,register=5", help=f"shares of {kinds}")
    add("--rate", type=float, help="open loop: requests a second; without it a closed loop, as many as go")
    add("--duration", type=_duration, default=10.0, help="how long is measured, such as 30s or 5m (10s)")
    add("--warm-up", type=_duration, default=1.0, help="how long the load runs before that (1s)")
    add("--connections", type=int, default=64, help="keep-alive connections, of all processes together (64)")
    add("--idle", type=int, default=0, help="connections that only lie there, besides")
    add("--processes", type=int, default=1, help="generators, each a process (1)")
    add("--pipeline", type=int, default=1, help="requests in flight on a connection (1)")
    add("--nodes", type=int, default=1_000, help="nodes that are registered first and then spoken of (1000)")
    add("--services", default="storage", help="what discovery asks for, joined by commas (storage)")
    add("--seed", type=int, default=0, help="of all random choices (0)")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    add("--chart", type=Path, metavar="FILE.svg", help="draw throughput over time and the tail of the times")
    add("--i-own-this-server", action="store_true", help="needed for any server that is not on loopback")


def run(given: argparse.Namespace) -> int:
    """Run the load and report. Returns the exit code: 2 where it was not begun, 1 where something failed."""
    try:
        options = load_options(given)
        _expect_loopback(options, owned=given.i_own_this_server)
        _expect_files(options, given.processes)
        _register(options)
        timeline = report.Timeline(given.processes)
        tally = _measure(options, given.processes, timeline)
    except (LoadError, MixError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nload: interrupted", file=sys.stderr)
        return 130
    print()
    print(report.table(tally), end="")
    for remark in report.remarks(tally, options.rate):
        print(f"note: {remark}")
    measured_at = datetime.now(UTC)
    if given.json is not None:
        written = report.document(options, tally, timeline.seconds(), measured_at)
        given.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    if given.chart is not None:
        given.chart.write_text(
            report.chart(options, tally, timeline.seconds(), measured_at), encoding="utf-8"
        )
    return exit_code(tally)


def exit_code(tally: Tally) -> int:
    """Return 0 where every request that was sent or due was answered, else 1."""
    return 1 if tally.error or tally.failed or tally.unanswered or not tally.answered else 0


def _duration(written: str) -> float:
    """Read a duration as settings have it. Raises `ArgumentTypeError`."""
    try:
        return parse_duration(written)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{written!r} is no duration; allowed are seconds, or a number and its unit, such as 30s or 5m"
        ) from None


def load_options(given: argparse.Namespace) -> LoadOptions:
    """What the arguments ask for. Raises `LoadError` or `MixError`."""
    url = urlsplit(given.url)
    try:
        port = url.port or 80
    except ValueError as error:
        raise LoadError(f"{given.url} cannot be used: {error}") from error
    if url.scheme != "http" or not url.hostname or url.query or url.fragment:
        raise LoadError(f"{given.url} cannot be used; allowed is http://HOST:PORT and a path")
    bounds = (
        ("duration", 0.1, DURATION_S_MAX),
        ("warm_up", 0.0, DURATION_S_MAX),
        ("rate", 0.1, RATE_MAX),
        ("connections", given.processes, CONNECTIONS_MAX),
        ("idle", 0, CONNECTIONS_MAX),
        ("processes", 1, PROCESSES_MAX),
        ("pipeline", 1, PIPELINE_MAX),
        ("nodes", 1, NODES_MAX),
    )
    for name, least, most in bounds:
        value = getattr(given, name)
        if value is not None and not least <= value <= most:
            raise LoadError(f"--{name.replace('_', '-')} is {value:g}, allowed is {least:g} to {most:g}")
    mix = parse(given.mix, KINDS)
    _expect_sessions_to_last(mix, given)
    keys = keys_needed(mix)
    # Each run registers nodes of its own; only a name that was never used is a new node.
    run = f"load-{secrets.token_hex(4)}"
    return LoadOptions(
        host=url.hostname,
        port=port,
        prefix=url.path.rstrip("/"),
        mix=mix,
        nodes=given.nodes,
        services=tuple(given.services.split(",")),
        rate=given.rate,
        duration_s=given.duration,
        warm_up_s=given.warm_up,
        connections=given.connections,
        idle_connections=given.idle,
        pipeline=given.pipeline,
        run=run,
        seed=given.seed,
        signers=new_signers(f"{run}-", rsa=RSA in keys) if keys else None,
    )


def _expect_sessions_to_last(mix: dict[str, int], given: argparse.Namespace) -> None:
    """Raise `LoadError` where tokens are asked for in vain: nothing renews a session but a heartbeat."""
    if not TOKEN_KINDS.isdisjoint(mix) and given.warm_up + given.duration > TOKENS_S_MAX:
        raise LoadError(
            f"tokens are asked for with a session, which lives {LIFE_S} s; "
            f"allowed are {TOKENS_S_MAX} s of --warm-up and --duration together"
        )
    if "token_pair" in mix and given.nodes < 2:
        raise LoadError("a pair of tokens is for two nodes; --nodes is 1, allowed is 2 or more")


def _expect_loopback(options: LoadOptions, *, owned: bool) -> None:
    """Raise `LoadError` unless every address of the server is on loopback, or the user owns it."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise LoadError(f"there is no {options.host}: {error.strerror}") from error
    addresses = sorted({str(address[0]) for *_, address in found})
    distant = [address for address in addresses if not is_loopback(address)]
    if distant and not owned:
        raise LoadError(
            f"{options.host} is {', '.join(distant)}, which is not this machine. To load a server that "
            "is not yours is an attack. If it is yours, and the network to it too, say --i-own-this-server"
        )
    if distant:
        print(f"warning: this loads {', '.join(distant)} over the network", file=sys.stderr)


def is_loopback(address: str) -> bool:
    """Whether an IP address, a scope behind it aside, is one of this machine alone."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _expect_files(options: LoadOptions, processes: int) -> None:
    """Raise the limit of open files as far as it goes; raise `LoadError` where that is not enough."""
    needed = -(-(options.connections + options.idle_connections) // processes) + FILES_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > soft:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        if wanted < needed:
            raise LoadError(
                f"{needed} open files are needed and {hard} allowed; use more --processes, or ulimit -n"
            )


def _register(options: LoadOptions) -> None:
    number = registered_number(options)
    step = max(1_000, number // 20)
    shown = _Line()

    def told(registered: int) -> None:
        if registered % step == 0:
            shown.replace(f"registering nodes: {registered:,} of {number:,}")

    statuses = register_nodes(options, told)
    shown.end()
    wrong = {status: count for status, count in statuses.items() if not 200 <= status < 300}
    if wrong:
        counted = ", ".join(f"{count:,} times {status}" for status, count in sorted(wrong.items()))
        raise LoadError(
            f"the server refused registrations: {counted}; use fewer --nodes, or another --mix"
            + (f"; {EXEMPTION}" if 429 in wrong else "")
        )


def _measure(options: LoadOptions, processes: int, timeline: report.Timeline) -> Tally:
    generators = f"{processes} process{'es' * (processes > 1)}"
    print(f"{report.loop(options)}, {options.connections} connections, {generators}", flush=True)
    shown = _Line()

    def told(second: Second) -> None:
        together = timeline.add(second)
        if together is not None:
            shown.replace(report.progress(together))

    tally = run_here(options, told) if processes == 1 else run_in_processes(options, processes, told)
    shown.end()
    return tally


class _Line:
    """A line of progress: on a terminal it takes the place of the one before, elsewhere it is a line more."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._open = False

    def replace(self, text: str) -> None:
        ending, start = ("", "\r\x1b[K") if self._terminal else ("\n", "")
        print(f"{start}{text}", end=ending, file=sys.stderr, flush=True)
        self._open = self._terminal

    def end(self) -> None:
        if self._open:
            print(file=sys.stderr)
        self._open = False

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

from .. import machine
from ..signers import RSA, new_signers
from . import report
from .requests import KINDS, LoadError, LoadOptions, keys_needed, parse_mix
from .running import register_nodes, registered_number, run_here, run_in_processes
from .tally import Second, Tally, is_success

# Limits of one run, so that it ends and leaves the machine usable.
DURATION_S_MAX = 3_600.0
RATE_MAX = 1_000_000.0
CONNECTIONS_MAX = 50_000
PROCESSES_MAX = 64
NODES_MAX = 1_000_000
PIPELINE_MAX = 256
# A session from the start of the run is still valid then.
TOKENS_S_MAX = LIFE_S - 10
# Open files of a process in addition to its connections.
FILES_BESIDES = 64
EXEMPTION = "for our server, lift the limit with --rate-limit-exempt=127.0.0.0/8,::1/128"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ", ".join(KINDS)
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000", help="the server; its path is a prefix of all paths")
    add("--mix", default="heartbeat=80,discover=15,register=5", help=f"shares of {kinds}")
    add(
        "--rate",
        type=float,
        help="open loop: requests a second (without it: closed loop, as many as possible)",
    )
    add("--duration", type=_duration, default=10.0, help="measured time, such as 30s or 5m (10s)")
    add("--warm-up", type=_duration, default=1.0, help="time before that (1s)")
    add("--connections", type=int, default=64, help="keep-alive connections of all processes (64)")
    add("--idle", type=int, default=0, help="further connections that stay idle (0)")
    add("--processes", type=int, default=1, help="processes that generate the load (1)")
    add(
        "--fresh",
        default="",
        metavar="KINDS",
        help="kinds, separated by commas, of which each request has a new connection",
    )
    add("--pipeline", type=int, default=1, help="requests in flight on each connection (1)")
    add("--nodes", type=int, default=1_000, help="nodes to register first and then use (1000)")
    add("--services", default="storage", help="services for discovery, separated by commas (storage)")
    add("--seed", type=int, default=0, help="seed of all random choices (0)")
    add("--json", type=Path, metavar="FILE", help="write all figures to this file")
    add("--chart", type=Path, metavar="FILE.svg", help="write a chart of throughput and times to this file")
    add("--i-own-this-server", action="store_true", help="required for a server that is not on loopback")


def run(given: argparse.Namespace) -> int:
    """Run the load and report. Return the exit code: 2 if it did not start, 1 if something failed."""
    try:
        options = load_options(given)
        _expect_loopback(options, owned=given.i_own_this_server)
        _expect_files(options, given.processes)
        print(machine.sentence(), flush=True)
        _register(options)
        timeline = report.Timeline(given.processes)
        tally = _measure(options, given.processes, timeline)
    except LoadError as error:
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
    """Return 0 if every request that was sent or due was answered, else 1."""
    return 1 if tally.error or tally.failed or tally.unanswered or not tally.answered else 0


def _duration(written: str) -> float:
    """Return the seconds of a duration as in settings. Raises `ArgumentTypeError`."""
    try:
        return parse_duration(written)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{written!r} is no duration; allowed are seconds, or a number and its unit, such as 30s or 5m"
        ) from None


def load_options(given: argparse.Namespace) -> LoadOptions:
    """Return the options that the arguments ask for. Raises `LoadError`."""
    url = urlsplit(given.url)
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as error:
        raise LoadError(f"{given.url} cannot be used: {error}") from error
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise LoadError(f"{given.url} cannot be used; allowed is http[s]://HOST:PORT and a path")
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
    mix = parse_mix(given.mix)
    fresh = parse_mix(given.fresh) if given.fresh else {}
    _expect_sessions_to_last(mix, given)
    keys = keys_needed(mix)
    # A run registers new nodes, so their names must be unused.
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
        fresh=tuple(fresh),
        tls=url.scheme == "https",
        run=run,
        seed=given.seed,
        signers=new_signers(f"{run}-", rsa=RSA in keys) if keys else None,
    )


def _expect_sessions_to_last(mix: dict[str, int], given: argparse.Namespace) -> None:
    """Raise `LoadError` for a run with tokens that outlasts its sessions: only heartbeats renew those."""
    if any(KINDS[kind].is_token for kind in mix) and given.warm_up + given.duration > TOKENS_S_MAX:
        raise LoadError(
            f"--warm-up and --duration are {given.warm_up + given.duration:g} s together; "
            f"tokens need a session, which lives {LIFE_S} s, so at most {TOKENS_S_MAX} s are allowed"
        )
    if "token_pair" in mix and given.nodes < 2:
        raise LoadError("--nodes is 1; a pair of tokens needs two nodes, so allowed is 2 or more")


def _expect_loopback(options: LoadOptions, *, owned: bool) -> None:
    """Raise `LoadError` unless every address of the server is on loopback, or the user owns it."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise LoadError(f"{options.host} has no address: {error.strerror}") from error
    addresses = sorted({str(address[0]) for *_, address in found})
    distant = [address for address in addresses if not is_loopback(address)]
    if distant and not owned:
        raise LoadError(
            f"{options.host} is {', '.join(distant)}, which is not this machine. A load on other people's "
            "servers is an attack. If you own the server and the network to it, add --i-own-this-server"
        )
    if distant:
        print(f"warning: this puts a load on {', '.join(distant)} over the network", file=sys.stderr)


def is_loopback(address: str) -> bool:
    """Return whether an IP address, apart from its scope, belongs to this machine alone."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _expect_files(options: LoadOptions, processes: int) -> None:
    """Raise the limit of open files as far as needed. Raises `LoadError` if that is not allowed."""
    needed = -(-(options.connections + options.idle_connections) // processes) + FILES_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > soft:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        if wanted < needed:
            raise LoadError(
                f"each process needs {needed} open files, allowed are {hard}; "
                "use more --processes, or ulimit -n"
            )


def _register(options: LoadOptions) -> None:
    number = registered_number(options)
    step = max(1_000, number // 20)
    shown = _Line()

    def show(registered: int) -> None:
        if registered % step == 0:
            shown.replace(f"registering nodes: {registered:,} of {number:,}")

    statuses = register_nodes(options, show)
    shown.end()
    wrong = {status: count for status, count in statuses.items() if not is_success(status)}
    if wrong:
        raise LoadError(
            f"the server refused registrations: {report.counted(wrong)}; use fewer --nodes, or another --mix"
            + (f"; {EXEMPTION}" if 429 in wrong else "")
        )


def _measure(options: LoadOptions, processes: int, timeline: report.Timeline) -> Tally:
    generators = f"{processes} process{'es' * (processes > 1)}"
    print(f"{report.loop(options)}, {options.connections} connections, {generators}", flush=True)
    shown = _Line()

    def show(second: Second) -> None:
        together = timeline.add(second)
        if together is not None:
            shown.replace(report.progress(together))

    tally = run_here(options, show) if processes == 1 else run_in_processes(options, processes, show)
    shown.end()
    return tally


class _Line:
    """A line of progress, which replaces the previous one on a terminal."""

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

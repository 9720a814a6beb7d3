"""`health`: check a running server, for people, scripts and containers."""

from __future__ import annotations

import argparse
from pathlib import Path, PurePath
from typing import Final, NamedTuple

from ..exit_codes import ExitCode
from ..http_requests import NoReply, request
from ..settings.config import Configuration
from .command import Command, UsageError, add_settings, argument, configuration_of, settings_in
from .console import Console

TIMEOUT_S: Final = 5.0
LIVE: Final = "/health/live"
READY: Final = "/health/ready"
PROCESSES: Final = Path("/proc")
# Names of the program in a command line: as a script, and behind `-m`.
PROGRAMS: Final = ("openred-central", "openred_central")


class Health(NamedTuple):
    """The result of a check: whether the server is well, and a line for people."""

    well: bool
    line: str


def run(options: argparse.Namespace, console: Console) -> int:
    """Print whether the server is ready, or only whether it is live."""
    flags = flags_of(options.process) if options.process else {}
    configuration = configuration_of(options, console, flags)
    try:
        health = check(
            options.url or own_url(configuration), LIVE if options.live else READY, verified=bool(options.url)
        )
    except ValueError as error:
        raise UsageError(f"--url: {error}") from error
    if not health.well:
        console.errors.write(f"{health.line}\n")
        return ExitCode.FAILED
    console.say(health.line)
    return ExitCode.DONE


def own_url(configuration: Configuration) -> str:
    """Return the URL of the server with these settings, as seen from its own machine."""
    everywhere = configuration.host in ("", "0.0.0.0", "::")
    host = "127.0.0.1" if everywhere else configuration.host
    scheme = "https" if configuration.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{configuration.port}"


def flags_of(process_id: str, processes: Path = PROCESSES) -> dict[str, str]:
    """Return the settings, name → text, in the command line of the server with this process id.

    A health check in a container has the variables of the server, but not its flags. `processes` is the
    folder in which the system describes processes (proc(5)). The result is empty if the process is no server;
    then only the variables count.
    """
    try:
        written = (processes / process_id / "cmdline").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return {}
    words = iter(written.removesuffix("\0").split("\0"))
    # An interpreter may stand before the program, and an init process before that.
    if not any(PurePath(word).name in PROGRAMS for word in words):
        return {}
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    add_settings(parser)
    return settings_in(parser.parse_known_args(list(words))[0])


def check(url: str, path: str, *, verified: bool, timeout_s: float = TIMEOUT_S) -> Health:
    """Check the server at `url` by `path`: `LIVE` if it answers, `READY` if it accepts changes, too.

    Over TLS, the certificate is verified if `verified`. It cannot be verified from the server's own machine,
    whose address no certificate names. Raises `ValueError` if `url` is no URL of a server.
    """
    try:
        reply = request("GET", url, path, timeout_s=timeout_s, verified=verified)
    except NoReply as error:
        return Health(False, str(error))
    word = "ready" if path == READY else "live"
    if reply.status == 200:
        return Health(True, f"{url} is {word}")
    return Health(False, f"{url} is not {word}: it answers {path} with {reply.status} {reply.reason}")


COMMAND = Command(
    "health",
    f"check whether a server is ready; exit code {ExitCode.DONE:d} if it is, {ExitCode.FAILED:d} if not",
    run,
    (
        argument("--url", metavar="URL", help="address of the server; default: that of the settings"),
        argument(
            "--process",
            metavar="ID",
            help="id of a process; if it is a server, use the settings of its command line",
        ),
        argument("--live", action="store_true", help="check only that the server answers"),
    ),
)

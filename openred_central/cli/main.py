"""The command line: collect the commands, read the arguments, run a command and return its exit code."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from .. import __version__
from ..collector import paused
from ..early import serves
from ..exit_codes import ExitCode
from ..settings.config import ConfigError
from ..settings.texts import nearest
from .command import Command, CommandFailed, UsageError
from .console import PROGRAM, checked_output, complain, guarded, system_console

# Each command and its module in this folder, in the order of the help; the module of `import`, which is a
# keyword, is `import_`. A module is imported only if its command runs: the server must not wait for imports
# of the client, nor `heartbeat` for those of the server.
MODULES: Final = {
    module.rstrip("_").replace("_", "-"): module
    for module in (
        *("serve", "config", "health", "systemd_unit", "snapshot", "restore", "export", "import_", "verify"),
        "keys",
        *("block", "unblock", "blocks", "cluster", "simulate"),
        *("register", "heartbeat", "discover", "node", "stats", "analytics", "watch", "leave"),
        *("keygen", "example", "completion"),
    )
}
# The server starts it, and no person does: the help does not list it.
HIDDEN: Final = {"worker": "worker"}
EXAMPLES = """\
examples:
  openred-central                                  start on 127.0.0.1:8000, data in data/openred.db
  openred-central --host 0.0.0.0 --port 9000       listen on all IPv4 addresses
  openred-central --workers 4                      four processes serve, and a fifth one leads them
  openred-central --database memory: --coma-s 10s  keep nothing on disk; a coma lasts ten seconds
  OPENRED_PORT=9000 openred-central config         print the settings and where each comes from

Every setting is a flag, such as --max-nodes, or a variable, such as OPENRED_MAX_NODES; the flag wins.
Durations (names that end in -s) are in seconds or have a unit: 90, 0.5, 90s, 15m, 48h, 180d.
Sizes are in bytes. `openred-central serve --help` lists all settings.

Authors of nodes begin with `openred-central keygen node.pem` and `openred-central register --help`. They name
the directory with --url or OPENRED_URL.
"""
# Values in base64url: a key id, of 32 bytes, and a claim, of 16.
_KEY_ID: Final = re.compile(r"-[A-Za-z0-9_-]{42}")
_CLAIM: Final = re.compile(r"-[A-Za-z0-9_-]{21}")
_TAKES: Final = {"--next-key": _KEY_ID, "--key": _KEY_ID, "--claim": _CLAIM}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (default: those of the process) and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Without a command, with or without settings, the server starts.
    if serves(given) and given[:1] not in (["serve"], ["worker"]):
        given.insert(0, "serve")

    def run() -> int:
        try:
            return _run(given)
        except (ConfigError, UsageError) as error:
            for line in str(error).splitlines():
                complain(line)
            return ExitCode.USAGE
        except CommandFailed as error:
            complain(str(error))
            return ExitCode.FAILED

    return guarded(run, complain, serving=given[0] in ("serve", "worker") and not {"-h", "--help"} & {*given})


def commands(names: Iterable[str] = MODULES) -> dict[str, Command]:
    """Return the commands of these names."""
    with paused():
        return {
            name: importlib.import_module(f".{(MODULES | HIDDEN)[name]}", __package__).COMMAND
            for name in names
        }


def make_parser(known: Iterable[Command]) -> argparse.ArgumentParser:
    """Return a parser that understands the commands in `known`."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="A directory in which the nodes of decentralised networks register and find each other.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="command", required=True)
    for command in known:
        examples = command.examples and f"examples:\n{command.examples}"
        subparser = subparsers.add_parser(
            command.name,
            usage=_usage(command) if command.settings else None,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog="\n".join(filter(None, (examples, command.notes))),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_to(subparser)
    return parser


def guard_values(words: Sequence[str]) -> list[str]:
    """Return `words` in which no parser mistakes a key id or a claim that begins with ``-`` for a flag.

    One in 64 begins so. It is joined to the flag before it; `keys`, which takes a key id without a flag, has
    a hidden flag for this. No flag is as long as a key id.
    """
    guarded_words: list[str] = []
    for word in words:
        taken = _TAKES.get(guarded_words[-1]) if guarded_words else None
        if taken is not None and taken.fullmatch(word):
            guarded_words[-1] += f"={word}"
        elif words[0] == "keys" and _KEY_ID.fullmatch(word):
            guarded_words.append(f"--key-id={word}")
        else:
            guarded_words.append(word)
    return guarded_words


def _run(given: Sequence[str]) -> int:
    known = commands([given[0]] if given[0] in MODULES | HIDDEN else MODULES)
    parser = make_parser(known.values())
    with checked_output():
        options, unknown = parser.parse_known_args(guard_values(given))
    command = known[options.command]
    if unknown:
        flag = unknown[0].partition("=")[0]
        flags = ["--help", *(each.names[0] for each in command.flags)]
        hint = f"the nearest flag is {nearest(flag, flags)}" if flag[0] == "-" else "flags begin with --"
        parser.error(f"{flag} is not known to {command.name}; {hint}")
    return command.run(options, system_console())


def _usage(command: Command) -> str:
    """Return the short usage of a command with settings; the help lists their flags anyway."""
    words = [
        f"[{each.options['metavar']}]" if each.options.get("nargs") == "?" else each.options["metavar"]
        for each in command.arguments
        if not each.flag
    ]
    return " ".join([PROGRAM, command.name, *words, "[--setting VALUE ...]"])

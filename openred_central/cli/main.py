"""The command line: commands are read here, print and exit.

Exit codes: 0 done, 1 failed or refused by the server, 2 wrong usage or setting, 3 nobody answers,
4 the server would take it later, 78 the server cannot start until something is mended, 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from .. import __version__
from ..early import serves
from ..maintenance.arguments import MEANINGS, add_arguments
from ..settings.config import SETTINGS, ConfigError, Configuration, load
from ..settings.texts import nearest, settings_markdown, unknown_variables
from ..terminal import PROGRAM, complain, guarded, layout, printed_aloud
from . import arguments as for_nodes

if TYPE_CHECKING:
    import argparse

    from .showing import Style

EXAMPLES = """\
examples:
  openred-central                                  start on 127.0.0.1:8000, data in data/openred.db
  openred-central --host 0.0.0.0 --port 9000       listen on all IPv4 addresses
  openred-central --database memory: --coma-s 10s  keep nothing; a coma lasts ten seconds
  OPENRED_PORT=9000 openred-central config         what would be used, and where it comes from

Every setting is a flag, such as --max-nodes, or a variable, such as OPENRED_MAX_NODES; the flag wins.
Durations (names that end in -s) are seconds, or have a unit behind: 90, 0.5, 90s, 15m, 48h, 180d.
Sizes are in bytes. `openred-central serve --help` lists all settings.

Authors of nodes begin with `openred-central keygen node.pem` and `openred-central register --help`; where the
server is, they say with --url or OPENRED_URL.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (default: those of the process) and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Without a command, also where settings are given, the server starts.
    if serves(given) and given[:1] != ["serve"]:
        given.insert(0, "serve")
    settings = settings_alone(given)

    def run() -> int:
        try:
            return _run(given) if settings is None else _start(settings)
        except ConfigError as error:
            for line in str(error).splitlines():
                complain(line)
            return 2

    return guarded(run, complain, serving=given[0] == "serve" and not {"-h", "--help"} & {*given})


def settings_alone(given: Sequence[str]) -> dict[str, str] | None:
    """Setting name → text, where `given` starts the server with nothing but settings; None for all else.

    Most starts are such. `argparse` would read the same, 8 ms later.
    """
    if given[0] != "serve":
        return None
    names = {setting.flag: setting.name for setting in SETTINGS.values()}
    settings = {}
    words = iter(given[1:])
    for word in words:
        flag, equals, value = word.partition("=")
        if not equals:
            # Where a value is missing, or looks like a flag, `argparse` tells what is wrong.
            value = next(words, "-")
        if flag not in names or (not equals and value.startswith("-")):
            return None
        settings[names[flag]] = value
    return settings


def _run(given: Sequence[str]) -> int:
    """Run the command in `given`, read by `argparse`, and return its exit code."""
    gc.enable()
    parser = _parser()
    with printed_aloud():
        options, unknown = parser.parse_known_args(for_nodes.guard_key_ids(given))
    if unknown:
        from .completion import commands_of

        flag = unknown[0].partition("=")[0]
        (command,) = [command for command in commands_of(parser) if command.name == options.command]
        known = [known.name for known in command.flags]
        hint = (
            f"the nearest flag is {nearest(flag, known)}" if flag.startswith("-") else "flags begin with --"
        )
        parser.error(f"{flag} is not known to {options.command}; {hint}")
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="A directory in which the nodes of decentralised networks register and find each other.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="command")
    settings = _settings_parser()
    for name, (run, meaning) in COMMANDS.items():
        command = commands.add_parser(
            name,
            usage=f"{PROGRAM} {name} [--setting VALUE ...]",
            help=meaning,
            description=meaning[0].upper() + meaning[1:] + ".",
            parents=[] if name in for_nodes.MEANINGS else [settings],
            allow_abbrev=False,
        )
        command.set_defaults(run=run)
        if name in for_nodes.MEANINGS:
            command.usage = None
            url = os.environ.get(for_nodes.URL_VARIABLE) or for_nodes.DEFAULT_URL
            for_nodes.add_arguments(command, name, url)
        if run is _keys:
            for_nodes.add_keys_arguments(command)
        if run in (_serve, _maintain):
            add_arguments(command, name)
        if run is _config:
            command.add_argument(
                "--markdown", action="store_true", help="print the table of settings for settings.md instead"
            )
        if run is _health:
            command.add_argument("--url", metavar="URL", help="where; by default where the settings say")
            command.add_argument(
                "--process", metavar="ID", help="with the flags of this process, if it serves"
            )
            command.add_argument("--live", action="store_true", help="ask only whether it answers")
        if run is _systemd_unit:
            command.add_argument("--socket", action="store_true", help="print the unit that listens for it")
    return parser


def _settings_parser() -> argparse.ArgumentParser:
    """One flag for each setting, without a default, so that only what was given is in the result."""
    import argparse

    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("settings")
    for setting in SETTINGS.values():
        default = setting.kind.show(setting.default) or "nothing"
        row = f"{setting.meaning} Default: {default}. Allowed: {setting.kind.allowed}."
        group.add_argument(
            setting.flag,
            dest=setting.name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=row.replace("%", "%%"),
        )
    return parser


def _given_in(options: argparse.Namespace) -> dict[str, str]:
    return {name: value for name, value in vars(options).items() if name in SETTINGS}


def _load(options: argparse.Namespace) -> Configuration:
    return _configuration(_given_in(options))


def _configuration(flags: Mapping[str, str]) -> Configuration:
    """The configuration from flags and variables; variables that look like settings are warned of."""
    for warning in unknown_variables(os.environ):
        complain(f"warning: {warning}")
    return load(flags, os.environ)


def _serve(options: argparse.Namespace) -> int:
    return _start(_given_in(options), begin_anew=options.begin_anew)


def _start(flags: Mapping[str, str], *, begin_anew: bool = False) -> int:
    configuration = _configuration(flags)
    # What is imported stays: to walk it five times meanwhile is 3 ms. `loading` turns the collector on again.
    gc.disable()
    # Here and not above: the other commands shall not wait for the server's libraries.
    from ..server.server import serve

    return serve(configuration, begin_anew=begin_anew)


def _maintain(options: argparse.Namespace) -> int:
    configuration = _load(options)
    from ..clock import SystemClock
    from ..maintenance.commands import Surroundings, run
    from ..storage.store import StoreError

    try:
        return run(
            options,
            configuration,
            Surroundings(sys.stdin.buffer, sys.stdout.buffer, sys.stderr, SystemClock(), print),
        )
    except StoreError as error:
        complain(str(error))
        return 1


def _config(options: argparse.Namespace) -> int:
    if options.markdown:
        print(settings_markdown(), end="")
        return 0
    configuration = _load(options)
    width = max(map(len, SETTINGS))
    lines = []
    for name, setting in SETTINGS.items():
        value = setting.kind.show(getattr(configuration, name)) or "nothing"
        lines.append(f"{name:{width}}  {value:20}  {_origin(configuration.given_as.get(name, ''))}")
    print("\n".join(lines))
    return 0


def _health(options: argparse.Namespace) -> int:
    from .health import ask_server, flags_of

    try:
        given = flags_of(options.process) if options.process else {}
        health = ask_server(_configuration(given | _given_in(options)), options.url, live=options.live)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    print(health.line, file=sys.stdout if health.well else sys.stderr)
    return 0 if health.well else 1


def _systemd_unit(options: argparse.Namespace) -> int:
    configuration = _load(options)
    from .service_unit import service_unit, socket_unit

    print(
        socket_unit(configuration) if options.socket else service_unit(configuration, sys.executable), end=""
    )
    if not options.socket and sys.executable.startswith(("/home/", "/root/", "/run/user/")):
        complain(
            f"warning: the unit hides {sys.executable.split('/')[1]}, where this program lies: "
            f"{sys.executable}; install it elsewhere, such as in /opt/openred"
        )
    return 0


def _keys(options: argparse.Namespace) -> int:
    configuration = _load(options)
    from ..clock import SystemClock
    from ..security.directory_keys.root import RootRefused
    from ..storage.keys.key_files import KeyFileError
    from .directory_keys import show, sign_keyset
    from .operating import act

    now_s = SystemClock().wall_s()
    try:
        if options.action == "show":
            for line in show(configuration, os.urandom, now_s):
                print(line)
        elif options.action == "rotate":
            print(act(configuration, "/admin/keys/rotate"))
        elif options.request is None:
            needed = "the id of a key" if options.action == "revoke" else "the file keyset-request.json"
            raise ConfigError(f"keys {options.action} needs {needed}")
        elif options.action == "revoke":
            print(act(configuration, f"/admin/keys/{quote(options.request, safe='')}/revoke"))
        else:
            request, any_time = Path(options.request), options.accept_time
            print(sign_keyset(configuration, os.urandom, request, complain, now_s, any_time=any_time))
    except (KeyFileError, RootRefused) as error:
        complain(str(error))
        return 1
    return 0


def _style() -> Style:
    from .showing import Style

    return Style(*layout())


def _ask(options: argparse.Namespace) -> int:
    import uvloop

    from ..clock import SystemClock
    from .asking import Surroundings, UsageError, run

    def say(line: str) -> None:
        print(line, flush=True)

    around = Surroundings(say, complain, SystemClock(), os.urandom, _style())
    try:
        return uvloop.run(run(options, around))
    except UsageError as error:
        complain(str(error))
        return 2


def _watch(options: argparse.Namespace) -> int:
    import threading

    import orjson

    from ..client.connections import Address
    from .watching import Event, show, watch

    style = _style()

    def tell(event: Event) -> None:
        if options.json:
            print(
                orjson.dumps({"event": event.name, "id": event.id, "data": event.data}).decode(), flush=True
            )
        for line in [] if options.json else show(event, style):
            print(line, flush=True)

    try:
        Address.of(options.url)
    except ValueError as error:
        complain(f"--url: {error}")
        return 2
    # An event that never comes: a pause that Ctrl-C ends.
    pause = threading.Event().wait
    return watch(options.url, recent=options.recent, tell=tell, complain=complain, pause=pause)


def _keygen(options: argparse.Namespace) -> int:
    import orjson

    from .making import CannotMake, keygen
    from .showing import pairs

    try:
        made = keygen(options.file, options.kind, options.bits)
    except CannotMake as error:
        complain(str(error))
        return 1
    if options.json:
        print(orjson.dumps(made._asdict()).decode())
    else:
        rows = [(name.replace("_", " "), value) for name, value in made._asdict().items()]
        print(pairs(rows, _style()))
    return 0


def _example(options: argparse.Namespace) -> int:
    from ..security.signing import known_answers, sign_example

    try:
        text = known_answers() if options.what == "vectors" else sign_example(options.url, options.node_id)
        print(text, end="")
    except ValueError as error:
        complain(str(error))
        return 2
    return 0


def _completion(options: argparse.Namespace) -> int:
    from .completion import commands_of, script

    print(script(options.shell, PROGRAM, commands_of(_parser())), end="")
    return 0


def _origin(given_as: str) -> str:
    if not given_as:
        return "default"
    return f"flag {given_as}" if given_as.startswith("--") else f"environment {given_as}"


# Each command: what runs it, and what it does.
COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
    "serve": (_serve, "start the server; the default where no command is given"),
    "config": (_config, "print every setting, its value and where it comes from"),
    "health": (_health, "ask a running server whether it is ready; exit code 0 where it is, 1 where not"),
    "systemd-unit": (_systemd_unit, "print a unit with which systemd runs the server, with these settings"),
    **{name: (_maintain, meaning) for name, meaning in MEANINGS.items()},
    "keys": (_keys, "list the directory's own keys, have them changed, or sign what a server asks for"),
    **{name: (_watch if name == "watch" else _ask, meaning) for name, meaning in for_nodes.ASKING.items()},
    **{
        name: (run, for_nodes.MAKING[name])
        for name, run in (("keygen", _keygen), ("example", _example), ("completion", _completion))
    },
}

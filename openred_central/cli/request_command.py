"""A command that sends requests to a directory, and the arguments that several such commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import uvloop

from ..client import Client, ClientError, ConnectionFailed, ProblemError, RetryLater
from ..client.connections import Address
from ..exit_codes import ExitCode
from ..security.node_keys import InvalidKey
from ..security.signing import PrivateKey
from .command import JSON, URL, Argument, Command, UsageError, argument, url_of
from .console import Console, Style
from .showing import Document, safe

CLAIM_VARIABLE = "OPENRED_CLAIM"
# A person at a terminal waits at most this long without an explanation.
WAIT_S_MAX = 5.0
# A smaller difference between two clocks is not worth a warning.
CLOCK_OFF_S = 30.0
# The node id of a caller that is no node.
NOBODY = "nobody"
EXIT_CODES = (
    f"exit codes: {ExitCode.DONE:d} done, {ExitCode.FAILED:d} refused, {ExitCode.USAGE:d} wrong usage, "
    f"{ExitCode.UNREACHED:d} no answer, {ExitCode.LATER:d} try again later\n"
)


class Call(NamedTuple):
    """The call of a command. `say` prints an answer before the last one."""

    client: Client
    options: argparse.Namespace
    console: Console
    say: Callable[[Document], None]


# Sends the requests of a command, and returns the last answer.
Ask = Callable[[Call], Coroutine[Any, Any, Document]]
Show = Callable[[Document, Style], str]


async def ask_directory(ask: Ask, show: Show, options: argparse.Namespace, console: Console) -> int:
    """Send the requests of `ask`, print the answer with `show`, return the exit code. Raises `UsageError`."""

    def say(document: Document) -> None:
        console.say(orjson.dumps(document).decode() if options.json else show(document, console.style))

    async with _client(options, console) as client:
        try:
            document = await ask(Call(client, options, console, say))
        except ProblemError as refused:
            _complain(refused, options, console)
            return ExitCode.LATER if isinstance(refused, RetryLater) else ExitCode.FAILED
        except ClientError as error:
            console.complain(str(error))
            return ExitCode.UNREACHED if isinstance(error, ConnectionFailed) else ExitCode.FAILED
        finally:
            warn_of_clock(client.clock_offset_s, console)
    say(document)
    return ExitCode.DONE


def _client(options: argparse.Namespace, console: Console) -> Client:
    require_text(options)
    file = getattr(options, "key", None)
    key = None if file is None else read_key(file)
    return Client(
        directory_url(options, console),
        key,
        clock=console.clock,
        entropy=console.entropy,
        node_id=getattr(options, "node_id", None) or (None if key else NOBODY),
        claim=claim(options, console),
        wait_s_max=WAIT_S_MAX,
    )


def require_text(options: argparse.Namespace) -> None:
    """Raise `UsageError` unless all arguments but the name of a file are text.

    Python keeps bytes that are not UTF-8 as surrogates.
    """
    for name, value in vars(options).items():
        if name != "key" and isinstance(value, str) and value.encode(errors="replace").decode() != value:
            raise UsageError(f"{name.replace('_', '-')}: {value!a} holds bytes that are not UTF-8")


def directory_url(options: argparse.Namespace, console: Console) -> str:
    """Return the URL of the directory. Raises `UsageError` for a text that is none."""
    url = url_of(options, console)
    try:
        Address.of(url)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from None
    return url


def claim(options: argparse.Namespace, console: Console) -> str | None:
    """Return the claim: from the flag, the variable, or None."""
    if not hasattr(options, "claim"):
        return None
    return options.claim or console.environment.get(CLAIM_VARIABLE) or None


def read_key(path: str) -> PrivateKey:
    """Return the key in a file. Raises `UsageError`."""
    try:
        return PrivateKey.from_pem(Path(path).read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"--key: {path} does not exist; `openred-central keygen {path}` makes a key"
        ) from None
    except OSError as error:
        raise UsageError(f"--key: {path} cannot be read: {error.strerror}") from None
    except (InvalidKey, ValueError) as error:
        raise UsageError(f"--key: {path}: {error}") from None


def warn_of_clock(offset_s: float, console: Console, known_s: float = 0.0) -> float:
    """Warn if the clock of the directory is far off, unless `known_s` says so; return what is known now."""
    if abs(offset_s - known_s) <= CLOCK_OFF_S:
        return known_s
    if abs(offset_s) > CLOCK_OFF_S:
        console.complain(
            f"warning: the clock of the directory is {abs(offset_s):,.0f} s "
            f"{'ahead of' if offset_s > 0 else 'behind'} the clock of this machine; requests are signed with "
            "the time of the directory"
        )
    return offset_s


def _complain(refused: ProblemError, options: argparse.Namespace, console: Console) -> None:
    """Print why the directory refuses: as JSON, or in lines for people."""
    if options.json:
        console.say(orjson.dumps(refused.document).decode())
        return
    console.complain(f"{refused.error}: {safe(refused.message)}")
    for name, complaint in refused.fields.items():
        console.complain(f"  {safe(name)} {safe(complaint)}")
    if refused.suggestion:
        console.complain(f"  {safe(refused.suggestion)}")


def names_in(written: str) -> list[str]:
    """Return the names in a text, in which commas separate them."""
    return [name for name in written.split(",") if name]


def profile(options: argparse.Namespace) -> Document:
    """Return the fields of a node that both a registration and a heartbeat may set."""
    fields: Document = {} if options.services is None else {"services": names_in(options.services)}
    if options.metadata is not None:
        try:
            fields["metadata"] = orjson.loads(options.metadata)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"--metadata is no JSON: {error}") from None
    return fields


def given(options: argparse.Namespace, *names: str) -> Document:
    """Return the arguments of these names, name → value, that were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


KEY = argument("--key", metavar="FILE", help="private key of the node, in PEM; `keygen` makes one")
NODE_ID = argument("--node-id", metavar="ID", help="id of the node; default: k- and the id of the key")
# The node that calls, and its proof.
CALLER = (
    KEY,
    NODE_ID,
    argument(
        "--claim",
        metavar="SECRET",
        help="the claim that a node without a key got when it registered; default: "
        f"${CLAIM_VARIABLE}, which other users of this machine do not see",
    ),
)
# The arguments that `profile` reads.
PROFILE = (
    argument("--services", metavar="NAMES", help="the services it offers, separated by commas"),
    argument("--metadata", metavar="JSON", help="an object with further information for peers"),
)


def request_command(
    name: str, meaning: str, ask: Ask, show: Show, arguments: tuple[Argument, ...], examples: str
) -> Command:
    """Return a command that sends the requests of `ask` and prints the answers with `show`."""

    def run(options: argparse.Namespace, console: Console) -> int:
        return uvloop.run(ask_directory(ask, show, options, console))

    return Command(name, meaning, run, (*arguments, URL, JSON), examples, EXIT_CODES, settings=False)

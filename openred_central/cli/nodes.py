"""The commands that send a request to a directory: register, heartbeat, discover, node, stats, leave."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import orjson
import uvloop

from ..client import Client, ClientError, ConnectionFailed, ProblemError, RetryLater
from ..client.connections import Address
from ..exit_codes import ExitCode
from ..security.node_keys import InvalidKey
from ..security.signing import PrivateKey
from .command import JSON, URL, Argument, Command, UsageError, argument, url_of
from .console import Console, Style
from .showing import Document, pairs, safe, span, table

Say = Callable[[Document], None]
# The requests of a command: a function of the client, the arguments, the console, and a way to show answers
# before the last one, which it returns.
Ask = Callable[[Client, argparse.Namespace, Console, Say], Coroutine[Any, Any, Document]]
Show = Callable[[Document, Style], str]

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


async def ask_directory(ask: Ask, show: Show, options: argparse.Namespace, console: Console) -> int:
    """Let `ask` send its requests, print the answer with `show`, and return the exit code.

    Raises `UsageError`.
    """

    def say(document: Document) -> None:
        console.say(orjson.dumps(document).decode() if options.json else show(document, console.style))

    async with _client(options, console) as client:
        try:
            document = await ask(client, options, console, say)
        except ProblemError as refused:
            _complain(refused, options, console)
            return ExitCode.LATER if isinstance(refused, RetryLater) else ExitCode.FAILED
        except ConnectionFailed as error:
            console.complain(str(error))
            return ExitCode.UNREACHED
        except ClientError as error:
            console.complain(str(error))
            return ExitCode.FAILED
        finally:
            _warn_of_clock(client.clock_offset_s, console)
    say(document)
    return ExitCode.DONE


def _client(options: argparse.Namespace, console: Console) -> Client:
    for name, value in vars(options).items():
        # The name of a file may have any bytes.
        if name != "key" and isinstance(value, str) and not _is_text(value):
            raise UsageError(f"{name.replace('_', '-')}: {value!a} holds bytes that are not UTF-8")
    file = getattr(options, "key", None)
    key = None if file is None else read_key(file)
    url = url_of(options, console)
    try:
        Address.of(url)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from None
    return Client(
        url,
        key,
        clock=console.clock,
        entropy=console.entropy,
        node_id=getattr(options, "node_id", None) or (None if key else NOBODY),
        claim=_claim(options, console),
        wait_s_max=WAIT_S_MAX,
    )


def _claim(options: argparse.Namespace, console: Console) -> str | None:
    if not hasattr(options, "claim"):
        return None
    return options.claim or console.environment.get(CLAIM_VARIABLE) or None


def _is_text(value: str) -> bool:
    """Return whether an argument was UTF-8: Python keeps other bytes as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


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


def _warn_of_clock(offset_s: float, console: Console) -> None:
    if abs(offset_s) > CLOCK_OFF_S:
        console.complain(
            f"warning: the clock of the directory is {abs(offset_s):,.0f} s "
            f"{'ahead of' if offset_s > 0 else 'behind'} the clock of this machine; requests are signed with "
            "the time of the directory"
        )


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


def _names(written: str) -> list[str]:
    return [name for name in written.split(",") if name]


def _profile(options: argparse.Namespace) -> Document:
    """Return the fields of a node that both a registration and a heartbeat may set."""
    profile: Document = {}
    if options.services is not None:
        profile["services"] = _names(options.services)
    if options.metadata is not None:
        try:
            profile["metadata"] = orjson.loads(options.metadata)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"--metadata is no JSON: {error}") from None
    return profile


def _given(options: argparse.Namespace, *names: str) -> Document:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _rows(document: Document, names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(shown, safe(document.get(name))) for shown, name in names]


def _next(document: Document) -> list[tuple[str, str]]:
    due = safe(document.get("next_heartbeat_due"))
    return [("heartbeat due", due), ("advised", f"every {span(document.get('heartbeat_advice_s'))}")]


def _message(document: Document) -> list[tuple[str, str]]:
    return [("says", safe(document["message"]))] if document.get("message") else []


def _objects(value: object) -> list[Document]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


KEY = argument("--key", metavar="FILE", help="private key of the node, in PEM; `keygen` makes one")
NODE_ID = argument("--node-id", metavar="ID", help="id of the node; default: k- and the id of the key")
CLAIM = argument(
    "--claim",
    metavar="SECRET",
    help="the claim that a node without a key got when it registered; default: "
    f"${CLAIM_VARIABLE}, which other users of this machine do not see",
)
SERVICES = argument("--services", metavar="NAMES", help="the services it offers, separated by commas")
METADATA = argument("--metadata", metavar="JSON", help="an object with further information for peers")


def _command(
    name: str, meaning: str, ask: Ask, show: Show, arguments: tuple[Argument, ...], examples: str
) -> Command:
    def run(options: argparse.Namespace, console: Console) -> int:
        return uvloop.run(ask_directory(ask, show, options, console))

    return Command(name, meaning, run, (*arguments, URL, JSON), examples, EXIT_CODES, settings=False)


async def _register(client: Client, options: argparse.Namespace, console: Console, say: Say) -> Document:
    further = _given(options, "region", "away_until", "next_key")
    if options.hidden:
        further["discoverable"] = False
    return await client.register(options.address, options.port, **_profile(options), **further)


def registered(document: Document, style: Style) -> str:
    """Show the answer to a registration."""
    names = [("node", "node_id"), ("state", "state"), ("identity", "identity"), ("durable", "durable")]
    return pairs([*_rows(document, names), *_next(document), *_message(document)], style)


REGISTER = _command(
    "register",
    "register a node, or update or revive it",
    _register,
    registered,
    (
        argument("address", metavar="ADDRESS", help="IPv4, IPv6 or DNS name at which peers reach the node"),
        argument("port", metavar="PORT", type=int, help="port at that address"),
        argument(*KEY.names, **KEY.options, required=True),
        NODE_ID,
        SERVICES,
        METADATA,
        argument("--region", metavar="NAME", help="region of the node"),
        argument("--hidden", action="store_true", help="hide the node from discovery"),
        argument("--away-until", metavar="TIME", help="announce an absence until then (RFC 3339)"),
        argument(
            "--next-key", metavar="KEY_ID", help="id of the key that may replace this one if it is lost"
        ),
    ),
    """\
  openred-central register 192.0.2.1 7000 --key node.pem --services storage,relay
  openred-central register node.example 7000 --key node.pem --node-id alice --metadata '{"version": 3}'
""",
)


async def _heartbeat(client: Client, options: argparse.Namespace, console: Console, say: Say) -> Document:
    if options.key is None and not options.node_id:
        raise UsageError("name the node by --key or --node-id")
    changes = {**_profile(options), **_given(options, "address", "port")}
    if not options.keep_alive:
        return await client.heartbeat(**changes)
    if changes:
        say(await client.heartbeat(**changes))
    known_offset_s = 0.0

    def report(result: Document | ClientError) -> None:
        nonlocal known_offset_s
        if abs(client.clock_offset_s - known_offset_s) > CLOCK_OFF_S:
            known_offset_s = client.clock_offset_s
            _warn_of_clock(known_offset_s, console)
        if isinstance(result, ClientError):
            console.complain(str(result))
        else:
            say(result)

    await client.keep_alive(report)
    raise AssertionError("heartbeats go on until they are cancelled")


def heard(document: Document, style: Style) -> str:
    """Show the answer to a heartbeat."""
    names = [("node", "node_id"), ("state", "current_state"), ("before", "previous_state")]
    return pairs([*_rows(document, names), *_next(document), *_message(document)], style)


HEARTBEAT = _command(
    "heartbeat",
    "send a heartbeat of a node, once or regularly",
    _heartbeat,
    heard,
    (
        KEY,
        NODE_ID,
        CLAIM,
        SERVICES,
        METADATA,
        argument("--address", metavar="ADDRESS", help="new address of the node"),
        argument("--port", metavar="PORT", type=int, help="new port of the node"),
        argument(
            "--keep-alive",
            action="store_true",
            help="go on at the pace that the directory advises, until Ctrl-C",
        ),
    ),
    """\
  openred-central heartbeat --key node.pem
  openred-central heartbeat --key node.pem --keep-alive
  openred-central heartbeat --node-id alice --claim or3c... --port 9001
  openred-central heartbeat --key node.pem --services storage --url https://directory.example
""",
)


async def _discover(client: Client, options: argparse.Namespace, console: Console, say: Say) -> Document:
    filters = _given(options, "region", "near", "states", "exclude_states", "min_last_seen")
    if options.services is not None and not options.services.strip(","):
        raise UsageError("SERVICES is empty; leave it out to find nodes with any services")
    return await client.discover(_names(options.services or ""), max_results=options.max_results, **filters)


def discovered(document: Document, style: Style) -> str:
    """Show the answer to a discovery: a row for each node."""
    names = (
        *("node_id", "state", "availability", "address", "port"),
        *("services", "region", "last_seen"),
    )
    headings = ["node" if name == "node_id" else name.replace("_", " ") for name in names]
    rows = [[safe(node.get(name)) for name in names] for node in _objects(document.get("nodes"))]
    lines = [table(headings, rows, style)] if rows or not style.terminal else []
    if style.terminal:
        matching = f"of {safe(document.get('total_found'))} that match"
        lines.append(f"{len(rows)} {'others; no node matches' if document.get('degraded') else matching}")
    return "\n".join(lines)


DISCOVER = _command(
    "discover",
    "find nodes by the services that they offer",
    _discover,
    discovered,
    (
        argument("services", metavar="SERVICES", nargs="?", help="the services that a node must offer, all"),
        argument("--max-results", metavar="COUNT", type=int, help="limit of nodes; default: 50"),
        argument("--region", metavar="NAME", help="only nodes of this region"),
        argument("--near", metavar="NAME", help="prefer nodes of this region"),
        argument("--states", metavar="NAMES", help="only nodes in these states, such as active"),
        argument("--exclude-states", metavar="NAMES", help="no nodes in these states; default: coma,dead"),
        argument("--min-last-seen", metavar="TIME", help="only nodes seen since then (RFC 3339)"),
    ),
    """\
  openred-central discover storage,relay --near eu
  openred-central discover storage --json | jq -r '.nodes[].address'
""",
)


async def _node(client: Client, options: argparse.Namespace, console: Console, say: Say) -> Document:
    if not options.node and options.key is None and not options.node_id:
        raise UsageError("name the node, by its id or by --key")
    return await client.node(options.node)


def explained(document: Document, style: Style) -> str:
    """Show a node with its past and future transitions."""
    story = document.get("explain")
    story = story if isinstance(story, dict) else {}
    names = [
        *(("node", "node_id"), ("state", "state"), ("address", "address"), ("port", "port")),
        *(("services", "services"), ("region", "region"), ("identity", "identity")),
        *(("key", "public_key_fingerprint"), ("registered", "registered_at"), ("last seen", "last_seen")),
        *(("away until", "away_until"), ("metadata", "metadata")),
    ]
    why = [("why", "why"), ("what to do", "what_to_do")]
    ahead = [
        [f"if silent: {safe(row.get('state'))}", safe(row.get("at")), span(row.get("in_s"))]
        for row in _objects(story.get("deadlines"))
    ]
    past = [
        [f"{safe(row.get('from'))} to {safe(row.get('to'))}", safe(row.get("at")), safe(row.get("reason"))]
        for row in _objects(story.get("history"))
    ]
    return "\n".join(
        [
            pairs([*_rows(document, names), *_rows(story, why)], style),
            *_section("ahead", ("then", "at", "in"), ahead, style),
            *_section("so far", ("change", "at", "reason"), past, style),
        ]
    )


def _section(name: str, headings: tuple[str, ...], rows: list[list[str]], style: Style) -> list[str]:
    """Return a table with a line before it; in a pipe, lines that begin with the name."""
    if not style.terminal:
        return ["\t".join([name, *row]) for row in rows]
    return [f"\n{name}", table(headings, rows, style)] if rows else []


NODE = _command(
    "node",
    "explain a node: why it is in its state, and what lies ahead",
    _node,
    explained,
    (
        argument("node", metavar="NODE_ID", nargs="?", help="id of the node; default: that of the key"),
        KEY,
        NODE_ID,
        CLAIM,
    ),
    """\
  openred-central node alice
  openred-central node --key node.pem
""",
)


async def _stats(client: Client, options: argparse.Namespace, console: Console, say: Say) -> Document:
    return await client.stats()


def figures(document: Document, style: Style) -> str:
    """Show the figures of a directory, a line for each, named by its path in the document."""
    return pairs(list(_flat("", document)), style)


def _flat(path: str, value: object) -> Iterable[tuple[str, str]]:
    """Yield the path and the text of each value in a document."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{path}.{safe(name)}" if path else safe(name), inner)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, inner in enumerate(value):
            yield from _flat(f"{path}.{number}", inner)
    else:
        yield path, safe(value)


STATS = _command(
    "stats",
    "print the figures of a directory",
    _stats,
    figures,
    (),
    """\
  openred-central stats --url https://directory.example
""",
)


async def _leave(client: Client, options: argparse.Namespace, console: Console, say: Say) -> Document:
    if options.key is None and not (options.node_id and _claim(options, console)):
        raise UsageError("name the node by --key, or by --node-id and --claim")
    return await (client.forget() if options.forget else client.leave())


def left(document: Document, style: Style) -> str:
    """Show the answer to a departure."""
    names = [("node", "node_id"), ("status", "status"), ("state", "state"), ("durable", "durable")]
    return pairs([*_rows(document, names), *_message(document)], style)


LEAVE = _command(
    "leave",
    "hide a node until its next heartbeat, or erase it",
    _leave,
    left,
    (
        KEY,
        NODE_ID,
        CLAIM,
        argument("--forget", action="store_true", help="erase the node, instead of hiding it"),
    ),
    """\
  openred-central leave --key node.pem
  openred-central leave --key node.pem --forget
""",
)

COMMANDS = (REGISTER, HEARTBEAT, DISCOVER, NODE, STATS, LEAVE)

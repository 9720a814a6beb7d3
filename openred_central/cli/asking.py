"""The commands that speak to a directory, from their arguments to their exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ..client import Client, ClientError, ConnectionFailed, ProblemError, RetryLater
from ..client.connections import Address
from ..clock import Clock
from ..security.node_keys import InvalidKey
from ..security.signing import PrivateKey
from . import showing
from .showing import Document, Style

DONE, REFUSED, UNREACHED, LATER = 0, 1, 3, 4
# Nobody sits before a terminal longer than this without knowing why.
WAIT_S_MAX = 5.0
# A clock that is off by less harms nobody.
CLOCK_OFF_S = 30.0
# A name for those who only ask.
NOBODY = "nobody"


class UsageError(Exception):
    """The arguments cannot be used as they are; the message says why, in one line."""


class Surroundings(NamedTuple):
    """What a command is given by its process.

    `say` prints a line, `complain` prints one where errors go; `entropy` gives random bytes.
    """

    say: Callable[[str], None]
    complain: Callable[[str], None]
    clock: Clock
    entropy: Callable[[int], bytes]
    style: Style


async def run(options: argparse.Namespace, around: Surroundings) -> int:
    """Run the command in `options` and return its exit code. Raises `UsageError`."""
    for name, value in vars(options).items():
        # The name of a file may be any bytes.
        if name != "key" and isinstance(value, str) and not _is_text(value):
            raise UsageError(f"{name.replace('_', '-')}: {value!a} holds bytes that are not UTF-8")
    key = read_key(options.key) if getattr(options, "key", None) else None
    node_id = getattr(options, "node_id", None)
    try:
        Address.of(options.url)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from None
    client = Client(
        options.url,
        key,
        clock=around.clock,
        entropy=around.entropy,
        node_id=node_id or (None if key else NOBODY),
        claim=getattr(options, "claim", None),
        wait_s_max=WAIT_S_MAX,
    )
    async with client:
        try:
            document = await _COMMANDS[options.command](client, options, around)
        except ProblemError as refused:
            _complain(refused, options, around)
            return LATER if isinstance(refused, RetryLater) else REFUSED
        except ConnectionFailed as error:
            around.complain(str(error))
            return UNREACHED
        except ClientError as error:
            around.complain(str(error))
            return REFUSED
        finally:
            _tell_of_clock(client.clock_offset_s, around)
    _say(document, options, around)
    return DONE


def _is_text(value: str) -> bool:
    """Whether an argument was UTF-8: Python keeps other bytes as halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_key(path: str) -> PrivateKey:
    """The key in a file. Raises `UsageError`."""
    try:
        return PrivateKey.from_pem(Path(path).read_bytes())
    except FileNotFoundError:
        raise UsageError(f"--key: there is no {path}; `openred-central keygen {path}` makes one") from None
    except OSError as error:
        raise UsageError(f"--key: {path} cannot be read: {error.strerror}") from None
    except (InvalidKey, ValueError) as error:
        raise UsageError(f"--key: {path}: {error}") from None


async def _register(client: Client, options: argparse.Namespace, around: Surroundings) -> Document:
    further: Document = {"discoverable": False} if options.hidden else {}
    for name in ("region", "away_until", "next_key"):
        if (value := getattr(options, name)) is not None:
            further[name] = value
    return await client.register(options.address, options.port, **_profile(options), **further)


async def _heartbeat(client: Client, options: argparse.Namespace, around: Surroundings) -> Document:
    if options.key is None and options.node_id is None:
        raise UsageError("name the node by --key or --node-id")
    changes = _profile(options)
    for name in ("address", "port"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    if not options.keep_alive:
        return await client.heartbeat(**changes)
    if changes:
        _say(await client.heartbeat(**changes), options, around)

    known_offset_s = 0.0

    def tell(told: Document | ClientError) -> None:
        nonlocal known_offset_s
        if abs(client.clock_offset_s - known_offset_s) > CLOCK_OFF_S:
            known_offset_s = client.clock_offset_s
            _tell_of_clock(known_offset_s, around)
        if isinstance(told, ClientError):
            around.complain(str(told))
        else:
            _say(told, options, around)

    await client.keep_alive(tell)
    raise AssertionError("it beats until it is cancelled")


async def _discover(client: Client, options: argparse.Namespace, around: Surroundings) -> Document:
    names = ("region", "near", "states", "exclude_states", "min_last_seen")
    filters = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.services is not None and not options.services.strip(","):
        raise UsageError("SERVICES is empty; leave it out to find nodes whatever they offer")
    services = [name for name in (options.services or "").split(",") if name]
    return await client.discover(services, max_results=options.max_results, **filters)


async def _node(client: Client, options: argparse.Namespace, around: Surroundings) -> Document:
    if options.node is None and options.key is None and options.node_id is None:
        raise UsageError("name the node, by its id or by --key")
    return await client.node(options.node)


async def _stats(client: Client, options: argparse.Namespace, around: Surroundings) -> Document:
    return await client.stats()


async def _leave(client: Client, options: argparse.Namespace, around: Surroundings) -> Document:
    if options.key is None and (options.node_id is None or options.claim is None):
        raise UsageError("name the node by --key, or by --node-id and --claim")
    return await (client.forget() if options.forget else client.leave())


def _tell_of_clock(offset_s: float, around: Surroundings) -> None:
    """Tell that requests are signed by the directory's clock, where ours is off."""
    if abs(offset_s) > CLOCK_OFF_S:
        around.complain(
            f"warning: the directory says that its clock is {abs(offset_s):,.0f} s "
            f"{'ahead of' if offset_s > 0 else 'behind'} this machine's; requests are signed by its time"
        )


def _profile(options: argparse.Namespace) -> Document:
    """The fields of a node that both a registration and a heartbeat may say."""
    said: Document = {}
    if options.services is not None:
        said["services"] = [name for name in options.services.split(",") if name]
    if options.metadata is not None:
        try:
            said["metadata"] = orjson.loads(options.metadata)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"--metadata is no JSON: {error}") from None
    return said


def _say(document: Document, options: argparse.Namespace, around: Surroundings) -> None:
    if options.json:
        around.say(orjson.dumps(document).decode())
    else:
        around.say(_SHOWN[options.command](document, around.style))


def _complain(refused: ProblemError, options: argparse.Namespace, around: Surroundings) -> None:
    """Tell people why they are refused, and programs the same as JSON."""
    if options.json:
        around.say(orjson.dumps(refused.document).decode())
        return
    around.complain(f"{refused.error}: {showing.safe(refused.message)}")
    for name, complaint in refused.fields.items():
        around.complain(f"  {showing.safe(name)} {showing.safe(complaint)}")
    if refused.suggestion:
        around.complain(f"  {showing.safe(refused.suggestion)}")


_COMMANDS: dict[str, Callable[[Client, argparse.Namespace, Surroundings], Coroutine[Any, Any, Document]]] = {
    "register": _register,
    "heartbeat": _heartbeat,
    "discover": _discover,
    "node": _node,
    "stats": _stats,
    "leave": _leave,
}
_SHOWN: dict[str, Callable[[Document, Style], str]] = {
    "register": showing.registered,
    "heartbeat": showing.heard,
    "discover": showing.discovered,
    "node": showing.explained,
    "stats": showing.figures,
    "leave": showing.left,
}

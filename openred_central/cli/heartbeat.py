"""`heartbeat`: send a heartbeat of a node, once or regularly."""

from __future__ import annotations

from ..client import ClientError
from .command import UsageError, argument
from .console import Style
from .request_command import CALLER, PROFILE, Call, given, profile, request_command, warn_of_clock
from .showing import Document, fields, message, next_heartbeat, pairs


async def ask(call: Call) -> Document:
    """Send a heartbeat, or go on until Ctrl-C."""
    if call.options.key is None and not call.options.node_id:
        raise UsageError("name the node by --key or --node-id")
    changes = {**profile(call.options), **given(call.options, "address", "port")}
    if not call.options.keep_alive:
        return await call.client.heartbeat(**changes)
    if changes:
        call.say(await call.client.heartbeat(**changes))
    known_offset_s = 0.0

    def report(result: Document | ClientError) -> None:
        nonlocal known_offset_s
        known_offset_s = warn_of_clock(call.client.clock_offset_s, call.console, known_offset_s)
        if isinstance(result, ClientError):
            call.console.complain(str(result))
        else:
            call.say(result)

    await call.client.keep_alive(report)
    raise AssertionError("heartbeats go on until they are cancelled")


def show(document: Document, style: Style) -> str:
    """Show the answer to a heartbeat."""
    names = [("node", "node_id"), ("state", "current_state"), ("before", "previous_state")]
    return pairs([*fields(document, names), *next_heartbeat(document), *message(document)], style)


COMMAND = request_command(
    "heartbeat",
    "send a heartbeat of a node, once or regularly",
    ask,
    show,
    (
        *CALLER,
        *PROFILE,
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

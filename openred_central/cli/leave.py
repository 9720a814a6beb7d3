"""`leave`: hide a node until its next heartbeat, or erase it."""

from __future__ import annotations

from .command import UsageError, argument
from .console import Style
from .request_command import CALLER, Call, claim, request_command
from .showing import Document, fields, message, pairs


async def ask(call: Call) -> Document:
    """Hide or erase the node."""
    if call.options.key is None and not (call.options.node_id and claim(call.options, call.console)):
        raise UsageError("name the node by --key, or by --node-id and --claim")
    return await (call.client.forget() if call.options.forget else call.client.leave())


def show(document: Document, style: Style) -> str:
    """Show the answer to a departure."""
    names = [("node", "node_id"), ("status", "status"), ("state", "state"), ("durable", "durable")]
    return pairs([*fields(document, names), *message(document)], style)


COMMAND = request_command(
    "leave",
    "hide a node until its next heartbeat, or erase it",
    ask,
    show,
    (*CALLER, argument("--forget", action="store_true", help="erase the node, instead of hiding it")),
    """\
  openred-central leave --key node.pem
  openred-central leave --key node.pem --forget
""",
)

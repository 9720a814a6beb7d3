"""`register`: register a node, or update or revive it."""

from __future__ import annotations

from .command import argument
from .console import Style
from .request_command import KEY, NODE_ID, PROFILE, Call, given, profile, request_command
from .showing import Document, fields, message, next_heartbeat, pairs


async def ask(call: Call) -> Document:
    """Register the node, or update or revive it."""
    further = given(call.options, "region", "away_until", "next_key")
    if call.options.hidden:
        further["discoverable"] = False
    if call.options.no_habits:
        further["habits"] = False
    return await call.client.register(
        call.options.address, call.options.port, **profile(call.options), **further
    )


def show(document: Document, style: Style) -> str:
    """Show the answer to a registration."""
    names = [("node", "node_id"), ("state", "state"), ("identity", "identity"), ("durable", "durable")]
    return pairs([*fields(document, names), *next_heartbeat(document), *message(document)], style)


COMMAND = request_command(
    "register",
    "register a node, or update or revive it",
    ask,
    show,
    (
        argument("address", metavar="ADDRESS", help="IPv4, IPv6 or DNS name at which peers reach the node"),
        argument("port", metavar="PORT", type=int, help="port at that address"),
        argument(*KEY.names, **KEY.options, required=True),
        NODE_ID,
        *PROFILE,
        argument("--region", metavar="NAME", help="region of the node"),
        argument("--hidden", action="store_true", help="hide the node from discovery"),
        argument("--no-habits", action="store_true", help="let the directory remember no habits of the node"),
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

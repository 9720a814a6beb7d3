"""`node`: explain a node: why it is in its state, what is expected of it, and what lies ahead."""

from __future__ import annotations

from .command import UsageError, argument
from .console import Style
from .request_command import CALLER, Call, request_command
from .showing import Document, fields, objects, pairs, safe, span, table


async def ask(call: Call) -> Document:
    """Get the node with its past and future."""
    if not call.options.node and call.options.key is None and not call.options.node_id:
        raise UsageError("name the node, by its id or by --key")
    return await call.client.node(call.options.node)


def show(document: Document, style: Style) -> str:
    """Show a node with its past and future transitions."""
    story = document.get("explain")
    story = story if isinstance(story, dict) else {}
    forecast = document.get("forecast")
    forecast = forecast if isinstance(forecast, dict) else {}
    names = [
        *(("node", "node_id"), ("state", "state"), ("address", "address"), ("port", "port")),
        *(("services", "services"), ("region", "region"), ("identity", "identity")),
        *(("key", "public_key_fingerprint"), ("registered", "registered_at"), ("last seen", "last_seen")),
        *(("away until", "away_until"), ("metadata", "metadata")),
    ]
    why = [("why", "why"), ("what to do", "what_to_do")]
    # A directory that keeps no habits expects nothing.
    expected = [("expected", "words")] if forecast else []
    ahead = [
        [f"if silent: {safe(row.get('state'))}", safe(row.get("at")), span(row.get("in_s"))]
        for row in objects(story.get("deadlines"))
    ]
    past = [
        [f"{safe(row.get('from'))} to {safe(row.get('to'))}", safe(row.get("at")), safe(row.get("reason"))]
        for row in objects(story.get("history"))
    ]
    return "\n".join(
        [
            pairs([*fields(document, names), *fields(story, why), *fields(forecast, expected)], style),
            *_section("ahead", ("then", "at", "in"), ahead, style),
            *_section("so far", ("change", "at", "reason"), past, style),
        ]
    )


def _section(name: str, headings: tuple[str, ...], rows: list[list[str]], style: Style) -> list[str]:
    """Return a table with a line before it; in a pipe, lines that begin with the name."""
    if not style.terminal:
        return ["\t".join([name, *row]) for row in rows]
    return [f"\n{name}", table(headings, rows, style)] if rows else []


COMMAND = request_command(
    "node",
    "explain a node: why it is in its state, what is expected of it, and what lies ahead",
    ask,
    show,
    (
        argument("node", metavar="NODE_ID", nargs="?", help="id of the node; default: that of the key"),
        *CALLER,
    ),
    """\
  openred-central node alice
  openred-central node --key node.pem
""",
)

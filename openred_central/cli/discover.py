"""`discover`: find nodes by the services that they offer."""

from __future__ import annotations

from .command import UsageError, argument
from .console import Style
from .request_command import Call, given, names_in, request_command
from .showing import Document, objects, safe, table


async def ask(call: Call) -> Document:
    """Find the nodes that match."""
    names = ("max_results", "region", "near", "states", "exclude_states", "min_last_seen", "min_availability")
    if call.options.services is not None and not call.options.services.strip(","):
        raise UsageError("SERVICES is empty; leave it out to find nodes with any services")
    return await call.client.discover(names_in(call.options.services or ""), **given(call.options, *names))


def show(document: Document, style: Style) -> str:
    """Show the answer to a discovery: a row for each node."""
    names = (*("node_id", "state", "availability", "address", "port"), *("services", "region", "last_seen"))
    headings = ["node" if name == "node_id" else name.replace("_", " ") for name in names]
    rows = [[safe(node.get(name)) for name in names] for node in objects(document.get("nodes"))]
    lines = [table(headings, rows, style)] if rows or not style.terminal else []
    if style.terminal:
        matching = f"of {safe(document.get('total_found'))} that match"
        lines.append(f"{len(rows)} {'others; no node matches' if document.get('degraded') else matching}")
    return "\n".join(lines)


COMMAND = request_command(
    "discover",
    "find nodes by the services that they offer",
    ask,
    show,
    (
        argument("services", metavar="SERVICES", nargs="?", help="the services that a node must offer, all"),
        argument("--max-results", metavar="COUNT", type=int, help="limit of nodes; default: 50"),
        argument("--region", metavar="NAME", help="only nodes of this region"),
        argument("--near", metavar="NAME", help="prefer nodes of this region"),
        argument("--states", metavar="NAMES", help="only nodes in these states, such as active"),
        argument("--exclude-states", metavar="NAMES", help="no nodes in these states; default: coma,dead"),
        argument("--min-last-seen", metavar="TIME", help="only nodes seen since then (RFC 3339)"),
        argument(
            "--min-availability", metavar="SHARE", help="only nodes that answer with this chance, 0 to 1"
        ),
    ),
    """\
  openred-central discover storage,relay --near eu
  openred-central discover storage --json | jq -r '.nodes[].address'
""",
)

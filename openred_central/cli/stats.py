"""`stats`: print the figures of a directory."""

from __future__ import annotations

from collections.abc import Iterable

from .console import Style
from .request_command import Call, request_command
from .showing import Document, pairs, safe


async def ask(call: Call) -> Document:
    """Get the figures."""
    return await call.client.stats()


def show(document: Document, style: Style) -> str:
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


COMMAND = request_command(
    "stats",
    "print the figures of a directory",
    ask,
    show,
    (),
    "  openred-central stats --url https://directory.example\n",
)

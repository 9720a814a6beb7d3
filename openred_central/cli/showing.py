"""What a directory answers, for people: tables and colour on a terminal, lines with tabs in a pipe. Pure.

What other nodes say of themselves is shown so that it cannot take hold of a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from .. import wording

Document = dict[str, Any]

_GREEN, _YELLOW, _RED, _GREY = "32", "33", "31", "90"
_COLOURS = {"active": _GREEN, "coma": _GREY, "absent": _GREY, "dead": _RED}


class Style(NamedTuple):
    """Whether to lay out for people, and whether in colour."""

    terminal: bool = False
    colour: bool = False


def registered(document: Document, style: Style) -> str:
    """The answer to a registration."""
    rows = [("node", "node_id"), ("state", "state"), ("identity", "identity"), ("durable", "durable")]
    return pairs([*_named(document, rows), *_next(document), *_message(document)], style)


def heard(document: Document, style: Style) -> str:
    """The answer to a heartbeat."""
    rows = [("node", "node_id"), ("state", "current_state"), ("before", "previous_state")]
    return pairs([*_named(document, rows), *_next(document), *_message(document)], style)


def left(document: Document, style: Style) -> str:
    """The answer to a departure."""
    rows = [("node", "node_id"), ("status", "status"), ("state", "state"), ("durable", "durable")]
    return pairs([*_named(document, rows), *_message(document)], style)


def discovered(document: Document, style: Style) -> str:
    """The answer to a discovery: a row for each node."""
    headings = ("node", "state", "availability", "address", "port", "services", "region", "last seen")
    rows = [
        [
            safe(node.get(name))
            for name in (
                *("node_id", "state", "availability", "address", "port"),
                *("services", "region", "last_seen"),
            )
        ]
        for node in _objects(document.get("nodes"))
    ]
    lines = [table(headings, rows, style)] if rows or not style.terminal else []
    if style.terminal:
        count = f"{len(rows)} of {safe(document.get('total_found'))} that match"
        degraded = "; nobody healthy does, these are the best of the rest" if document.get("degraded") else ""
        lines.append(f"{count}{degraded}")
    return "\n".join(lines)


def explained(document: Document, style: Style) -> str:
    """One node, with the story of its life so far and ahead."""
    story = document.get("explain")
    story = story if isinstance(story, dict) else {}
    rows = [
        *(("node", "node_id"), ("state", "state"), ("address", "address"), ("port", "port")),
        *(("services", "services"), ("region", "region"), ("identity", "identity")),
        *(("key", "public_key_fingerprint"), ("registered", "registered_at"), ("last seen", "last_seen")),
        *(("away until", "away_until"), ("metadata", "metadata")),
    ]
    shown = pairs(
        [
            *_named(document, rows),
            ("why", safe(story.get("why"))),
            ("what to do", safe(story.get("what_to_do"))),
        ],
        style,
    )
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
            shown,
            *_section("ahead", ("then", "at", "in"), ahead, style),
            *_section("so far", ("change", "at", "reason"), past, style),
        ]
    )


def figures(document: Document, style: Style) -> str:
    """The figures of a directory, a line for each, named by the path to it."""
    return pairs(list(_flat("", document)), style)


def pairs(rows: Sequence[tuple[str, str]], style: Style) -> str:
    """Names and values, a line for each."""
    if not style.terminal:
        return "\n".join(f"{name}\t{value}" for name, value in rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:{width}}  {coloured(value, style)}" for name, value in rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], style: Style) -> str:
    """Rows of cells under their headings."""
    lines = [headings, *rows]
    if not style.terminal:
        return "\n".join("\t".join(line) for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for number, line in enumerate(lines):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        cells = [name.upper() for name in padded] if number == 0 else [coloured(c, style) for c in padded]
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)


def safe(value: object) -> str:
    """A value on one line, with nothing that a terminal or a table would take for more than text."""
    if value is None or value == "" or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = orjson.dumps(value).decode()
    if isinstance(value, list):
        value = ",".join(str(item) for item in value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def span(seconds: object) -> str:
    """A duration for people, in its two largest units."""
    if not isinstance(seconds, int | float):
        return "-"
    whole_s = round(seconds)
    return wording.span(whole_s) if whole_s > 0 else "now"


def _section(name: str, headings: Sequence[str], rows: list[list[str]], style: Style) -> list[str]:
    """A table with a line before it; in a pipe, lines that begin with the name."""
    if not style.terminal:
        return ["\t".join([name, *row]) for row in rows]
    return [f"\n{name}", table(headings, rows, style)] if rows else []


def _named(document: Document, rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(shown, safe(document.get(name))) for shown, name in rows]


def _next(document: Document) -> list[tuple[str, str]]:
    rows = [("heartbeat due", safe(document.get("next_heartbeat_due")))]
    return [*rows, ("advised", f"every {span(document.get('heartbeat_advice_s'))}")]


def _message(document: Document) -> list[tuple[str, str]]:
    return [("says", safe(document["message"]))] if document.get("message") else []


def _objects(value: object) -> list[Document]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _flat(path: str, value: object) -> Iterator[tuple[str, str]]:
    """The single values in a document, with the names that lead to them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{path}.{safe(name)}" if path else safe(name), inner)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, inner in enumerate(value):
            yield from _flat(f"{path}.{number}", inner)
    else:
        yield path, safe(value)


def coloured(cell: str, style: Style) -> str:
    """The cell, in the colour of the state that it names."""
    state = cell.strip()
    if not style.colour or not state:
        return cell
    colour = _COLOURS.get(state)
    if colour is None and state.startswith(("pending_", "failed_", "retry_")):
        colour = _YELLOW
    return cell if colour is None else f"\x1b[{colour}m{cell}\x1b[0m"

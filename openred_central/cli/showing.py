"""Show answers to people: tables and colour on a terminal, lines with tabs in a pipe. Pure.

Text of nodes is escaped, so that it cannot control a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from .. import wording
from .console import Style

Document = dict[str, Any]

_GREEN, _YELLOW, _RED, _GREY = "32", "33", "31", "90"
_COLOURS = {"active": _GREEN, "coma": _GREY, "absent": _GREY, "dead": _RED}


def pairs(rows: Sequence[tuple[str, str]], style: Style) -> str:
    """Show names and values, a line for each."""
    if not style.terminal:
        return "\n".join(f"{name}\t{value}" for name, value in rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:{width}}  {coloured(value, style)}" for name, value in rows)


def fields(document: Document, names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return rows for `pairs`; `names` has a heading and a field of the document for each."""
    return [(shown, safe(document.get(name))) for shown, name in names]


def next_heartbeat(document: Document) -> list[tuple[str, str]]:
    """Return rows for `pairs` with the time of the next heartbeat."""
    due = safe(document.get("next_heartbeat_due"))
    return [("heartbeat due", due), ("advised", f"every {span(document.get('heartbeat_advice_s'))}")]


def message(document: Document) -> list[tuple[str, str]]:
    """Return a row for `pairs` if there is a message, else none."""
    return [("says", safe(document["message"]))] if document.get("message") else []


def objects(value: object) -> list[Document]:
    """Return the objects in a value that should be a list of them."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], style: Style) -> str:
    """Show rows of cells under their headings."""
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
    """Return a value as one line without characters that control a terminal or break a table."""
    if value is None or value == "" or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = orjson.dumps(value).decode()
    if isinstance(value, list):
        value = ",".join(str(item) for item in value)
    return wording.printable(str(value))


def span(seconds: object) -> str:
    """Return a duration for people, in its two largest units."""
    if not isinstance(seconds, int | float):
        return "-"
    whole_s = round(seconds)
    return wording.span(whole_s) if whole_s > 0 else "now"


def coloured(cell: str, style: Style) -> str:
    """Return the cell in the colour of the state that it names."""
    state = cell.strip()
    if not style.colour or not state:
        return cell
    colour = _COLOURS.get(state)
    if colour is None and state.startswith(("pending_", "failed_", "retry_")):
        colour = _YELLOW
    return cell if colour is None else f"\x1b[{colour}m{cell}\x1b[0m"

"""Tables and numbers as text for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "-≤≥" or cell == ""


def aligned(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are as wide as their widest cell, with numbers aligned right."""
    lines = [heading, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    right = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(heading))]

    def shown(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join(map(shown, lines)) + "\n"


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with pipes in cells escaped."""
    right = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(heading))]

    def shown(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    ruler = "|" + "|".join("---:" if to_right else "---" for to_right in right) + "|"
    return "\n".join([shown(heading), ruler, *map(shown, rows)]) + "\n"


def short(value: float) -> str:
    """Return a number with three significant digits, or as a whole number with separators from 100 on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"

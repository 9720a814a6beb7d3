"""Tables as text for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "-≤≥" or cell == ""


def aligned(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers stand to the right. Ends with a newline."""
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
    """A table in Markdown; pipes in cells are escaped. Ends with a newline."""
    right = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(heading))]

    def shown(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    ruler = "|" + "|".join("---:" if to_right else "---" for to_right in right) + "|"
    return "\n".join([shown(heading), ruler, *map(shown, rows)]) + "\n"

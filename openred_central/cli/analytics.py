"""`analytics`: print the years of a directory, as tables with bars, as CSV, or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..wording import rfc3339
from .command import UsageError, argument
from .console import Style
from .request_command import Call, request_command
from .showing import Document, objects, safe, table

TABLES: Final = ("days", "flows", "services", "cohorts", "returns", "calibration")
DAYS_DEFAULT: Final = 30
_DATED: Final = ("days", "flows", "services")
_DAY_S: Final = 86_400
# The columns of `days` that fit on a terminal, by the path to each; the other tables are shown whole.
_DAY_COLUMNS: Final = {
    "date": "date",
    "nodes": "nodes",
    "active": "by_state.active",
    "heard in a day": "heard.1d",
    "late": "late",
    "registered": "registered",
    "revived": "revived",
    "left": "left",
    "forgotten": "forgotten",
    "died": "died",
}
# The column of each table that is also a bar, and the figure of a whole bar where it is fixed.
_BARS: Final = {
    "days": ("nodes", None),
    "flows": ("nodes", None),
    "services": ("nodes", None),
    "cohorts": ("registered", None),
    "returns": ("30d", 1.0),
    "calibration": ("happened", 1.0),
}
_BAR_CELLS: Final = 24
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


async def ask(call: Call) -> Document:
    """Get the table."""
    options = call.options
    if options.csv and options.json:
        raise UsageError("--csv and --json are two forms of one answer; give one of them")
    if options.days < 1:
        raise UsageError(f"--days is {options.days}, allowed is 1 or more")
    query = {"table": options.table}
    if options.table in _DATED:
        query["from"] = rfc3339(call.console.clock.wall_s() - (options.days - 1) * _DAY_S)[:10]
    if options.csv:
        return {"csv": await call.client.analytics_csv(**query)}
    return await call.client.analytics(**query)


def show(document: Document, style: Style) -> str:
    """Show a table: a row for each of its rows, and on a terminal a bar beside it."""
    if "csv" in document:
        # `print` adds the last line feed.
        return str(document["csv"]).removesuffix("\n")
    name, rows = str(document.get("table")), objects(document.get("rows"))
    columns = _DAY_COLUMNS if name == "days" else {key: key for key in (rows[0] if rows else ())}
    cells = [[_cell(_at(row, path)) for path in columns.values()] for row in rows]
    headings = [heading.replace("_", " ") for heading in columns]
    if not style.terminal:
        return table(headings, cells, style)
    if not rows:
        return f"{safe(name)} has no rows yet"
    column, whole = _BARS.get(name, ("", None))
    bars = _bars([row.get(column) for row in rows], whole)
    return table([*headings, ""], [[*row, bar] for row, bar in zip(cells, bars, strict=True)], style)


def _at(row: Mapping[str, Any], path: str) -> object:
    value: object = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _cell(value: object) -> str:
    """Return a value for a table; in a list, a dash is a figure that is not told."""
    if isinstance(value, list):
        return " ".join(map(safe, value)) or "-"
    return safe(value)


def _bars(values: Sequence[object], whole: float | None) -> list[str]:
    """Return a bar for each value, to the scale of the largest one, or of `whole`."""
    numbers = [float(value) if isinstance(value, int | float) else 0.0 for value in values]
    scale = whole or max(numbers) or 1.0
    return [_bar(min(max(number / scale, 0.0), 1.0)) for number in numbers]


def _bar(share: float) -> str:
    full, rest = divmod(round(share * _BAR_CELLS * 8), 8)
    return "█" * full + _EIGHTHS[rest].strip()


COMMAND = request_command(
    "analytics",
    "print the years of a directory",
    ask,
    show,
    (
        argument("--table", choices=TABLES, default="days", help="which table; default: days"),
        argument(
            "--days",
            metavar="COUNT",
            type=int,
            default=DAYS_DEFAULT,
            help=f"so many last days, for the tables with dates; default: {DAYS_DEFAULT}",
        ),
        argument("--csv", action="store_true", help="print CSV (RFC 4180)"),
    ),
    "  openred-central analytics --days 365 --csv > year.csv\n"
    "  openred-central analytics --table cohorts --url https://directory.example\n",
)

"""Charts as SVG without scripts; colours follow the reader's preference (`prefers-color-scheme`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from .tables import short

WIDTH = 760
MARGIN = 24
TITLE_HEIGHT = 40
PLOT_HEIGHT = 240
AXIS_WIDTH = 70
BAR_HEIGHT = 24
BAR_NAME_WIDTH = 90
AXIS_HEIGHT = 46
_LEFT = MARGIN + AXIS_WIDTH
_PLOT_WIDTH = WIDTH - 2 * MARGIN - AXIS_WIDTH - 20
_BOTTOM = TITLE_HEIGHT + PLOT_HEIGHT

STYLE = """
svg { background: #ffffff; font: 13px system-ui, "DejaVu Sans", sans-serif; }
text { fill: #1f2328; } .title { font-weight: 600; font-size: 15px; } .dim { fill: #59636e; }
.line { fill: none; stroke: #0969da; stroke-width: 2; } .grid { stroke: #d1d9e0; stroke-width: 1; }
.dot { fill: #0969da; } .bar { fill: #0969da; } .whisker { stroke: #1f2328; stroke-width: 1.5; }
.s1 { stroke-dasharray: 6 3; } .s2 { stroke-dasharray: 2 3; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } text { fill: #f0f6fc; } .dim { fill: #9198a1; }
.line { stroke: #4493f8; } .dot, .bar { fill: #4493f8; } .whisker { stroke: #f0f6fc; }
.grid { stroke: #3d444d; } }
"""


class Panel(NamedTuple):
    """A part of a chart: elements drawn from y = 0, and their height."""

    elements: list[str]
    height: int


def chart(panels: Sequence[Panel]) -> str:
    """Return one SVG document with the panels below each other."""
    y, placed = MARGIN, []
    for panel in panels:
        placed.append(f'<g transform="translate(0 {y})">{"".join(panel.elements)}</g>\n')
        y += panel.height + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">\n'
        f"<style>{STYLE}</style>\n{''.join(placed)}</svg>\n"
    )


def heading(title: str, subtitle: str, date: str) -> Panel:
    """Return the heading of the whole chart."""
    return Panel([_title(title, date), _text(MARGIN, 36, subtitle, "dim")], TITLE_HEIGHT)


def line(title: str, unit: str, points: Sequence[tuple[float, float]], x_name: str) -> Panel:
    """Return a line over a linear axis that starts at the first point; y starts at zero."""
    first, last = (points[0][0], points[-1][0]) if points else (0.0, 1.0)
    span = last - first or 1.0
    marks = [(number / 5, short(first + span * number / 5)) for number in range(6)]
    placed = [((x - first) / span, y) for x, y in points]
    return _plot(title, unit, placed, marks, x_name)


def tail(title: str, unit: str, curve: Sequence[tuple[float, float]]) -> Panel:
    """Return a line of quantiles over a logarithmic axis of the share that took longer.

    `curve` holds (share that took longer, value) with falling shares; a last share of 0 is the maximum.
    """
    smallest = min((share for share, _ in curve if share > 0), default=0.1)
    decades = max(1, math.ceil(-math.log10(smallest)))

    def place(share: float) -> float:
        return min(1.0, -math.log10(share) / decades) if share > 0 else 1.0

    marks = [(number / decades, f"{100 * (1 - 10.0**-number):.10g} %") for number in range(decades + 1)]
    return _plot(
        title, unit, [(place(share), value) for share, value in curve], marks, "share that took no longer"
    )


def reliability(title: str, unit: str, points: Sequence[tuple[float, float, float]]) -> Panel:
    """Return the share that came true over the chance that was told, beside the diagonal.

    `points` hold (chance, share, weight) with all three in [0, 1]; a larger weight has a larger dot.
    """
    marks = [(number / 5, short(number / 5)) for number in range(6)]
    panel = _plot(title, unit, [(x, y) for x, y, _ in points], marks, "chance that was told", top=1.0)
    dots = "".join(
        f'<circle class="dot" cx="{_LEFT + x * _PLOT_WIDTH:.1f}" cy="{_BOTTOM - y * PLOT_HEIGHT:.1f}" '
        f'r="{2 + 8 * math.sqrt(weight):.1f}"/>'
        for x, y, weight in points
    )
    diagonal = (
        f'<line class="grid" x1="{_LEFT}" y1="{_BOTTOM}" x2="{_LEFT + _PLOT_WIDTH}" y2="{TITLE_HEIGHT}"/>'
    )
    return Panel([*panel.elements, diagonal, dots], panel.height)


def bars(title: str, unit: str, named: Sequence[tuple[str, tuple[float, float, float]]]) -> Panel:
    """Return a bar for each name with its value, its least and its most, which a line across it shows."""
    top = nice_end(max((most for _, (_, _, most) in named), default=1.0))
    width = _PLOT_WIDTH - 2 * BAR_NAME_WIDTH
    elements = [_title(title, unit)]
    for place, (name, (value, least, most)) in enumerate(named):
        y, left = 30 + place * BAR_HEIGHT, MARGIN + BAR_NAME_WIDTH
        middle = y + BAR_HEIGHT / 2 - 3
        low, high = left + least / top * width, left + most / top * width
        elements.append(
            _text(left - 8, middle + 4, name, "dim", "end") + f'<rect class="bar" x="{left}" y="{y}" '
            f'width="{value / top * width:.1f}" height="{BAR_HEIGHT - 6}"/>'
            f'<line class="whisker" x1="{low:.1f}" y1="{middle:g}" x2="{high:.1f}" y2="{middle:g}"/>'
            + _text(high + 8, middle + 4, f"{short(value)} ({short(least)} to {short(most)})", "dim")
        )
    return Panel(elements, 30 + len(named) * BAR_HEIGHT)


def lines(
    title: str, unit: str, named: Sequence[tuple[str, Sequence[tuple[float, float]]]], x_name: str
) -> Panel:
    """Return up to three lines with names over one linear axis, which begins at 0, as y does."""
    points = [point for _, each in named for point in each]
    span = max((x for x, _ in points), default=0.0) or 1.0
    top = nice_end(max((y for _, y in points), default=1.0))
    marks = [(number / 5, short(span * number / 5)) for number in range(6)]
    panel = _plot(title, unit, [], marks, x_name, top=top)
    elements = panel.elements
    for number, (name, each) in enumerate(named):
        drawn = _drawn([(x / span, y) for x, y in each], top)
        key = _LEFT + 8 + 150 * number
        elements.append(
            f'<polyline class="line s{number}" points="{drawn}"/>'
            f'<line class="line s{number}" x1="{key}" y1="30" x2="{key + 30}" y2="30"/>'
            + _text(key + 36, 34, name, "dim")
        )
    return Panel(elements, panel.height)


def _plot(
    title: str,
    unit: str,
    points: Sequence[tuple[float, float]],
    marks: Sequence[tuple[float, str]],
    x_name: str,
    *,
    top: float | None = None,
) -> Panel:
    """Return a line through points with x in [0, 1], a grid, and named marks below it.

    The vertical axis ends at `top`, by default above the highest point.
    """
    top = top or nice_end(max((y for _, y in points), default=1.0))
    left, width, bottom = _LEFT, _PLOT_WIDTH, _BOTTOM
    elements = [_title(title, unit)]
    for step in range(5):
        y = bottom - PLOT_HEIGHT * step / 4
        elements.append(
            f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}"/>'
            + _text(left - 8, y + 4, short(top * step / 4), "dim", "end")
        )
    for place, name in marks:
        elements.append(_text(left + place * width, bottom + 18, name, "dim", "middle"))
    elements.append(_text(left + width / 2, bottom + 38, x_name, "dim", "middle"))
    if points:
        elements.append(f'<polyline class="line" points="{_drawn(points, top)}"/>')
    return Panel(elements, bottom + AXIS_HEIGHT)


def _drawn(points: Sequence[tuple[float, float]], top: float) -> str:
    """Return points with x in [0, 1] and y up to `top` as the points of a line."""
    return " ".join(f"{_LEFT + x * _PLOT_WIDTH:.1f},{_BOTTOM - y / top * PLOT_HEIGHT:.1f}" for x, y in points)


def nice_end(value: float) -> float:
    """Return the end of an axis: the least of 1, 2, 2.5, 4, 5, 8 × 10ⁿ that is not below `value`."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 4, 5, 8, 10) if step * power >= value * (1 - 1e-9))


def _title(title: str, unit: str) -> str:
    return _text(MARGIN, 16, title, "title") + _text(WIDTH - MARGIN, 16, unit, "dim", "end")


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    given = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{given}>{escape(words)}</text>'

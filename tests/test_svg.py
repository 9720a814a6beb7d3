"""Charts are well-formed, and have colours for light and dark."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from openred_central import svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels: svg.Panel) -> ElementTree.Element:
    return ElementTree.fromstring(svg.chart(panels))


def texts(element: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def test_everything_lies_inside_the_chart() -> None:
    chart = drawn(
        svg.heading("a", "b", "2026-11-29"),
        svg.line("c", "ms", [(0, 1), (9, 3), (10, 2)], "seconds"),
        svg.tail("d", "ms", [(0.5, 1), (0.01, 4), (0, 900)]),
    )
    height = float(chart.get("height", ""))
    panels = [float(group.get("transform", "").split()[1][:-1]) for group in chart.iter(f"{SVG}g")]
    assert panels == sorted(panels)
    assert panels[-1] < height
    for polyline in chart.iter(f"{SVG}polyline"):
        for point in polyline.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= svg.WIDTH
            assert 0 <= y <= height


def test_tail_gives_each_decade_the_same_width() -> None:
    chart = drawn(svg.tail("t", "ms", [(1 / 10**n, n) for n in range(1, 4)]))
    (polyline,) = chart.iter(f"{SVG}polyline")
    xs = [float(point.split(",")[0]) for point in polyline.get("points", "").split()]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert {"0 %", "90 %", "99 %", "99.9 %"} <= set(texts(chart))


def test_reliability_stands_beside_the_diagonal() -> None:
    chart = drawn(svg.reliability("r", "Brier 0.1", [(0.0, 0.0, 0.9), (0.5, 0.4, 0.05), (1.0, 1.0, 0.05)]))
    dots = [[float(dot.get(name, "")) for name in ("cx", "cy", "r")] for dot in chart.iter(f"{SVG}circle")]
    diagonal = list(chart.iter(f"{SVG}line"))[-1]
    ends = [[float(diagonal.get(name, "")) for name in (x, y)] for x, y in (("x1", "y1"), ("x2", "y2"))]
    assert [dots[0][:2], dots[2][:2]] == ends
    assert dots[1][1] > sum(y for _, y in ends) / 2
    assert dots[0][2] > dots[1][2]


def test_empty_chart_is_a_chart() -> None:
    assert texts(drawn(svg.line("b", "", [], "s"), svg.tail("c", "", [])))


def test_colours_follow_the_reader() -> None:
    assert "prefers-color-scheme: dark" in svg.chart([])


@pytest.mark.parametrize(
    ("value", "end"), [(0, 1), (1, 1), (1.1, 2), (3, 4), (7, 8), (9, 10), (0.021, 0.025), (41_000, 50_000)]
)
def test_axes_end_at_round_numbers(value: float, end: float) -> None:
    assert svg.nice_end(value) == pytest.approx(end)


def test_bars_have_their_values_and_bounds() -> None:
    chart = drawn(svg.bars("b", "", [("some", (50.0, 40.0, 62.0)), ("none", (0.0, 0.0, 3.7))]))
    some, none = (float(bar.get("width", "")) for bar in chart.iter(f"{SVG}rect"))
    assert some > none == 0
    assert {"some", "50 (40 to 62)", "none", "0 (0 to 3.7)"} <= set(texts(chart))
    for line in chart.iter(f"{SVG}line"):
        assert svg.MARGIN < float(line.get("x1", "")) <= float(line.get("x2", "")) < svg.WIDTH


def test_lines_share_their_axes_and_are_told_apart() -> None:
    chart = drawn(svg.lines("l", "nodes", [("a", [(0, 10), (5, 20)]), ("b", [(2.5, 5)]), ("c", [])], "years"))
    first, second, _ = (line.get("points", "").split() for line in chart.iter(f"{SVG}polyline"))
    ends = [tuple(map(float, point.split(","))) for point in (*first, *second)]
    assert ends[2][0] == pytest.approx((ends[0][0] + ends[1][0]) / 2, abs=0.1)
    assert ends[1][1] < ends[0][1] < ends[2][1]
    assert len({line.get("class") for line in chart.iter(f"{SVG}polyline")}) == 3

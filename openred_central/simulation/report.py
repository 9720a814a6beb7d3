"""The report of the time machine: in words and a table, as a document, and as a chart. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from .. import svg
from ..tables import aligned
from ..wording import counted
from .policies import Policy
from .tally import PER_NODE_YEARS, Interval, Tally


class Result(NamedTuple):
    """One policy, and the figures of its run."""

    policy: Policy
    tally: Tally


class Measure(NamedTuple):
    """A figure: its name in JSON and in words, and how to read it from a tally."""

    name: str
    words: str
    of: Callable[[Tally], Interval]


def _percent(tally: Tally) -> Interval:
    value, low, high = tally.first_contact()
    return 100 * value, 100 * low, 100 * high


RATES: Final = (
    Measure("needless_pending", "pending_1st, but it returns", lambda tally: tally.rate(tally.needless)),
    Measure("false_comas", "in coma, but it is up", lambda tally: tally.rate(tally.false_comas)),
    Measure("false_deaths", "dead, but it returns", lambda tally: tally.rate(tally.false_deaths)),
)
FIRST_CONTACT: Final = Measure("first_contact", "first peer answers, in %", _percent)
MEASURES: Final = (*RATES, FIRST_CONTACT)
HOURS: Final = (
    ("attended_h", "hours attended"),
    ("down_h", "hours down"),
    ("held_h", "hours held"),
    ("unheard_h", "hours in which nobody was heard"),
)
STATES: Final = ("active", "silent", "coma")


def text(results: Sequence[Result]) -> str:
    """Return the report for people."""
    rows = [
        [measure.words, *(_shown(measure.of(result.tally)) for result in results)] for measure in MEASURES
    ]
    rows += [[words, *(f"{getattr(result.tally, name):,.0f}" for result in results)] for name, words in HOURS]
    heading = [f"per {PER_NODE_YEARS:,} node-years", *(result.policy.name for result in results)]
    lines = [f"{result.policy.name}: {result.policy.meaning}" for result in results]
    return "\n".join([*lines, "", aligned(heading, rows), *(map(_sentence, results))]) + "\n"


def document(results: Sequence[Result]) -> dict[str, Any]:
    """Return all figures, by policy. Intervals are [value, low, high] of 95 %."""
    return {result.policy.name: _document(result.tally) for result in results}


def chart(results: Sequence[Result], subtitle: str) -> str:
    """Return an SVG document: a bar for each policy and measure, and the nodes by state over the years."""
    panels = [
        svg.heading("Silence of nodes under each policy", subtitle, f"per {PER_NODE_YEARS:,} node-years")
    ]
    for measure in MEASURES:
        bars = [(result.policy.name, measure.of(result.tally)) for result in results]
        panels.append(svg.bars(measure.words, "", bars))
    for policy, tally in results:
        lines = [
            (state, [(month.year, float(getattr(month, state))) for month in tally.months])
            for state in STATES
        ]
        panels.append(svg.lines(f"Nodes: {policy.name}", "nodes", lines, "years"))
    return svg.chart(panels)


def _document(tally: Tally) -> dict[str, Any]:
    counts = {name: value for name, value in vars(tally).items() if name != "months"}
    rates = {measure.name: [round(value, 4) for value in measure.of(tally)] for measure in RATES}
    first = [round(value, 6) for value in tally.first_contact()]
    return {
        "per_100000_node_years": rates,
        FIRST_CONTACT.name: first,
        "counts": counts | {"node_years": round(tally.node_years, 3)},
        "months": [month._asdict() for month in tally.months],
    }


def _shown(interval: Interval) -> str:
    """Return an interval as text."""
    value, low, high = map(_rounded, interval)
    return f"{value} ({low} to {high})"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _sentence(result: Result) -> str:
    tally = result.tally
    return (
        f"With {result.policy.name}, silence moved on nodes that returned {counted(tally.needless, 'time')}. "
        f"Of {counted(tally.comas, 'coma')} {tally.false_comas} were false, and of "
        f"{counted(tally.deaths, 'death')} {tally.false_deaths}."
    )

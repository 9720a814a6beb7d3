"""Reports of a run of the suite: tables for a terminal, a Markdown page, JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

from openred_central.tables import aligned, markdown, short

from . import contestants, following, proving
from .goals import Outcome
from .samples import Samples, Spread, Subject

METRICS = {
    "requests_per_s": "requests/s",
    "cpu_us": "server CPU µs each",
    "leader_us": "leader CPU µs each",
    "loop_us": "of it the loop, µs",
    "others_us": "of it other threads, µs",
    "generator_percent": "generator busy, %",
    "others_percent": "others on its core, %",
    "rows_per_commit": "rows a commit",
    "transitions_per_s": "transitions/s",
    "seconds": "seconds",
    "longest_s": "longest, s",
    "heartbeats_sent": "heartbeats elsewhere",
    "heartbeats_failed": "of them failed",
    "cpu_s": "CPU of it, s",
    "lag_p50_ms": "lag p50 ≤ ms",
    "lag_p99_ms": "lag p99 ≤ ms",
    "mb": "MB",
    "bytes_each": "bytes each",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "p999_ms": "p99.9 ms",
    "max_ms": "max ms",
    "slowest_ms": "slowest registration, ms",
    "generator_late_p99_ms": "generator late, p99 ms",
}
# Ratios within the same case and round.
TO_US, TO_US_CPU, TO_BARE = "ours ÷ it, requests/s", "it ÷ ours, CPU", "it ÷ bare, CPU"
TO_UNPROVEN, TO_UNFOLLOWED = "it ÷ unproven, CPU", "it ÷ without subscribers, CPU"
RATIOS = (TO_US, TO_US_CPU, TO_BARE, TO_UNPROVEN, TO_UNFOLLOWED)


class Section(NamedTuple):
    """A table with its rows and columns as text."""

    case: str
    heading: list[str]
    rows: list[list[str]]


def sections(samples: Samples) -> list[Section]:
    """Return a section for each case, in the order of measuring."""
    cases = list(dict.fromkeys(subject.case for subject in samples.subjects()))
    return [_section(samples, case) for case in cases]


def _section(samples: Samples, case: str) -> Section:
    subjects = [subject for subject in samples.subjects() if subject.case == case]
    present = [metric for metric in METRICS if any(metric in samples.metrics(each) for each in subjects)]
    ratios = [ratio for ratio in RATIOS if any(_ratio(samples, each, ratio) for each in subjects)]
    heading = ["", *(METRICS[metric] for metric in present), *ratios]
    rows = [
        [
            each.name,
            *(shown(samples.spread(each, metric)) for metric in present),
            *(shown(_ratio(samples, each, ratio)) for ratio in ratios),
        ]
        for each in subjects
    ]
    return Section(case, heading, rows)


def _ratio(samples: Samples, subject: Subject, ratio: str) -> Spread | None:
    if ratio == TO_BARE:
        bare = _first(samples, subject.case, contestants.BARE)
        return samples.ratio(subject, bare, "cpu_us") if bare else None
    if ratio == TO_UNPROVEN:
        return samples.ratio(subject, subject._replace(name=proving.UNPROVEN), "cpu_us")
    if ratio == TO_UNFOLLOWED:
        return samples.ratio(subject, subject._replace(name=following.UNFOLLOWED), "cpu_us")
    ours = _first(samples, subject.case, contestants.OURS)
    if ours in (None, subject):
        return None
    if ratio == TO_US_CPU:
        return samples.ratio(subject, ours, "cpu_us")
    return samples.ratio(ours, subject, "requests_per_s")


def _first(samples: Samples, case: str, name: str) -> Subject | None:
    """Return the first contestant of a case whose name begins so: "ours, over TLS" is ours."""
    of_case = (each for each in samples.subjects() if each.case == case)
    return next((each for each in of_case if each.name.startswith(name)), None)


def shown(measured: Spread | None) -> str:
    """Return a median, with its range if rounds differ."""
    if measured is None:
        return ""
    middle, low, high = map(short, measured)
    return middle if low == high else f"{middle} ({low} – {high})"


def goal_rows(outcomes: list[Outcome]) -> list[list[str]]:
    return [
        [
            outcome.goal.text,
            f"{'≥' if outcome.goal.at_least else '≤'} {short(outcome.goal.bound)}",
            shown(outcome.measured),
            outcome.verdict,
        ]
        for outcome in outcomes
    ]


GOAL_HEADING = ["goal", "wanted", "measured", ""]


def text(samples: Samples, outcomes: list[Outcome], machine: dict[str, str]) -> str:
    """Return everything for a terminal."""
    parts = [_listed(samples, machine)]
    parts += [f"{section.case}\n{aligned(section.heading, section.rows)}" for section in sections(samples)]
    if outcomes:
        parts.append(aligned(GOAL_HEADING, goal_rows(outcomes)))
    return "\n".join(parts)


def _listed(samples: Samples, machine: dict[str, str]) -> str:
    """Return lines about the machine and what was left out."""
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in machine.items()]
    return "".join(f"- {line}\n" for line in (*lines, *samples.notes))


def page(samples: Samples, outcomes: list[Outcome], machine: dict[str, str], command: str) -> str:
    """Return everything as a page of Markdown."""
    parts = [f"`{command}`\n\n{_listed(samples, machine)}"]
    if outcomes:
        parts.append("## Goals\n\n" + markdown(GOAL_HEADING, goal_rows(outcomes)))
    parts += [
        f"## {section.case}\n\n{markdown(section.heading, section.rows)}" for section in sections(samples)
    ]
    return "# Benchmarks\n\n" + "\n".join(parts)


def document(
    samples: Samples, outcomes: list[Outcome], machine: dict[str, str], command: str, seed: int
) -> dict[str, Any]:
    """Return everything for JSON."""
    return {
        "command": command,
        "seed": seed,
        "machine": machine,
        "left_out": list(samples.notes),
        "goals": [
            {"text": each.goal.text, "bound": each.goal.bound, "at_least": each.goal.at_least,
             "measured": each.measured.median if each.measured else None, "verdict": each.verdict}
            for each in outcomes
        ],
        "figures": samples.document(),
    }  # fmt: skip

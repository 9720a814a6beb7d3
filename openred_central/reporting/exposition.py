"""Figures in the text format of Prometheus, version 0.0.4. Pure.

A family is one figure with its meaning, and a sample for each set of labels. Source: prometheus.io,
"Exposition formats", text-based format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from ..histogram import Histogram

_NAME = re.compile(r"[a-z][a-z0-9_]*")

Labels = tuple[tuple[str, str], ...]
NO_LABELS: Labels = ()


class Sample(NamedTuple):
    """One line: the name of the family with `suffix`, `labels` as pairs of name and value, and the figure."""

    suffix: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """One figure. `kind` is ``counter``, ``gauge`` or ``histogram``; `meaning` a sentence for people."""

    name: str
    kind: str
    meaning: str
    samples: tuple[Sample, ...]


def counter(name: str, meaning: str, values: float | Mapping[Labels, float]) -> Family:
    """Make a figure that only grows while the server runs; its name ends with ``_total``."""
    if not name.endswith("_total"):
        raise ValueError(f"the counter {name} has to end with _total")
    return _family(name, "counter", meaning, values)


def gauge(name: str, meaning: str, values: float | Mapping[Labels, float]) -> Family:
    """Make a figure that goes up and down."""
    return _family(name, "gauge", meaning, values)


def choice(name: str, meaning: str, label: str, choices: Iterable[str], current: str) -> Family:
    """Make a gauge for each of `choices`: 1 for the `current` one, else 0."""
    return gauge(name, meaning, {((label, word),): float(word == current) for word in choices})


def histogram(name: str, meaning: str, observed: Histogram) -> Family:
    """Make durations in buckets; the name ends with ``_seconds``."""
    if not name.endswith("_seconds"):
        raise ValueError(f"the histogram {name} has to end with _seconds")
    so_far = list(accumulate(observed.counts))
    bounds = [*map(_number, observed.bounds), "+Inf"]
    buckets = [
        Sample("_bucket", (("le", bound),), count) for bound, count in zip(bounds, so_far, strict=True)
    ]
    totals = (Sample("_sum", NO_LABELS, observed.sum_s), Sample("_count", NO_LABELS, so_far[-1]))
    return Family(name, "histogram", meaning, (*buckets, *totals))


def render(families: Iterable[Family]) -> bytes:
    """Return all families as text, in order. Raises `ValueError` for an invalid or repeated name."""
    lines: list[str] = []
    seen: set[str] = set()
    for name, kind, meaning, samples in families:
        if name in seen or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no valid name of a figure, or is there twice")
        seen.add(name)
        lines.append(f"# HELP {name} {_escaped(meaning)}")
        lines.append(f"# TYPE {name} {kind}")
        for suffix, labels, value in samples:
            labelled = ",".join(f'{label}="{_escaped(text, quotes=True)}"' for label, text in labels)
            lines.append(f"{name}{suffix}{f'{{{labelled}}}' if labelled else ''} {_number(value)}")
    return "\n".join([*lines, ""]).encode("utf-8")


def _family(name: str, kind: str, meaning: str, values: float | Mapping[Labels, float]) -> Family:
    if isinstance(values, Mapping):
        samples = tuple(Sample("", labels, value) for labels, value in values.items())
    else:
        samples = (Sample("", NO_LABELS, values),)
    return Family(name, kind, meaning, samples)


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(value) if value % 1 else str(int(value))


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text

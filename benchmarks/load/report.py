"""What a run of the load tells: a line for each second, and in the end a table, JSON and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from openred_central.security.replay import ENTRIES_MAX
from openred_central.security.signatures import AGE_S_MAX

from ..reports import svg
from ..reports.tables import aligned
from .generator import LoadOptions
from .histogram import QUANTILES, Histogram
from .proofs import SIGNED_KINDS
from .tally import Second, Tally

# Requests of an open loop that leave later than this on the whole say that the generator is the bottleneck.
LATE_MS_MAX = 1.0


class Timeline:
    """The seconds of all generators, put together."""

    def __init__(self, generators: int) -> None:
        self._generators = generators
        self._told: dict[int, list[Second]] = {}

    def add(self, second: Second) -> Second | None:
        """Take in a second of one generator; returns that second of all, once all have told it."""
        told = self._told.setdefault(second.number, [])
        told.append(second)
        return self._together(second.number) if len(told) == self._generators else None

    def _together(self, number: int) -> Second:
        times = Histogram()
        for each in self._told[number]:
            times.merge(each.times)
        told = self._told[number]
        return Second(number, sum(each.answered for each in told), sum(each.failed for each in told), times)

    def seconds(self) -> list[Second]:
        """Every second that all generators have told, in order."""
        return [
            self._together(number)
            for number in sorted(self._told)
            if len(self._told[number]) == self._generators
        ]


def progress(second: Second) -> str:
    """One line of a second."""
    quantiles = " ".join(
        f"p{100 * share:g} {second.times.quantile_us(share) / 1e3:.2f}" for share in (0.5, 0.99)
    )
    lost = f", {second.failed} failed" if second.failed else ""
    return f"{second.number + 1:5} s {second.answered:10,} requests/s   {quantiles} ms{lost}"


def table(tally: Tally) -> str:
    """The figures of each kind of request and of all."""
    heading = [
        "request",
        "answered",
        "requests/s",
        "refused",
        *(f"p{100 * q:g} ms" for q in QUANTILES),
        "max ms",
    ]
    rows = []
    for kind, times, statuses in zip(tally.kinds, tally.times, tally.statuses, strict=True):
        answered = sum(statuses.values())
        refused = sum(count for status, count in statuses.items() if not 200 <= status < 300)
        rows.append(_row(kind, answered, refused, tally.took_s, times))
    if len(rows) > 1:
        rows.append(_row("all", tally.answered, tally.refused, tally.took_s, tally.all_times()))
    return aligned(heading, rows)


def _row(name: str, answered: int, refused: int, took_s: float, times: Histogram) -> list[str]:
    per_s = answered / took_s if took_s else 0.0
    timed = [f"{value:.3f}" for value in times.summary_ms().values()]
    return [name, f"{answered:,}", f"{per_s:,.0f}", f"{refused:,}", *timed]


def remarks(tally: Tally, rate: float | None) -> list[str]:
    """What the reader of the table has to know besides."""
    told = []
    for kind, statuses in zip(tally.kinds, tally.statuses, strict=True):
        wrong = {status: count for status, count in sorted(statuses.items()) if not 200 <= status < 300}
        if wrong:
            counted = ", ".join(f"{count:,} times {status}" for status, count in wrong.items())
            told.append(f"{kind}: answered {counted}")
        if kind in SIGNED_KINDS and HTTPStatus.TOO_MANY_REQUESTS in wrong:
            told.append(f"{kind}: a node signs {ENTRIES_MAX} times within {AGE_S_MAX} s; give more --nodes")
    if tally.failed:
        told.append(f"{tally.failed:,} requests were lost with their connections")
    if tally.unanswered:
        told.append(
            f"{tally.unanswered:,} requests were due and had no answer at the end; they count with that time"
        )
    late_ms = tally.late.quantile_us(0.99) / 1e3
    if rate is not None and late_ms > LATE_MS_MAX:
        told.append(
            f"1 % of the requests left {late_ms:.1f} ms late or later: the generator was too slow, and the "
            "times hold that; give it free cores, or more --processes if there are some"
        )
    if tally.error:
        told.append(tally.error)
    return told


def document(options: LoadOptions, tally: Tally, seconds: Sequence[Second]) -> dict[str, Any]:
    """All of a run, for JSON. The keys of its nodes are left out."""
    told = options._asdict()
    del told["signers"]
    return {
        "options": told,
        **tally.document(),
        "seconds": [
            {
                "second": each.number,
                "answered": each.answered,
                "failed": each.failed,
                "ms": each.times.summary_ms(),
            }
            for each in seconds
        ],
    }


def chart(tally: Tally, seconds: Sequence[Second]) -> str:
    """Throughput over time and the tail of the times, as SVG."""
    points = [(float(each.number + 1), float(each.answered)) for each in seconds]
    return svg.chart(
        [
            svg.line("Answers a second", "requests/s", points, "seconds"),
            svg.tail("Time to the answer", "ms", tally.all_times().curve()),
        ]
    )

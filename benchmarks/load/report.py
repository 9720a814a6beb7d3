"""What a run of the load tells: a line for each second, and in the end a table, JSON and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
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
# A generator of a closed loop that uses this share of its core or more may be what bounds the figures.
BUSY_MAX = 0.9


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
    kinds = zip(tally.kinds, tally.times, tally.statuses, tally.overdue, strict=True)
    for kind, times, statuses, overdue in kinds:
        answered = sum(statuses.values())
        refused = sum(count for status, count in statuses.items() if not 200 <= status < 300)
        per_s = (answered - overdue) / tally.took_s if tally.took_s else 0.0
        rows.append(_row(kind, answered, refused, per_s, times))
    if len(rows) > 1:
        rows.append(_row("all", tally.answered, tally.refused, tally.requests_per_s, tally.all_times()))
    return aligned(heading, rows)


def _row(name: str, answered: int, refused: int, per_s: float, times: Histogram) -> list[str]:
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
    if overdue := sum(tally.overdue):
        told.append(
            f"{overdue:,} answers came after the measured time; they count in the times, not in requests/s"
        )
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
    if rate is None and tally.busy >= BUSY_MAX:
        told.append(
            f"the generator used {tally.busy:.0%} of its core: the server may be able to do more; "
            "give it more --processes, and free cores"
        )
    if tally.error:
        told.append(tally.error)
    return told


def document(
    options: LoadOptions, tally: Tally, seconds: Sequence[Second], measured_at: datetime
) -> dict[str, Any]:
    """All of a run that ended at `measured_at`, for JSON. The keys of its nodes are left out."""
    told = options._asdict()
    del told["signers"], told["idle_request"]
    return {
        "measured_at": measured_at.isoformat(timespec="seconds"),
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


def loop(options: LoadOptions) -> str:
    """Return how requests are sent: as a rate, or as many as go."""
    return f"open loop, {options.rate:,.0f} requests/s" if options.rate else "closed loop"


def chart(options: LoadOptions, tally: Tally, seconds: Sequence[Second], measured_at: datetime) -> str:
    """Throughput over time and the tail of the times of a run that ended at `measured_at`, as SVG."""
    mix = ", ".join(f"{kind} {share}" for kind, share in options.mix.items())
    asked = (
        f"{loop(options)}, {options.connections} connections; answered: {tally.requests_per_s:,.0f} a second"
    )
    points = [(float(each.number + 1), float(each.answered)) for each in seconds]
    return svg.chart(
        [
            svg.heading(f"Load: {mix}", asked, f"{measured_at:%Y-%m-%d %H:%M} UTC"),
            svg.line("Answers a second", "requests/s", points, "seconds"),
            svg.tail("Time to the answer", "ms", tally.all_times().curve()),
        ]
    )

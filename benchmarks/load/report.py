"""Reports of a run of the load: a line for each second, at the end a table, JSON and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from openred_central import svg
from openred_central.security.replay import ENTRIES_MAX
from openred_central.security.signatures import AGE_S_MAX
from openred_central.tables import aligned

from .. import machine
from .requests import KINDS, LoadOptions
from .tally import QUANTILES, Histogram, Second, Tally, is_success

# p99 of the lateness in an open loop above which the generator is the bottleneck.
LATE_MS_MAX = 1.0
# Share of its core from which on a generator of a closed loop may be the bottleneck.
BUSY_MAX = 0.9


class Timeline:
    """The seconds of all generators, merged."""

    def __init__(self, generators: int) -> None:
        self._generators = generators
        self._reported: dict[int, list[Second]] = {}

    def add(self, second: Second) -> Second | None:
        """Add a second of one generator; return that second of all once all have reported it."""
        reported = self._reported.setdefault(second.number, [])
        reported.append(second)
        return self._together(second.number) if len(reported) == self._generators else None

    def _together(self, number: int) -> Second:
        times, seconds = Histogram(), self._reported[number]
        for each in seconds:
            times.merge(each.times)
        answered, failed = sum(each.answered for each in seconds), sum(each.failed for each in seconds)
        return Second(number, answered, failed, times)

    def seconds(self) -> list[Second]:
        """Return each second that all generators have reported, in order."""
        return [
            self._together(number)
            for number in sorted(self._reported)
            if len(self._reported[number]) == self._generators
        ]


def progress(second: Second) -> str:
    """Return the line of progress of a second."""
    quantiles = " ".join(
        f"p{100 * share:g} {second.times.quantile_us(share) / 1e3:.2f}" for share in (0.5, 0.99)
    )
    lost = f", {second.failed} failed" if second.failed else ""
    return f"{second.number + 1:5} s {second.answered:10,} requests/s   {quantiles} ms{lost}"


def table(tally: Tally) -> str:
    """Return a table with a row for each kind of request and one for all."""
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
        refused = sum(count for status, count in statuses.items() if not is_success(status))
        per_s = (answered - overdue) / tally.took_s if tally.took_s else 0.0
        rows.append(_row(kind, answered, refused, per_s, times))
    if len(rows) > 1:
        rows.append(_row("all", tally.answered, tally.refused, tally.requests_per_s, tally.all_times()))
    return aligned(heading, rows)


def _row(name: str, answered: int, refused: int, per_s: float, times: Histogram) -> list[str]:
    times_ms = [f"{value:.3f}" for value in times.summary_ms().values()]
    return [name, f"{answered:,}", f"{per_s:,.0f}", f"{refused:,}", *times_ms]


def counted(statuses: dict[int, int]) -> str:
    return ", ".join(f"{number:,} times {status}" for status, number in sorted(statuses.items()))


def remarks(tally: Tally, rate: float | None) -> list[str]:
    """Return the warnings that belong to the table."""
    found = []
    for kind, statuses in zip(tally.kinds, tally.statuses, strict=True):
        wrong = {status: count for status, count in statuses.items() if not is_success(status)}
        if wrong:
            found.append(f"{kind}: answered {counted(wrong)}")
        if KINDS[kind].key and not KINDS[kind].with_session and HTTPStatus.TOO_MANY_REQUESTS in wrong:
            found.append(
                f"{kind}: a node may sign {ENTRIES_MAX} times within {AGE_S_MAX} s; use more --nodes"
            )
    if tally.failed:
        found.append(f"{tally.failed:,} requests were lost with their connections")
    if overdue := sum(tally.overdue):
        found.append(
            f"{overdue:,} answers came after the measured time: they count in the times, not in requests/s"
        )
    if tally.unanswered:
        found.append(f"{tally.unanswered:,} due requests had no answer at the end: they are timed up to then")
    late_ms = tally.late.quantile_us(0.99) / 1e3
    if rate is not None and late_ms > LATE_MS_MAX:
        found.append(
            f"1 % of the requests left {late_ms:.1f} ms late or more: the generator was too slow, and the "
            "times include that; use more --processes if there are free cores"
        )
    if rate is None and tally.busy >= BUSY_MAX:
        found.append(
            f"the generator used {tally.busy:.0%} of its core: the server may be faster; "
            "use more --processes if there are free cores"
        )
    if tally.error:
        found.append(tally.error)
    return found


def document(
    options: LoadOptions, tally: Tally, seconds: Sequence[Second], measured_at: datetime
) -> dict[str, Any]:
    """Return everything about a run that ended at `measured_at`, without keys and sessions, for JSON."""
    given = options._asdict()
    del given["signers"], given["sessions"], given["idle_requests"]
    return {
        "measured_at": measured_at.isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "options": given,
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
    """Return the name of the loop, with its rate."""
    return f"open loop, {options.rate:,.0f} requests/s" if options.rate else "closed loop"


def chart(options: LoadOptions, tally: Tally, seconds: Sequence[Second], measured_at: datetime) -> str:
    """Return throughput over time and the tail of the times of a run that ended at `measured_at`, as SVG."""
    mix = ", ".join(f"{kind} {share}" for kind, share in options.mix.items())
    subtitle = f"{loop(options)}, {options.connections} connections; {tally.requests_per_s:,.0f} answers/s"
    points = [(float(each.number + 1), float(each.answered)) for each in seconds]
    return svg.chart(
        [
            svg.heading(f"Load: {mix}", subtitle, f"{measured_at:%Y-%m-%d %H:%M} UTC"),
            svg.line("Answers", "requests/s", points, "seconds"),
            svg.tail("Time to the answer", "ms", tally.all_times().curve()),
        ]
    )

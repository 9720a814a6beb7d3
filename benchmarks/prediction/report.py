"""Reports of predictions: tables, JSON and a chart of reliability."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from openred_central import svg
from openred_central.tables import aligned

from .evaluation import BASE, DIRECTORY, HORIZONS_S, LAST_SEEN, NOW, RANDOM, Result
from .replay import Options
from .scoring import Scores

# Fewer answers in a bin are not told.
_FEW = 20
CHARTED = (NOW, "1 d", "30 d")


def text(result: Result) -> str:
    """Return the tables of one case."""
    parts = [heading(result)]
    if NOW in result.answers:
        parts.append(_now_table(result))
    if any(horizon in result.answers for horizon in HORIZONS_S):
        parts.append("Late nodes, up again within: Brier score (log-loss)\n" + _return_table(result))
    parts.extend(
        f"Reliability, {horizon}: {reliability(result.scores(horizon))}\n"
        for horizon in CHARTED
        if horizon in result.answers
    )
    return "\n".join(parts)


def heading(result: Result) -> str:
    """Return what was replayed, as a sentence."""
    case = result.case
    options = case.options
    now = result.scores(NOW) if NOW in result.answers else None
    asked = f"; {now.questions:,} questions, {now.share:.1%} up, {result.late_share:.1%} late" if now else ""
    return (
        f"{case.name}: {len(case.nodes):,} nodes, a heartbeat every {paces(options)}, "
        f"{options.ignore:.0%} ignore the advice, clients {' and '.join(options.kinds)}; "
        f"{result.beats:,} signs of life{asked}\n"
    )


def _now_table(result: Result) -> str:
    rows = []
    base = result.scores(NOW, BASE).brier
    for name in _ordered(result.answers[NOW]):
        scores = result.scores(NOW, name)
        contacts = result.contacts.get(name)
        rows.append(
            [
                name,
                f"{scores.brier:.4f}",
                f"{scores.brier / base:.2f}" if base else "",
                f"{scores.log_loss:.3f}",
                "" if math.isnan(scores.auc) else f"{scores.auc:.3f}",
                f"{scores.calibration_error:.3f}",
                f"{contacts.share:.3f}" if contacts else "",
            ]
        )
    rows.extend(
        [f"order: {name}", "", "", "", "", "", f"{result.contacts[name].share:.3f}"]
        for name in (RANDOM, LAST_SEEN)
    )
    return aligned(
        ["up now", "Brier", "× base", "log-loss", "AUC", "calibration error", "first contacted answers"], rows
    )


def _return_table(result: Result) -> str:
    horizons = [horizon for horizon in HORIZONS_S if horizon in result.answers]
    rows = [["questions", *(f"{result.scores(horizon).questions:,}" for horizon in horizons)]]
    rows.append(["came true", *(f"{result.scores(horizon).share:.3f}" for horizon in horizons)])
    for name in _ordered(result.answers[horizons[0]]):
        found = [result.scores(horizon, name) for horizon in horizons]
        rows.append([name, *(f"{scores.brier:.4f} ({scores.log_loss:.2f})" for scores in found)])
    return aligned(["back within", *horizons], rows)


def _ordered(names: Iterable[str]) -> list[str]:
    """Return the names with the directory and the base rate first."""
    return [DIRECTORY, BASE, *(name for name in names if name not in (DIRECTORY, BASE))]


def reliability(scores: Scores) -> str:
    """Return the told and the true share of each bin that holds some answers."""
    return "  ".join(
        f"{each.mean:.2f}>{each.share:.2f} ({each.answers:,})" for each in scores.bins if each.answers >= _FEW
    )


def paces(options: Options) -> str:
    """Return the pace that is advised, or the range of paces."""
    least_s, most_s = options.pace_min_s or options.pace_s, options.pace_s
    return duration(most_s) if least_s == most_s else f"{duration(least_s)} to {duration(most_s)}"


def duration(seconds: float) -> str:
    """Return a pace such as 15 min, 1 h or 7 d."""
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:g} {unit}"
    return f"{seconds:g} s"


def chart(results: Sequence[Result], date: str) -> str:
    """Return the reliability of the directory in each case, now and for its longest horizon, as SVG."""
    panels = [svg.heading("Reliability of predictions", "told against happened; larger: more answers", date)]
    for result in results:
        for horizon in CHARTED:
            if horizon in result.answers:
                scores = result.scores(horizon)
                points = [
                    (each.mean, each.share, each.answers / scores.questions)
                    for each in scores.bins
                    if each.answers
                ]
                title = f"{result.case.name}, {paces(result.case.options)}: {horizon}"
                panels.append(svg.reliability(title, f"Brier {scores.brier:.3f}", points))
    return svg.chart(panels)

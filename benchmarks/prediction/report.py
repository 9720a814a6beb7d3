"""Reports of predictions: tables, JSON and a chart of reliability."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import svg
from ..tables import aligned
from .evaluation import BASE, DIRECTORY, HORIZONS_S, LAST_SEEN, NOW, RANDOM, Result
from .scoring import Scores

# Fewer answers in a bin are not told.
_FEW = 20
CHARTED = (NOW, "1 d", "30 d")


def text(result: Result) -> str:
    """Return the tables of one case."""
    parts = [heading(result)]
    if NOW in result.scores:
        parts.append(_now_table(result))
    if any(horizon in result.scores for horizon in HORIZONS_S):
        parts.append("Late nodes, up again within: Brier score (log-loss)\n" + _return_table(result))
    parts.extend(
        f"Reliability, {horizon}: {reliability(result.scores[horizon][DIRECTORY])}\n"
        for horizon in CHARTED
        if DIRECTORY in result.scores.get(horizon, {})
    )
    return "\n".join(parts)


def heading(result: Result) -> str:
    """Return what was replayed, as a sentence."""
    case = result.case
    options = case.options
    now = next(iter(result.scores.get(NOW, {}).values()), None)
    asked = f"; {now.questions:,} questions, {now.share:.1%} up, {result.late_share:.1%} late" if now else ""
    return (
        f"{case.name}: {len(case.nodes):,} nodes, a heartbeat every {duration(options.pace_s)}, "
        f"{options.ignore:.0%} ignore the advice, clients {' and '.join(options.kinds)}; "
        f"{result.beats:,} signs of life{asked}\n"
    )


def _now_table(result: Result) -> str:
    rows = []
    base = result.brier(NOW, BASE)
    for name, scores in _ordered(result.scores[NOW]):
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
    horizons = [horizon for horizon in HORIZONS_S if horizon in result.scores]
    names = [name for name, _ in _ordered(result.scores[horizons[0]])]
    rows = [["questions", *(f"{result.scores[horizon][BASE].questions:,}" for horizon in horizons)]]
    rows.append(["came true", *(f"{result.scores[horizon][BASE].share:.3f}" for horizon in horizons)])
    for name in names:
        found = [result.scores[horizon][name] for horizon in horizons]
        rows.append([name, *(f"{scores.brier:.4f} ({scores.log_loss:.2f})" for scores in found)])
    return aligned(["back within", *horizons], rows)


def _ordered(rows: dict[str, Scores]) -> list[tuple[str, Scores]]:
    """Return the rows with the directory and the base rate first."""
    first = [name for name in (DIRECTORY, BASE) if name in rows]
    return [(name, rows[name]) for name in (*first, *(name for name in rows if name not in first))]


def reliability(scores: Scores) -> str:
    """Return the told and the true share of each bin that holds some answers."""
    return "  ".join(
        f"{each.mean:.2f}>{each.share:.2f} ({each.answers:,})" for each in scores.bins if each.answers >= _FEW
    )


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
            scores = result.scores.get(horizon, {}).get(DIRECTORY)
            if scores is not None:
                points = [
                    (each.mean, each.share, each.answers / scores.questions)
                    for each in scores.bins
                    if each.answers
                ]
                title = f"{result.case.name}, {duration(result.case.options.pace_s)}: {horizon}"
                panels.append(svg.reliability(title, f"Brier {scores.brier:.3f}", points))
    return svg.chart(panels)

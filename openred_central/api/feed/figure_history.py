"""The last hour in figures, for whoever opens a plot: nodes and rates, a point every ten seconds. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from ...directory.lifecycle import LIVE_STATES

# An hour at one point every ten seconds: some 20 KB as JSON, made for those who ask for it.
POINTS_MAX = 360

_STATES = tuple(state.wire for state in LIVE_STATES)
_RATES = ("requests_per_s", "heartbeats_per_s", "transitions_per_s")
_LATENCIES = ("p50", "p99")


class FigureHistory:
    """The last `points_max` points of live figures, column by column when they are told."""

    def __init__(self, *, points_max: int = POINTS_MAX) -> None:
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=points_max)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, figures: Mapping[str, Any]) -> None:
        """Keep what a plot needs of the document of the event ``figures``; what it lacks is None."""
        by_state, latency = figures.get("by_state", {}), figures.get("latency_ms", {})
        self._rows.append(
            (
                figures.get("time"),
                *(by_state.get(state) for state in _STATES),
                *(figures.get(rate) for rate in _RATES),
                *(latency.get(quantile) for quantile in _LATENCIES),
            )
        )

    def document(self) -> dict[str, Any]:
        """The points, oldest first, as lists of one length: ``time``, and each state, rate and quantile."""
        columns = iter([list(column) for column in zip(*self._rows, strict=True)])
        return {
            "time": next(columns, []),
            "by_state": {state: next(columns, []) for state in _STATES},
            **{rate: next(columns, []) for rate in _RATES},
            "latency_ms": {quantile: next(columns, []) for quantile in _LATENCIES},
        }

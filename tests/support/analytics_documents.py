"""Invented answers of `GET /analytics`, as the dashboard shows them."""

from __future__ import annotations

import math
from datetime import date, timedelta
from random import Random
from typing import Any

STATES = ("active", "pending_1st", "failed_1st", "retry_48h", "retry_2w", "retry_2m", "coma")
SHARES = (0.8, 0.01, 0.005, 0.01, 0.03, 0.045, 0.1)
LATENESSES_S = (3600, 21600, 86400, 259200, 604800, 2592000, 7776000, 15552000, 31536000)
LAST: dict[str, Any] = {
    "availability": [210, 840, 1200, 3000, 4000, 9000, 20000, 27759],
    "late": 2401,
    "brier": 0.041,
    "services": [["storage", 40120], ["chat", 11020], ["relay", 900]],
}


def days(count: int, random: Random) -> list[dict[str, str]]:
    """Return `count` rows of days up to today, as a reader of the CSV has them."""
    nodes, rows = 5_000, []
    for back in reversed(range(count)):
        moves = {kind: random.randint(0, 40) for kind in ("registered", "revived", "left")}
        gone = {kind: random.randint(0, 9) for kind in ("died", "forgotten")}
        nodes += moves["registered"] - sum(gone.values())
        expected = 100 + 20 * math.sin(back / 9)
        row: dict[str, Any] = {
            "date": (date.today() - timedelta(days=back)).isoformat(),
            "nodes": nodes,
            **{
                f"by_state.{state}": round(nodes * share) for state, share in zip(STATES, SHARES, strict=True)
            },
            **moves,
            **gone,
            "returns.expected": round(expected, 1),
            "returns.happened": round(random.gauss(expected, 9)),
        }
        rows.append({name: str(value) for name, value in row.items()})
    return rows


def cohorts(months: int) -> list[dict[str, Any]]:
    return [
        {
            "registered_month": f"{2025 + month // 12}-{month % 12 + 1:02d}",
            "registered": 400,
            "here": [round(400 * 0.93**age) for age in range(months - month)],
        }
        for month in range(months)
    ]


def returns() -> list[dict[str, Any]]:
    return [
        {
            "cohort": cohort,
            "late_s": late_s,
            "events": 100,
            **{
                within: most / (1 + late_s / 1e5)
                for within, most in (("1d", 0.5), ("7d", 0.7), ("30d", 0.9), ("180d", 0.98))
            },
        }
        for cohort in ("all", "never away, heard on fewer than 3 days", "usually away for up to 12 hours")
        for late_s in LATENESSES_S
    ]


def calibration(random: Random) -> list[dict[str, Any]]:
    middles = [place / 10 + 0.05 for place in range(10)]
    return [
        {
            "pace_s": None,
            "dues": 100,
            "expected": middle,
            "happened": min(max(random.gauss(middle, 0.03), 0), 1),
        }
        for middle in middles
    ]

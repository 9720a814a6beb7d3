"""Days and months in UTC, as text such as ``2026-11-28`` and ``2026-11``. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ...wording import parse_rfc3339, rfc3339

MONTHS_PER_YEAR: Final = 12
# Enough for each census to find the months of the last one.
MONTHS_KEPT: Final = 1_024
_DAY_LENGTH: Final = len("2026-11-28")
_MONTH_LENGTH: Final = len("2026-11")


def day_at(wall_s: float) -> str:
    """Return the day of a wall time, clamped to the years 1 to 9999."""
    return rfc3339(wall_s)[:_DAY_LENGTH]


def month_of(day: str) -> str:
    """Return the month of a day."""
    return day[:_MONTH_LENGTH]


def number_of(month: str) -> int:
    """Return the number of a month; that of the next one is greater by 1."""
    return MONTHS_PER_YEAR * int(month[:4]) + int(month[5:]) - 1


def month_numbered(number: int) -> str:
    """Return the month of a number."""
    return f"{number // MONTHS_PER_YEAR:04d}-{number % MONTHS_PER_YEAR + 1:02d}"


def months_until(month: str, count: int) -> list[str]:
    """Return the last `count` months up to `month`, that one included; none before the year 1."""
    last = number_of(month)
    return [month_numbered(number) for number in range(max(MONTHS_PER_YEAR, last - count + 1), last + 1)]


@lru_cache(MONTHS_KEPT)
def begin_of(month: str) -> float:
    """Return the wall time at which a month begins."""
    return parse_rfc3339(f"{month}-01T00:00:00Z")

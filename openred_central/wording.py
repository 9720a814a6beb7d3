"""Numbers, durations and times as text; text made safe to print."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))

# RFC 3339 §5.6. Seconds since the epoch have no leap second: it counts as the next second.
RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
# The years 1 to 9999, which RFC 3339 can express.
WALL_S_MIN = -62_135_596_800.0
WALL_S_MAX = 253_402_300_799.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The times of one reply lie in few minutes: each minute is formatted once, the rest comes from tables.
_MINUTES_KEPT_MAX = 4_096
_minutes: dict[int, str] = {}
_SECONDS = tuple(f"{second:02d}." for second in range(60))
_MILLISECONDS = tuple(f"{rest:03d}Z" for rest in range(1_000))


def counted(number: int, noun: str) -> str:
    """Return `number` with its noun, whose plural takes an s, such as ``1 node`` and ``2 nodes``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """Return a duration in its two largest units; below a second, ``less than a second``."""
    parts, left_s = [], max(0.0, seconds)
    for unit, length_s in _UNITS:
        count, left_s = divmod(left_s, length_s)
        if count:
            parts.append(counted(int(count), unit))
    return " ".join(parts[:2]) or "less than a second"


def printable(text: str, *, escaped: str = "") -> str:
    """Return `text` with everything unprintable escaped as in a Python literal.

    Escapes control characters, line separators, marks of direction, unpaired surrogates, and the characters
    in `escaped`.
    """
    if text.isprintable() and not any(map(text.__contains__, escaped)):
        return text
    return "".join(
        character
        if character.isprintable() and character not in escaped
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def rfc3339(wall_s: float) -> str:
    """Return a wall time as RFC 3339 in UTC, such as ``2026-11-23T08:15:30.250Z``.

    `wall_s` are seconds since the epoch, clamped to the years 1 to 9999.
    """
    if not WALL_S_MIN <= wall_s <= WALL_S_MAX:
        wall_s = min(max(wall_s, WALL_S_MIN), WALL_S_MAX)
    minute, rest = divmod(round(wall_s * 1_000), 60_000)
    begin = _minutes.get(minute) or _format_minute(minute)
    return f"{begin}{_SECONDS[rest // 1_000]}{_MILLISECONDS[rest % 1_000]}"


def rfc3339_of_many(walls_s: Sequence[float]) -> list[str]:
    """Return the `rfc3339` of each wall time: cheaper than one by one."""
    if walls_s and not (min(walls_s) >= WALL_S_MIN and max(walls_s) <= WALL_S_MAX):
        return list(map(rfc3339, walls_s))
    begins = _minutes.get
    return [
        f"{begins(minute) or _format_minute(minute)}{_SECONDS[rest // 1_000]}{_MILLISECONDS[rest % 1_000]}"
        for minute, rest in [divmod(round(wall_s * 1_000), 60_000) for wall_s in walls_s]
    ]


def _format_minute(minute: int) -> str:
    if len(_minutes) >= _MINUTES_KEPT_MAX:
        _minutes.clear()
    shown = (_EPOCH + timedelta(minutes=minute)).replace(tzinfo=None).isoformat(timespec="minutes")
    return _minutes.setdefault(minute, f"{shown}:")


def parse_rfc3339(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 time. Raises `ValueError` for anything else."""
    # `fromisoformat` takes more: weeks, times without seconds or a zone, zones with seconds.
    if not RFC_3339.fullmatch(text):
        raise ValueError("not an RFC 3339 time")
    text = text.upper()
    leap = text[17:19] == "60"
    moment = datetime.fromisoformat(f"{text[:17]}59{text[19:]}" if leap else text)
    if not leap:
        return (moment - _EPOCH).total_seconds()
    utc = moment.astimezone(UTC)
    if (utc.hour, utc.minute) != (23, 59):
        raise ValueError("a leap second is the last one of a day in UTC")
    return float(math.floor((moment - _EPOCH).total_seconds()) + 1)

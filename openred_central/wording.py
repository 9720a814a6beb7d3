"""Numbers and durations in words, for messages to people."""

from __future__ import annotations

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


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

"""The media type that a caller prefers (RFC 9110 §12.5.1)."""

from __future__ import annotations

from typing import Final

from ...micro_engine.limits import LIST_MEMBERS_MAX
from ...micro_engine.wire.messages import JSON_TYPE

# Answers that depend on this field say so to caches (RFC 9110 §12.5.5).
VARY: Final = ("Vary", "Accept")


def prefers(accept: str, media_type: str) -> bool:
    """Return whether a field ``Accept`` (RFC 9110 §12.5.1) gives `media_type` more weight than JSON.

    JSON wins a tie, also for ``*/*``, which programs send.
    """
    weight = _weight(accept, media_type)
    return weight > 0 and weight > _weight(accept, JSON_TYPE)


def _weight(accept: str, media_type: str) -> float:
    """Return the weight of the range that fits `media_type` best, among the first hundred ranges.

    It is 0 if none fits, or the weight cannot be read.
    """
    ranges = {media_type: 2, f"{media_type.partition('/')[0]}/*": 1, "*/*": 0}
    best, weight = -1, 0.0
    for member in accept.lower().split(",", LIST_MEMBERS_MAX)[:LIST_MEMBERS_MAX]:
        name, *parameters = (piece.strip() for piece in member.split(";", LIST_MEMBERS_MAX))
        if ranges.get(name, -1) > best:
            best, weight = ranges[name], _quality(parameters)
    return weight


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            digits = parameter[2:]
            return float(digits) if digits.replace(".", "", 1).isdecimal() and digits.isascii() else 0.0
    return 1.0

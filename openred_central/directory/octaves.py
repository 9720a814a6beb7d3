"""Spans of time in one byte: an eighth of an octave a step, rounded up. Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

STEPS_PER_OCTAVE: Final = 8
SHORTEST_S: Final = 60
CODE_MAX: Final = 255
# By code. Whole seconds, so that every machine finds the same.
_SECONDS: Final = (
    0.0,
    *(float(round(SHORTEST_S * 2 ** (step / STEPS_PER_OCTAVE))) for step in range(CODE_MAX)),
)


def code_of(seconds: float) -> int:
    """Return the code of the shortest span that is not below `seconds`; `CODE_MAX` beyond the longest.

    The longest span is several thousand years. Nothing has the code 0.
    """
    return bisect_left(_SECONDS, seconds, hi=CODE_MAX)


def seconds_of(code: int) -> float:
    """Return the span, in seconds, that has this code."""
    return _SECONDS[code]

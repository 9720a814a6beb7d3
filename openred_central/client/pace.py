"""How long to wait until the next heartbeat. Pure; `chance` is a random number from 0 to 1."""

from __future__ import annotations

# Whatever a server advises, within this.
ADVICE_S_MIN = 1.0
ADVICE_S_MAX = 7 * 86_400.0
ADVICE_S = 86_400.0
# Never later than advised, up to a tenth earlier: nodes that were started together drift apart.
EARLIER = 0.1
# After a failure: doubled with each further one.
BACK_OFF_S = 1.0
BACK_OFF_S_MAX = 600.0
_DOUBLINGS_MAX = 10


def until_next(advice_s: object, chance: float) -> float:
    """Seconds until the next heartbeat, where the server advises `advice_s`."""
    advised_s: float = advice_s if isinstance(advice_s, int | float) else ADVICE_S
    pace_s = min(max(float(advised_s), ADVICE_S_MIN), ADVICE_S_MAX)
    return pace_s * (1 - EARLIER * chance)


def after_refusal(retry_after_s: float, chance: float) -> float:
    """Seconds until the next try, where the server says when: not earlier, and not all at the same moment."""
    return min(max(retry_after_s, ADVICE_S_MIN) * (1 + EARLIER * chance), ADVICE_S_MAX)


def after_failure(failures: int, chance: float) -> float:
    """Seconds until the next try after so many failures in a row, at least one.

    A random part of a time that doubles, so that those who lost one server do not all come back at once.
    """
    longest_s = min(BACK_OFF_S * 2.0 ** min(failures, _DOUBLINGS_MAX), BACK_OFF_S_MAX)
    return longest_s * (1 + chance) / 2

"""How likely a node that is not late is up. Pure.

It is a logistic model of five features: a constant, the chance of the hour in the profile of the node, its
share of dues met, the mean of its profile, and e^(-s/3600) for a silence of s seconds. The weights are
constants, fitted to the truth of simulated populations by ``python -m benchmarks prediction --fit``: dues
alone cannot tell the weight of silence, so nothing is learned here.
"""

from __future__ import annotations

from math import exp, log
from typing import Final

from ..state.habits import FULL, HOURS, NIBBLE_FULL, PROFILE_BYTES, Habits

# Weights of the first four features, for nodes that follow the advice and for others; and of the last one.
FOLLOWS: Final = (0.48, 0.73, 1.07, -0.58)
IGNORES: Final = (-0.07, 0.57, 0.29, -0.27)
SILENCE: Final = 1.88
# Weights of the hours around the one that is asked for.
SMOOTHING: Final = ((-2, 5), (-1, 11), (0, 18), (1, 11), (2, 5))
# Chances are kept away from certainty, of which the logit is infinite.
CHANCE_MIN: Final = 0.01
FADES_S: Final = 3_600.0
# By byte of a profile: the sum of its two hours.
_HOURS_SUM: Final = bytes((byte & NIBBLE_FULL) + (byte >> 4) for byte in range(256))
_PROFILE_FULL: Final = HOURS * NIBBLE_FULL


def logit(chance: float) -> float:
    """Return the logit of a chance, which is taken as `CHANCE_MIN` to 1 - `CHANCE_MIN`."""
    chance = min(max(chance, CHANCE_MIN), 1 - CHANCE_MIN)
    return log(chance / (1 - chance))


def chance_of(odds: float) -> float:
    """Return the chance of which `odds` are the logit."""
    return 1 / (1 + exp(-odds))


_ON_TIME: Final = tuple(logit(byte / FULL) for byte in range(FULL + 1))
_SMOOTH_FULL: Final = NIBBLE_FULL * sum(weight for _, weight in SMOOTHING)
_SMOOTH: Final = tuple(logit(total / _SMOOTH_FULL) for total in range(_SMOOTH_FULL + 1))


def _weighed(hour: int, place: int) -> tuple[int, ...]:
    """Return by byte of a profile at `place` the weighed sum of those of its hours that are near `hour`."""
    weights = {(hour + offset) % HOURS: weight for offset, weight in SMOOTHING}
    low, high = weights.get(2 * place, 0), weights.get(2 * place + 1, 0)
    return tuple(low * (byte & NIBBLE_FULL) + high * (byte >> 4) for byte in range(256))


# By hour: the three bytes that have the hours around it, and the weighed sum of each.
_NEARBY: Final = tuple(
    tuple((place, _weighed(hour, place)) for place in sorted({(hour + o) % HOURS // 2 for o, _ in SMOOTHING}))
    for hour in range(HOURS)
)
_MEAN: Final = tuple(logit(total / _PROFILE_FULL) for total in range(_PROFILE_FULL + 1))


def steady_odds(habits: Habits, slot: int, hour: int, *, obeys: bool) -> float:
    """Return the part of the logit that does not depend on the silence, at an hour of the day in UTC.

    `obeys` tells whether the node in `slot` follows the advice.
    """
    first, at_hour, on_time, mean = FOLLOWS if obeys else IGNORES
    profile = habits.profile[PROFILE_BYTES * slot : PROFILE_BYTES * (slot + 1)]
    (early, early_sums), (middle, middle_sums), (late, late_sums) = _NEARBY[hour]
    smooth = early_sums[profile[early]] + middle_sums[profile[middle]] + late_sums[profile[late]]
    return (
        first
        + at_hour * _SMOOTH[smooth]
        + on_time * _ON_TIME[habits.on_time[slot]]
        + mean * _MEAN[sum(profile.translate(_HOURS_SUM))]
    )


def silence_odds(silent_s: float) -> float:
    """Return the part of the logit that fades with the silence, of `silent_s` seconds."""
    return SILENCE * exp(-silent_s / FADES_S)

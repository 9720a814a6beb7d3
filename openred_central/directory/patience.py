"""How long each state lasts: longer for a node that came back from a long absence before. Pure.

The dwell times of the settings are floors. Patience follows from the record alone, and the longest absence in
it never becomes less: so no deadline comes earlier while the settings stay. A node that feigns an absence
gains time for itself alone.
"""

from __future__ import annotations

from typing import Final

from .lifecycle import LifecycleOptions, State
from .octaves import CODE_MAX, seconds_of

# A node is waited for so many times its longest absence, within the bounds.
PATIENCE_FACTOR: Final = 1.5
# The most that the setting allows, and the most by which it lengthens a coma.
FACTOR_MAX: Final = 4.0
COMA_FACTOR_MAX: Final = 1.5


class Patience:
    """The dwell time of each state, by the `Record.longest` of the node.

    No state lasts longer than `factor_max` times its time in `options`. With 1, all last exactly that.
    """

    def __init__(self, options: LifecycleOptions, factor_max: float) -> None:
        if not 1.0 <= factor_max <= FACTOR_MAX:
            raise ValueError(f"patience_factor_max is {factor_max}, allowed is 1 to {FACTOR_MAX:g}")
        self.factor_max = factor_max
        factors = {State.ACTIVE: factor_max, State.COMA: min(factor_max, COMA_FACTOR_MAX)}
        # Dwell times by state and code.
        self.dwells_s = tuple(
            _dwells_s(options.dwell_s(state) if state else 0.0, factors.get(state, 1.0)) for state in State
        )
        # Codes from these on lengthen any state, and the state of an active node.
        self.lengthens_from = min(map(_first_longer, self.dwells_s))
        self.lengthens_active_from = _first_longer(self.dwells_s[State.ACTIVE])

    def dwell_s(self, state: State, longest: int) -> float:
        """Return how long `state` lasts for a node with this `Record.longest`."""
        return self.dwells_s[state][longest]


def _dwells_s(floor_s: float, factor_max: float) -> tuple[float, ...]:
    most_s = factor_max * floor_s
    wanted_s = (PATIENCE_FACTOR * seconds_of(code) for code in range(CODE_MAX + 1))
    return tuple(max(floor_s, min(most_s, each_s)) for each_s in wanted_s)


def _first_longer(dwells_s: tuple[float, ...]) -> int:
    """Return the first code with more than the dwell time of code 0; `CODE_MAX` + 1 without any."""
    return next((code for code, each_s in enumerate(dwells_s) if each_s > dwells_s[0]), CODE_MAX + 1)

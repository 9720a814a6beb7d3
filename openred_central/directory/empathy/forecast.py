"""Expectations: whether a node is up, and when it is back. Pure.

All answers come from the habit of the node, the model of nodes that are not late (`on_time`), and that of
late ones (`returns`). Other callers are told grades, not figures: when somebody is at home is personal.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..lifecycle import DAY_S, State
from ..nodes import Nodes
from ..state.columns import picker
from ..state.habits import OBEYS_MIN
from .on_time import chance_of, silence_odds
from .paces import Paces
from .returns import Returns, cohort_of

# Sixteenths of a logit.
ODDS_PARTS: Final = 16
ODDS_MAX: Final = 127
# The chance that a late node is up after all: less for one that follows the advice.
LATE_FOLLOWS: Final = 0.01
LATE_IGNORES: Final = 0.1
# Bounds between the grades of the chance that a node is up, and what is told of each grade: its middle.
GRADES: Final = (0.05, 0.2, 0.4, 0.6, 0.75, 0.9, 0.97)
TOLD: Final = (0.03, 0.13, 0.3, 0.5, 0.68, 0.83, 0.94, 0.99)
# The score of a node during an absence that it announced.
AWAY_SCORE: Final = -2.0
# Silence adds so much to the odds, by pieces of 128 seconds, up to a time from which it adds nothing.
_PIECE_S: Final = 128
_FADING: Final = tuple(round(ODDS_PARTS * silence_odds((piece + 0.5) * _PIECE_S)) for piece in range(128))
_FADED_S: Final = _PIECE_S * (len(_FADING) - 1)
_ODDS_SPAN: Final = ODDS_MAX + 1 + max(_FADING)
# By odds, and by negative odds from the end: the score of a node that is not late.
_SCORES: Final = tuple(
    TOLD[bisect_right(GRADES, chance_of((odds if odds < _ODDS_SPAN else odds - 2 * _ODDS_SPAN) / ODDS_PARTS))]
    for odds in range(2 * _ODDS_SPAN)
)
# By odds: the score of a late node, a tenth for each tenth of its chance to be back within a day.
_LATE_SCORES: Final = tuple(
    round(chance_of((odds if odds <= ODDS_MAX else odds - 256) / ODDS_PARTS), 1) - 1 for odds in range(256)
)


def in_time_score(odds: int, silent_s: float) -> float:
    """Return the score of a node that is not late, by its odds and its silence."""
    return _SCORES[odds + _FADING[int(silent_s) // _PIECE_S]] if silent_s < _FADED_S else _SCORES[odds]


class Expected(NamedTuple):
    """The expectations of one node; times are attended seconds.

    `now` is the chance that it is up, `due_s` when its next sign of life is due or was, `back_within` the
    chance that it is heard within 1, 7, 30 and 180 days.
    """

    now: float
    late: bool
    due_s: float
    back_within: tuple[float, ...]


HORIZONS_S: Final = tuple(days * DAY_S for days in (1, 7, 30, 180))


class Forecast:
    """The answers for all nodes. `Visiting` learns them, and writes `usual_score` and `fair_from_s`."""

    def __init__(self, nodes: Nodes, paces: Paces, returns: Returns) -> None:
        self._registry, self._habits = nodes.registry, nodes.habits
        self._paces = paces
        self.returns = returns
        # The score that half of the nodes that are not late reach; until the first round of visits ends, all.
        self.usual_score = TOLD[0]
        # Until then, nodes may be late because we were away.
        self.fair_from_s = 0.0

    def is_late(self, slot: int, now_s: float) -> bool:
        """Return whether a sign of life of the node in `slot` is overdue at attended `now_s`."""
        habits, last_s = self._habits, self._registry.last_seen_s[slot]
        code, due_s = habits.paces[slot], habits.due_s[slot]
        if self._registry.states[slot] != State.ACTIVE:
            return True
        if not 0 < due_s < now_s - self._paces.slack_s[code] or now_s < self.fair_from_s:
            return False
        if habits.follows(slot):
            return last_s < due_s - self._paces.ahead_s[code]
        # Its due follows from its last sign of life: one since the last visit has moved it.
        return last_s < habits.seen_s[slot] + 1

    def chance(self, slot: int, now_s: float) -> float:
        """Return the chance that the node in `slot` is up at attended `now_s`."""
        if self._registry.is_away(slot, now_s):
            return 0.0
        if self.is_late(slot, now_s):
            return LATE_FOLLOWS if self._habits.follows(slot) else LATE_IGNORES
        silent_s = now_s - self._registry.last_seen_s[slot]
        return chance_of(self._habits.odds[slot] / ODDS_PARTS + silence_odds(silent_s))

    def back_within(self, slot: int, now_s: float, horizon_s: float) -> float:
        """Return the chance that the node in `slot` is up within `horizon_s` from attended `now_s`."""
        cohort = cohort_of(self._habits, slot)
        if self.is_late(slot, now_s):
            late_s = now_s - (self._habits.due_s[slot] or self._registry.last_seen_s[slot])
            return self.returns.chance(cohort, max(late_s, 0.0), horizon_s)
        return 1 - (1 - self.chance(slot, now_s)) * (1 - self.returns.chance(cohort, 0.0, horizon_s))

    def expected(self, slot: int, now_s: float) -> Expected:
        """Return all that is expected of the node in `slot` at attended `now_s`."""
        return Expected(
            self.chance(slot, now_s),
            self.is_late(slot, now_s),
            float(self._habits.due_s[slot]),
            tuple(self.back_within(slot, now_s, horizon_s) for horizon_s in HORIZONS_S),
        )

    def scores(self, slots: Sequence[int], now_s: float) -> list[float]:
        """Return the score of each of `slots`; the higher, the better.

        It is the middle of the grade of the chance that the node is up; for a late node that chance of a
        return within a day, in tenths, less 1; and `AWAY_SCORE` during an announced absence.
        """
        registry, habits = self._registry, self._habits
        # Column by column, so that the processor fetches the memory of many nodes at once.
        pick = picker(slots)
        rows = zip(
            *(pick(registry.last_seen_s), pick(habits.due_s), pick(habits.odds), pick(habits.paces)),
            *(pick(registry.states), pick(habits.obeys), pick(habits.seen_s)),
            strict=True,
        )
        slack_s, ahead_s, active = self._paces.slack_s, self._paces.ahead_s, int(State.ACTIVE)
        fair = now_s >= self.fair_from_s
        found = [
            _LATE_SCORES[odds]
            if state != active
            or (
                0 < due_s < now_s - slack_s[code]
                and last_s < (due_s - ahead_s[code] if obeys >= OBEYS_MIN else seen_s + 1)
                and fair
            )
            # `in_time_score` written out, because each discovery needs it for many nodes.
            else _SCORES[odds + _FADING[int(silent_s) // _PIECE_S]]
            if (silent_s := now_s - last_s) < _FADED_S
            else _SCORES[odds]
            for last_s, due_s, odds, code, state, obeys, seen_s in rows
        ]
        if registry.has_absences:
            for place, slot in enumerate(slots):
                if registry.is_away(slot, now_s):
                    found[place] = AWAY_SCORE
        return found

    def told(self, score: float) -> str:
        """Return what everybody is told of a node with `score`, as members of a JSON object."""
        return _TOLD[score]


_TOLD: Final = {
    **{score: f'"availability":{score},"late":false' for score in TOLD},
    AWAY_SCORE: '"availability":0.0,"late":false',
    **{
        score: f'"availability":{LATE_FOLLOWS},"late":true,"back_within_day":{round(score + 1, 1)}'
        for score in set(_LATE_SCORES)
    },
}

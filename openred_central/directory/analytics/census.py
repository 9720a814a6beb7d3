"""A census: all nodes counted at one moment, in pieces that hold up nobody. Pure.

The numbers of nodes by state and of transitions, and the services, are taken at once when it begins. All else
is counted slot by slot within the next seconds. Nothing is kept in step with each change, so nothing drifts.

Beyond the nodes in each state, which everybody may see anyway, a census counts only nodes that can be found:
nobody learns of a hidden node by subtracting the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any, Final

from ...clock import Now
from ...wording import rfc3339
from ..empathy.forecast import AWAY_SCORE, TOLD, Forecast
from ..lifecycle import DAY_S, LIVE_STATES
from ..nodes import Nodes
from ..state.habits import DAYS_KNOWN
from .calendar import begin_of, day_at, month_of, months_until

# Slots that are counted in one piece of work; then requests get a turn.
PIECE_SLOTS: Final = 256
# Days within which nodes were heard.
HEARD_DAYS: Final = (1, 7, 30)
# Months of registration that are told apart; earlier ones are left out.
MONTHS_MAX: Final = 240
# Services are told of this many, and only those that enough nodes offer: nobody can be told by a service.
SERVICES_MAX: Final = 20
OFFERING_MIN: Final = 5
_GRADES: Final = {told: number for number, told in enumerate(TOLD)}


class Census:
    """The census of the moment `now`; `forecast` is None where no habits are remembered.

    `flows` are the transitions of this run until that moment, by (from, to, reason).
    """

    def __init__(self, nodes: Nodes, forecast: Forecast | None, now: Now) -> None:
        self.now = now
        self._nodes, self._registry, self._forecast = nodes, nodes.registry, forecast
        self.flows = Counter(nodes.transitions.counts)
        self._states = {state.wire: nodes.registry.state_counts[state] for state in LIVE_STATES}
        self._listed = len(nodes.index)
        self._services = nodes.index.offered(SERVICES_MAX, OFFERING_MIN)
        # Later slots are of nodes that registered since.
        self._slots_count = nodes.registry.slots_count
        self._next_slot = 0
        self._heard = [0] * len(HEARD_DAYS)
        self._away = self._late = self._became_late = self._known = 0
        self._grades = [0] * len(TOLD)
        self._months = months_until(month_of(day_at(now.wall_s)), MONTHS_MAX)
        self._begins_at = list(map(begin_of, self._months))
        self._here, self._heard_lately = [0] * len(self._months), [0] * len(self._months)

    def count(self, now: Now) -> bool:
        """Count the next piece. Return whether it was the last one."""
        end = min(self._next_slot + PIECE_SLOTS, self._slots_count)
        states = self._registry.states
        slots = [slot for slot in range(self._next_slot, end) if states[slot]]
        self._next_slot = end
        listed = list(compress(slots, self._registry.discoverable(slots)))
        self._count_heard(listed, now)
        self._count_months(slots, set(listed), now)
        if self._forecast is not None and listed:
            self._count_expected(self._forecast, listed, now)
        return end >= self._slots_count

    def _count_heard(self, listed: Sequence[int], now: Now) -> None:
        last_seen_s, heard = self._registry.last_seen_s, self._heard
        for slot in listed:
            silent_s = now.attended_s - last_seen_s[slot]
            for place, days in enumerate(HEARD_DAYS):
                heard[place] += silent_s <= days * DAY_S

    def _count_months(self, slots: Sequence[int], listed: set[int], now: Now) -> None:
        registry, begins_at = self._registry, self._begins_at
        for slot in slots:
            at = registry.registered_at[slot]
            place = bisect_right(begins_at, at) - 1
            if place < 0 or at > self.now.wall_s:
                continue
            self._here[place] += 1
            silent_s = now.attended_s - registry.last_seen_s[slot]
            self._heard_lately[place] += slot in listed and silent_s <= HEARD_DAYS[-1] * DAY_S

    def _count_expected(self, forecast: Forecast, listed: Sequence[int], now: Now) -> None:
        habits = self._nodes.habits
        for slot, score in zip(listed, forecast.scores(listed, now.attended_s), strict=True):
            self._known += habits.days[slot] >= DAYS_KNOWN
            grade = _GRADES.get(score)
            if grade is not None:
                self._grades[grade] += 1
            elif score == AWAY_SCORE:
                self._away += 1
            else:
                self._late += 1
                due_s = habits.due_s[slot]
                self._became_late += due_s > now.attended_s - DAY_S

    def stock(self) -> dict[str, Any]:
        """Return what was found, as members of the row of a day."""
        knows = self._forecast is not None
        return {
            "counted_at": rfc3339(self.now.wall_s),
            "nodes": sum(self._states.values()),
            "by_state": self._states,
            "listed": self._listed,
            "heard": {f"{days}d": count for days, count in zip(HEARD_DAYS, self._heard, strict=True)},
            "away": self._away if knows else None,
            "late": self._late if knows else None,
            "became_late": self._became_late if knows else None,
            "known": self._known if knows else None,
            "availability": self._grades if knows else None,
            "services": self._services,
        }

    def by_month(self) -> dict[str, list[int]]:
        """Return, by month of registration, how many nodes are here, and how many of them were heard."""
        rows = zip(self._months, self._here, self._heard_lately, strict=True)
        return {month: [here, heard] for month, here, heard in rows if here}

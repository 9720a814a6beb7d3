"""The visits: once an attended hour the directory looks at each node, and learns from what it finds.

Signs of life cost nothing more than before: a visit sees from the last one whether the due was met. A chunk
of slots is stored at a time, and visited in small pieces, so that no request waits long. No visit changes the
state of a node.
"""

from __future__ import annotations

from array import array
from collections import Counter
from functools import partial
from math import ceil, inf
from typing import Final

from ...clock import Now
from ..life.pace import ADVICE_MAX
from ..lifecycle import DAY_S, State
from ..nodes import Nodes
from ..octaves import SHORTEST_S
from ..state.habits import (
    CHUNK_SLOTS,
    FULL,
    HOURS,
    LATE,
    NEED_SHIFT,
    PACE_CODES,
    RETURNED,
    SLOWEST,
    UNCHANGED,
    URGENT,
    Noise,
    tag_of,
)
from ..state.node import HELD, LEFT, UNREMEMBERED, is_discoverable
from .calibration import Calibration
from .forecast import ODDS_MAX, ODDS_PARTS, TOLD, Forecast, in_time_score
from .on_time import chance_of, logit, silence_odds, steady_odds
from .paces import Paces
from .pacing import QUICK, Pacing, need_of
from .returns import Returns, cohort_of
from .watch import Watch

HOUR_S: Final = 3_600.0
# Visits come this often within the tolerance, where it is short.
VISITS_PER_TOLERANCE: Final = 48
VISITS_PER_DAY: Final = 24
# After a start or a hold, clients need this time to come back: nobody is blamed meanwhile.
WARM_S: Final = 1_200.0
# A chunk is stored this long after it was stored last.
STORED_AFTER_S: Final = 6 * HOUR_S
# Slots that are visited in one piece of work; then requests get a turn. They divide a chunk.
PIECE_SLOTS: Final = 16
# A node that sends heartbeats ahead of its due tells less of the hour, since it chose the moment.
EARLY_WEIGHT: Final = 0.25
# Names of kept values: the chunk of a number, the returns of all nodes, and how good the chances are.
HABITS: Final = "habits"
RETURNS: Final = "returns"
CALIBRATION: Final = "calibration"
# Nobody expects to hear these.
_EXCUSED: Final = HELD | LEFT


class Visiting:
    """The visits of all nodes, in turn, `visit_s` attended seconds apart for each.

    `watch` hears of each due that was met or missed.
    """

    def __init__(
        self,
        nodes: Nodes,
        paces: Paces,
        forecast: Forecast,
        pacing: Pacing,
        watch: Watch,
        *,
        tolerance_s: float,
    ) -> None:
        self._nodes, self._registry, self._habits = nodes, nodes.registry, nodes.habits
        self._paces, self._forecast, self._pacing = paces, forecast, pacing
        self._watch = watch
        self._returns: Returns = forecast.returns
        self.visit_s = min(HOUR_S, tolerance_s / VISITS_PER_TOLERANCE)
        self.calibration = Calibration(PACE_CODES)
        self.visits = self.broken = 0
        # Nodes that were late, and that follow the advice, at the last visit of each chunk.
        self._late, self._obeying = array("H"), array("H")
        # By chunk: when it was visited, passed through for the day, and stored; 0 for never in this run.
        self._visited_s, self._passed_s, self._stored_s = array("d"), array("d"), array("d")
        self._next_slot = 0
        # Facts about the chunk whose visit is under way.
        self._is_first = self._is_daily = False
        self._round_s: float | None = None
        # When this run began.
        self._began_s = inf
        # How many nodes that are not late have each score, in this round.
        self._scores: Counter[float] = Counter()

    @property
    def late(self) -> int:
        """Number of nodes that were late when they were visited last."""
        return sum(self._late)

    @property
    def obeying(self) -> int:
        """Number of nodes that followed the advice when they were visited last."""
        return sum(self._obeying)

    @property
    def advised_per_s(self) -> float:
        """Heartbeats a second that nodes were advised to send, by the last round of visits."""
        return self._pacing.advised_per_s

    def begin(self) -> None:
        """Tell all nodes, of which nothing is known yet, a pace that the budget bears."""
        self._pacing.count(QUICK, len(self._registry))
        self._pacing.end_round()
        self._habits.pace_first = self._pacing.code(QUICK)
        self._habits.paces[:] = bytes([self._habits.pace_first]) * len(self._habits.paces)

    def resumed(self, now_s: float) -> None:
        """Blame nobody for what was not heard until attended `now_s`, nor for a while after that."""
        self._began_s = min(self._began_s, now_s)
        self._forecast.fair_from_s = now_s + min(WARM_S, self.visit_s)

    def next_s(self, now_s: float) -> float:
        """Return when the next piece is to be visited, in attended seconds."""
        if self._round_s is None:
            self._round_s = now_s
        return self._round_s + self.visit_s * self._next_slot / max(1, len(self._habits.paces))

    def visit(self, now: Now) -> None:
        """Visit the next piece: some slots of a chunk."""
        if self._round_s is None:
            self._round_s = now.attended_s
        slot = self._next_slot
        if slot < len(self._habits.paces):
            chunk, place = divmod(slot, CHUNK_SLOTS)
            if not place:
                self._open(chunk, now.attended_s)
            self._visit_slots(range(slot, min(slot + PIECE_SLOTS, self._registry.slots_count)), now)
            self._habits.touched[chunk] = 1
            self._watch.regroup(now)
            if place + PIECE_SLOTS >= CHUNK_SLOTS:
                self._close(chunk, now.attended_s)
        self._next_slot = slot + PIECE_SLOTS
        if self._next_slot >= len(self._habits.paces):
            self._next_slot = 0
            # Visits that are far behind do not follow each other without a pause.
            self._round_s = max(self._round_s + self.visit_s, now.attended_s)
            self._returns.refresh()
            self._forecast.usual_score = self._median_score()
            self._pacing.end_round()
            self._habits.pace_first = self._pacing.code(QUICK)

    def visit_ahead(self, slot: int, now: Now) -> None:
        """Learn of one node that nothing excuses ahead of its turn, but not before the first of its chunk.

        All that is counted in a round waits for that.
        """
        chunk = slot // CHUNK_SLOTS
        if chunk < len(self._visited_s) and self._visited_s[chunk] and self._registry.states[slot]:
            self._learn(slot, now)
            if self._habits.bits[slot] & LATE:
                self._renew_late_odds(slot, now.attended_s)
            else:
                self._renew_odds(slot, now)

    def note_all(self) -> None:
        """Note all chunks that changed since they were stored: the server stops."""
        for chunk, change in enumerate(self._habits.changes):
            self._make_room(chunk)
            if change:
                self._note(chunk, self._visited_s[chunk])
        self._note_returns()
        self._nodes.kept.note(CALIBRATION, self.calibration.packed)

    def restore(self, name: str, value: bytes) -> None:
        """Take what was stored under `name`. Raise `ValueError` for a value that was never stored there."""
        if name == RETURNS:
            self._returns.unpack(value)
            return
        if name == CALIBRATION:
            self.calibration.unpack(value)
            return
        chunk = int(name.removeprefix(f"{HABITS}/"), 16)
        if name != _name_of(chunk):
            raise ValueError("no chunk of habits has this name")
        # A chunk beyond the last slot has the habits of nodes that are no more.
        if chunk < self._habits.chunks:
            self._make_room(chunk)
            self._passed_s[chunk] = self._habits.unpack(chunk, value)
            for slot in range(chunk * CHUNK_SLOTS, (chunk + 1) * CHUNK_SLOTS):
                if self._habits.seen_s[slot] and not self._is_of_node(slot):
                    self._habits.forget(slot)

    def _is_of_node(self, slot: int) -> bool:
        """Return whether the habit in `slot` is of its node: a kill may have kept its end from the store."""
        registry = self._registry
        return (
            slot < registry.slots_count
            and registry.states[slot] != State.ABSENT
            and not registry.flags[slot] & UNREMEMBERED
            and self._habits.tags[slot] == tag_of(registry.node_id(slot))
        )

    def _note_returns(self) -> None:
        self._nodes.kept.note(RETURNS, self._returns.packed)

    def _note(self, chunk: int, now_s: float) -> None:
        self._habits.changes[chunk], self._stored_s[chunk] = UNCHANGED, now_s
        pack = partial(self._habits.pack, chunk, self._passed_s[chunk])
        self._nodes.kept.note(_name_of(chunk), pack)

    def _make_room(self, chunk: int) -> None:
        while len(self._visited_s) <= chunk:
            for column in (self._visited_s, self._passed_s, self._stored_s, self._late, self._obeying):
                column.append(0)

    def _open(self, chunk: int, now_s: float) -> None:
        """Begin the visit of a chunk."""
        self._make_room(chunk)
        self._is_first = not self._visited_s[chunk]
        # The stored time may be ahead: a kill or an older snapshot sets attended time back.
        self._passed_s[chunk] = min(self._passed_s[chunk] or now_s, now_s)
        self._is_daily = now_s - self._passed_s[chunk] >= (VISITS_PER_DAY - 0.5) * self.visit_s
        self._late[chunk] = self._obeying[chunk] = 0

    def _close(self, chunk: int, now_s: float) -> None:
        """End the visit of a chunk, and note for the store what changed."""
        self._visited_s[chunk] = now_s
        self.visits += 1
        if self._is_daily:
            if not chunk:
                self._returns.age(now_s - self._passed_s[chunk])
                self._note_returns()
            self._passed_s[chunk] = now_s
        change, stored_s = self._habits.changes[chunk], self._stored_s[chunk]
        if change == URGENT or (change and now_s - stored_s >= STORED_AFTER_S):
            self._note(chunk, now_s)
        elif not stored_s:
            self._stored_s[chunk] = now_s

    def _visit_slots(self, slots: range, now: Now) -> None:
        registry, habits, now_s, away = self._registry, self._habits, now.attended_s, self._registry.away
        for slot in slots:
            flags = registry.flags[slot]
            if not registry.states[slot]:
                continue
            if flags & UNREMEMBERED:
                habits.paces[slot] = SLOWEST
                self._pacing.count(SLOWEST)
                continue
            try:
                if flags & _EXCUSED or (slot in away and registry.is_away(slot, now_s)):
                    self._excuse(slot, now_s)
                else:
                    self._visit_slot(slot, flags, now)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                # One broken habit is begun anew, and stops nobody else's.
                self.broken += 1
                habits.forget(slot)

    def _visit_slot(self, slot: int, flags: int, now: Now) -> None:
        habits, chunk, is_daily = self._habits, slot // CHUNK_SLOTS, self._is_daily
        was_late = habits.bits[slot] & LATE
        if self._is_first:
            self._look_first(slot, self._registry.last_seen_s[slot], now)
        else:
            self._learn(slot, now)
        if habits.bits[slot] & LATE:
            self._late[chunk] += 1
            # The odds of a node that stays late hardly change.
            if is_daily or self._is_first or not was_late:
                self._renew_late_odds(slot, now.attended_s)
        else:
            odds = self._renew_odds(slot, now)
            if is_discoverable(flags):
                self._scores[in_time_score(odds, now.attended_s - self._registry.last_seen_s[slot])] += 1
            self._pacing.count(habits.bits[slot] >> NEED_SHIFT)
        self._obeying[chunk] += habits.follows(slot)
        if is_daily:
            self._pass(slot, flags, now.attended_s)

    def _learn(self, slot: int, now: Now) -> None:
        """Learn from what was heard of a node since its last visit, or was not."""
        habits, last_s = self._habits, self._registry.last_seen_s[slot]
        seen_s, slack_s = habits.seen_s[slot], self._paces.slack_s[habits.paces[slot]]
        if not seen_s:
            self._begin(slot, last_s)
        elif last_s >= seen_s + 1:
            self._fold(slot, last_s, now)
        elif not habits.bits[slot] & LATE and now.attended_s > habits.due_s[slot] + slack_s:
            self._miss(slot, now)

    def _excuse(self, slot: int, now_s: float) -> None:
        """Expect a node only some time after what excuses it now."""
        habits, pace_s = self._habits, self._paces.seconds[self._habits.paces[slot]]
        if not habits.seen_s[slot]:
            self._begin(slot, self._registry.last_seen_s[slot])
        habits.due_s[slot] = ceil(max(now_s, self._registry.away_s(slot)[1]) + pace_s)
        habits.bits[slot] &= ~LATE

    def _begin(self, slot: int, last_s: float) -> None:
        """Begin the habit of a node that has none."""
        self._habits.begin(slot, self._registry.node_id(slot), max(1, int(last_s)))
        self._expect(slot, last_s)

    def _look_first(self, slot: int, last_s: float, now: Now) -> None:
        """Look at a node for the first time in this run, in which what was stored may be some hours old."""
        habits, seen_s, code = self._habits, self._habits.seen_s[slot], self._habits.paces[slot]
        if not seen_s:
            self._begin(slot, last_s)
            if last_s < self._began_s:
                # Nobody knows any more which pace it was told.
                slowest_s = ceil(last_s + ADVICE_MAX * self._paces.seconds[SLOWEST])
                habits.due_s[slot] = max(habits.due_s[slot], slowest_s)
            return
        unseen_s = STORED_AFTER_S + 1.5 * self._paces.seconds[code] + self._paces.slack_s[code]
        if last_s - seen_s > unseen_s:
            noise = Noise(slot, seen_s)
            habits.came_back(slot, last_s - seen_s - unseen_s, noise)
            self._nodes.raise_longest(slot, last_s - seen_s - unseen_s)
        if last_s >= seen_s + 1 or seen_s > last_s + 1:
            # A kill may have lost the sign of life that was seen.
            self._expect(slot, last_s)
        if now.attended_s > habits.due_s[slot] + self._paces.slack_s[code]:
            # Late, but nobody saw whether it could have been heard.
            habits.bits[slot] |= LATE

    def _expect(self, slot: int, last_s: float) -> None:
        """Note the sign of life at `last_s` as seen, and when the next one is due."""
        habits = self._habits
        # 0 is for a slot without a habit.
        habits.seen_s[slot] = int(last_s) or 1
        habits.due_s[slot] = ceil(
            self._paces.due_s(
                slot,
                last_s,
                habits.paces[slot],
                self._registry.usual_gap_s[slot],
                obeys=habits.follows(slot),
            )
        )
        habits.bits[slot] &= ~LATE
        habits.change(slot)

    def _fold(self, slot: int, last_s: float, now: Now) -> None:
        """Take in that a node was heard since the last visit, at `last_s` for the last time."""
        habits, paces = self._habits, self._paces
        seen_s, due_s, code = habits.seen_s[slot], habits.due_s[slot], habits.paces[slot]
        noise, hour = Noise(slot, int(last_s)), self._hour(slot)
        follows, was_late = habits.follows(slot), habits.bits[slot] & LATE
        told_s = due_s if follows else seen_s + paces.each[code].advice_s(slot, seen_s)
        slack_s = paces.slack_s[code]
        if not was_late:
            told_s = self._last_due_s(slot, told_s, last_s, code)
            due_s = max(due_s, ceil(told_s)) if follows else due_s
        if last_s > told_s + slack_s:
            if not follows and not was_late:
                habits.ignored(slot, noise)
        elif last_s >= told_s - paces.early_s[code]:
            habits.obeyed(slot, noise)
        if follows and last_s < due_s - paces.early_s[code] and not was_late:
            # A sign of life and nothing else: a node that starts often must not spoil its own record.
            habits.was_up(slot, hour, EARLY_WEIGHT, noise)
        elif last_s <= due_s + slack_s or due_s < self._forecast.fair_from_s:
            if due_s >= self._forecast.fair_from_s:
                if follows:
                    self._sample(slot, seen_s, due_s, True, now)
                habits.met(slot, noise)
            habits.was_up(slot, hour, 1.0, noise)
        else:
            if not was_late:
                self._charge(slot, noise, now)
            self._return(slot, last_s, noise)
            habits.was_up(slot, hour, EARLY_WEIGHT, noise)
        if habits.days[slot] < FULL and last_s // DAY_S != seen_s // DAY_S:
            habits.days[slot] += 1
        self._expect(slot, last_s)

    def _median_score(self) -> float:
        """Return the score that half of the nodes that are not late reach, and begin to count anew."""
        half, reached, found = self._scores.total() / 2, 0, TOLD[-1]
        for score, count in sorted(self._scores.items(), reverse=True):
            reached, found = reached + count, score
            if reached >= half:
                break
        self._scores.clear()
        return found

    def _last_due_s(self, slot: int, due_s: float, last_s: float, code: int) -> float:
        """Return the last due, from `due_s` on, that a sign of life at `last_s` may have met.

        Several may have passed since the last visit. A node that missed one would hardly be heard just when
        another comes.
        """
        last_due_s = self._paces.each[code].last_due_s(slot, last_s + self._paces.early_s[code])
        return last_due_s if last_due_s - due_s >= self._paces.ahead_s[code] else due_s

    def _miss(self, slot: int, now: Now) -> None:
        """Take in that a due has passed without a sign of life."""
        self._habits.bits[slot] |= LATE
        self._habits.change(slot)
        if self._habits.due_s[slot] >= self._forecast.fair_from_s:
            self._charge(slot, Noise(slot, self._habits.due_s[slot]), now)

    def _charge(self, slot: int, noise: Noise, now: Now) -> None:
        habits = self._habits
        if habits.follows(slot):
            self._sample(slot, habits.seen_s[slot], habits.due_s[slot], False, now)
        habits.missed(slot, noise)

    def _sample(self, slot: int, seen_s: int, due_s: int, met: bool, now: Now) -> None:
        """Compare what was expected of the due at `due_s` with what happened."""
        habits = self._habits
        hour = int((now.wall_at(due_s) // HOUR_S) % HOURS)
        odds = steady_odds(habits, slot, hour, obeys=True) + silence_odds(due_s - seen_s)
        chance = chance_of(odds)
        self.calibration.add(habits.paces[slot], chance, happened=met)
        self._watch.sample(slot, chance, met, now)

    def _return(self, slot: int, last_s: float, noise: Noise) -> None:
        """Take in that a node came back at `last_s`, after its due."""
        habits = self._habits
        seen_s, due_s = habits.seen_s[slot], habits.due_s[slot]
        if not habits.bits[slot] & RETURNED:
            habits.bits[slot] |= RETURNED
            since_s = min(max(self._passed_s[slot // CHUNK_SLOTS] - due_s, 0.0), last_s - due_s)
            self._returns.expose(cohort_of(habits, slot), since_s, last_s - due_s, returned=True)
        first_hour = int((self._registry.last_seen_at[slot] - (last_s - due_s)) // HOUR_S % HOURS)
        habits.was_down(slot, first_hour, int((last_s - due_s) // HOUR_S), noise)
        habits.came_back(slot, last_s - due_s, noise)
        if last_s - seen_s >= SHORTEST_S:
            self._nodes.raise_longest(slot, last_s - seen_s)

    def _renew_odds(self, slot: int, now: Now) -> int:
        """Write the odds of a node that is not late, in the middle of the time until its next visit."""
        habits = self._habits
        hour = int((now.wall_s + self.visit_s / 2) // HOUR_S % HOURS)
        odds = round(ODDS_PARTS * steady_odds(habits, slot, hour, obeys=habits.follows(slot)))
        # Comparisons, because `min` and `max` are slower.
        odds = -ODDS_MAX if odds < -ODDS_MAX else ODDS_MAX if odds > ODDS_MAX else odds
        habits.odds[slot] = odds
        return odds

    def _renew_late_odds(self, slot: int, now_s: float) -> None:
        """Write the odds that a late node is back within a day."""
        habits = self._habits
        late_s = max(0.0, now_s - habits.due_s[slot])
        habits.odds[slot] = round(
            ODDS_PARTS * logit(self._returns.chance(cohort_of(habits, slot), late_s, DAY_S))
        )

    def _pass(self, slot: int, flags: int, now_s: float) -> None:
        """Do what is due once a day: count the time that a node was late, and choose its pace."""
        habits = self._habits
        late = habits.bits[slot] & LATE
        if late and not habits.bits[slot] & RETURNED and now_s > habits.due_s[slot]:
            late_s = now_s - habits.due_s[slot]
            since_s = max(0.0, self._passed_s[slot // CHUNK_SLOTS] - habits.due_s[slot])
            self._returns.expose(cohort_of(habits, slot), since_s, late_s, returned=False)
        need = habits.bits[slot] >> NEED_SHIFT
        if not late:
            need = need_of(
                need,
                habits.days[slot],
                habits.on_time[slot],
                discoverable=is_discoverable(flags),
            )
        habits.bits[slot] = need << NEED_SHIFT | late
        if not late:
            code = self._pacing.code(need)
            if code != habits.paces[slot]:
                # The due that the node was told stands until it is heard again.
                habits.paces[slot] = code
                # A server that does not know what a node was told misjudges it.
                habits.changes[slot // CHUNK_SLOTS] = URGENT

    def _hour(self, slot: int) -> int:
        """Return the hour of the day, in UTC, in which the node was heard last."""
        return int(self._registry.last_seen_at[slot] // HOUR_S % HOURS)


def _name_of(chunk: int) -> str:
    """Return the name under which a chunk is kept."""
    return f"{HABITS}/{chunk:08x}"

"""The end of a state by silence: nodes move on when their deadline comes, unless we must doubt ourselves.

A crowded directory also lets go of nodes that were never heard since they registered.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from operator import add, not_
from typing import Final, NamedTuple

from ...clock import Now
from ...errors import InternalBug
from ..lifecycle import (
    DEADLINE_STEPS_PER_S,
    LIVE_STATES,
    STATES,
    TABLE,
    Event,
    State,
    deadline_s,
    next_state,
)
from ..nodes import Nodes
from ..state.node import HELD, LEFT, PROVEN, Profile
from ..state.registry import Registry
from .attendance import Attendance
from .mass_silence import MassSilence, MassSilenceOptions

# A probe without an answer after this time counts as unanswered, whatever became of it.
PROBE_ANSWER_S: Final = 60.0
# Delay of a probe that we could not make, or of a death that we may not decide, for our own reasons.
POSTPONE_S: Final = 300.0
# From this many expired nodes on, changing their state together is cheaper.
TOGETHER_MIN: Final = 8
# The errors that a broken record may raise in any code that reads it.
BROKEN: Final = (InternalBug, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

CROWDED_SHARE: Final = 0.9
UNHEARD_S: Final = 48 * 3_600.0
# Slots that each new node looks at: all have been looked at before the last tenth of the directory is full.
LOOKED_AT: Final = 64
# Slots that a new node looks at if no place is left at all.
LOOKED_AT_WHEN_FULL: Final = 1_024
# More than one, so that a nearly full directory becomes emptier.
GIVEN_UP_MAX: Final = 2


class ProbeRequest(NamedTuple):
    """A node to probe. `Expiry.probed` takes the answer."""

    slot: int
    node_id: str
    address: str
    port: int


class Expiry:
    """Handler of deadlines that have come, in bounded pieces. With `probing`, it probes before it acts."""

    def __init__(self, nodes: Nodes, silence: MassSilenceOptions, *, probing: bool) -> None:
        self._nodes = nodes
        self._probing = probing
        self.silence = MassSilence(silence)
        self.attendance = Attendance(silence.all_silent_s)
        self.probe_requests: deque[ProbeRequest] = deque()
        # Due slots whose probe is under way, with the id of the node, and those whose probe or death was
        # postponed.
        self.asked: dict[int, str] = {}
        self.postponed: set[int] = set()
        # Due slots that wait for the end of a hold, or for the next pass after it. An entry of the queue
        # counts only while its slot is in the set.
        self._waiting_queue: deque[int] = deque()
        self.waiting: set[int] = set()
        # Waiting slots that count as silent already, because they changed state within the hour.
        self._waiting_counted: set[int] = set()
        # False while another process may have heard nodes, and not told. Then nobody dies.
        self.may_bury: Callable[[], bool] = lambda: True
        # Slots whose transition failed, with the error. They are left alone until the node is heard.
        self.set_aside: dict[int, str] = {}

    def next_s(self) -> float | None:
        """Return the time of the next deadline, in attended seconds; None without any."""
        times = (self._nodes.deadlines.next_s(), self._nodes.tombstones.next_s())
        return min((time for time in times if time is not None), default=None)

    def expire_due(self, now: Now, limit: int) -> int:
        """Handle up to `limit` deadlines. If fewer were handled, no more can be handled now."""
        held = self.silence.hold is not None
        blocked, handled = held, 0
        while handled < limit:
            slots, passed = self._next_due(now, limit - handled, blocked=blocked)
            if not passed:
                break
            handled += passed
            for slot in self._advance_all(slots, now):
                try:
                    blocked |= not self._look_at(slot, now)
                except Exception as error:  # noqa: BLE001
                    # One broken record must not stop the life cycle of all others.
                    self._nodes.deadlines.disarm(slot)
                    self.set_aside[slot] = f"{type(error).__name__}: {error}"
        if handled == limit:
            return handled
        if held:
            waiting = len(self.waiting) - len(self._waiting_counted)
            self.silence.reconsider(waiting, len(self._nodes.registry), now.attended_s, now.monotonic_s)
        elif not blocked and not self.asked:
            self.silence.caught_up()
        return handled + self._expire_tombstones(now, limit - handled)

    def probed(self, slot: int, node_id: str, *, alive: bool | None, now: Now) -> None:
        """Take the answer to a probe, in time or late; harmless if the node is no more.

        `alive` is None if the probe could not be made, which is not the node's fault.
        """
        if alive is None:
            self.postpone(slot, node_id, now)
            return
        registry = self._nodes.registry
        awaited = self.asked.get(slot) == node_id
        if not alive:
            if awaited:
                # The next piece of work finds the node due and unanswered.
                self._nodes.deadlines.arm(slot, now.attended_s)
        elif awaited or (
            # A late answer is a sign of life, too, unless the node has left in the meantime.
            not registry.is_free(slot)
            and registry.node_id(slot) == node_id
            and not registry.flags[slot] & LEFT
        ):
            self.sign_of_life(slot, Event.SIGN_OF_LIFE, now)

    def postpone(self, slot: int, node_id: str, now: Now) -> None:
        """Postpone the probe of a node by `POSTPONE_S`, because it cannot be made now."""
        if self.asked.get(slot) == node_id:
            del self.asked[slot]
            self.postponed.add(slot)
            self._nodes.deadlines.disarm(slot)
            self._nodes.deadlines.arm(slot, now.attended_s + POSTPONE_S)

    def sign_of_life(self, slot: int, event: Event, now: Now) -> State:
        """Make the node in `slot` active, because it was heard. Return the state that it was in.

        The last sign of life never goes back in attended time; its wall time is that of the latest one.
        """
        registry = self._nodes.registry
        gap_s = now.attended_s - registry.last_seen_s[slot]
        if gap_s >= 0:
            registry.last_seen_s[slot] = now.attended_s
            registry.last_seen_at[slot] = now.wall_s
        self._nodes.changes.heard.add(slot)
        state = registry.state(slot)
        if state is not State.ACTIVE:
            flags = registry.flags[slot]
            if flags & LEFT:
                self._nodes.rewrite(registry.record(slot)._replace(flags=flags & ~LEFT))
            self._nodes.enter(slot, event, at=now.wall_s, at_s=now.attended_s)
            self.let_go(slot)
        elif self.questions(slot):
            self.let_go(slot)
        return state

    def questions(self, slot: int) -> bool:
        """Return whether the life of the node in `slot` is in question until its next sign of life."""
        return slot in self.waiting or slot in self.asked or slot in self.postponed or slot in self.set_aside

    def let_go(self, slot: int) -> None:
        """End all doubts about the node in `slot`, because it was heard; its deadline counts again."""
        self.silence.returned(slot)
        self.waiting.discard(slot)
        self._waiting_counted.discard(slot)
        self.asked.pop(slot, None)
        self.postponed.discard(slot)
        self.set_aside.pop(slot, None)
        self._nodes.deadlines.arm(slot, self._nodes.deadline_s(slot))

    def release_hold(self, now: Now) -> bool:
        """End all holds on an operator's word. Return whether there was one."""
        released = self.attendance.release()
        if self.silence.hold is not None:
            self.silence.release(now.attended_s)
            released = True
        return released

    def attend(self, now: Now) -> bool:
        """Return whether attended time may go on: no hold keeps transitions, and nodes are heard at all."""
        nodes = self._nodes
        active = nodes.registry.state_counts[State.ACTIVE]
        self.attendance.look(heard=nodes.changes.heard.is_news(), active=active, now=now)
        return self.silence.hold is None and self.attendance.hold is None

    def _next_due(self, now: Now, limit: int, *, blocked: bool) -> tuple[list[int], int]:
        """Return the next slots to look at, and how many entries were taken for them, up to `limit`.

        Waiting slots come first, one at a time; if `blocked`, they stay where they are.
        """
        queue, passed = self._waiting_queue, 0
        while queue and not blocked and passed < limit:
            slot = queue.popleft()
            passed += 1
            # Otherwise the entry is stale: the node was heard since.
            if slot in self.waiting:
                self.waiting.remove(slot)
                self._waiting_counted.discard(slot)
                return [slot], passed
        if passed:
            return [], passed
        return self._nodes.deadlines.pop_due(now.attended_s, limit)

    def _advance_all(self, slots: Sequence[int], now: Now) -> Sequence[int]:
        """Move on all of `slots` that need neither a probe nor a doubt. Return the others.

        Many nodes move on together for far less than one by one (`_look_at`).
        """
        nodes = self._nodes
        if (
            len(slots) < TOGETHER_MIN
            or self._probing
            or not self.silence.believes(len(slots), len(nodes.registry), now)
        ):
            return slots
        try:
            # An array, because a value that does not fit into it cannot be a deadline.
            steps = array("Q", nodes.deadline_steps(slots))
        except BROKEN:
            # Looked at one by one, the broken record shows.
            return slots
        now_steps = math.floor(now.attended_s * DEADLINE_STEPS_PER_S)
        early: list[tuple[int, int]] = []
        due: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        states = map(nodes.registry.states.__getitem__, slots)
        for state, entry in zip(states, zip(slots, steps, strict=True), strict=True):
            (due[state] if entry[1] <= now_steps else early).append(entry)
        if early:
            nodes.deadlines.arm_again(*zip(*early, strict=True))
        others = [
            other
            for state, entries in due.items()
            for other in self._advance_from(STATES[state], *zip(*entries, strict=True), now=now)
        ]
        # Sorted by deadline, since tombstones expire in the order in which they are added.
        return [slot for _, slot in sorted(others)]

    def _advance_from(
        self, state: State, slots: Sequence[int], steps: Sequence[int], *, now: Now
    ) -> list[tuple[int, int]]:
        """Move nodes that are all in `state` through every state that has ended by now, but not to death.

        The state of each ends at its entry of `steps`. Return (step, slot) of those that are to die or that
        cannot be moved on together.
        """
        nodes, now_steps = self._nodes, math.floor(now.attended_s * DEADLINE_STEPS_PER_S)
        while slots:
            if TABLE.get((state, Event.DEADLINE)) not in LIVE_STATES:
                break
            at_s = [step / DEADLINE_STEPS_PER_S for step in steps]
            ahead_s = now.wall_s - now.attended_s
            at = [due_s + ahead_s for due_s in at_s]
            try:
                state = nodes.enter_all(slots, state, Event.DEADLINE, at=at, at_s=at_s)
            except BROKEN:
                break
            self.silence.advanced(slots, now.attended_s)
            dwells_s = map(
                nodes.patience.dwells_s[state].__getitem__, map(nodes.registry.longest.__getitem__, slots)
            )
            steps = [math.ceil(end_s * DEADLINE_STEPS_PER_S) for end_s in map(add, at_s, dwells_s)]
            lasting = [step > now_steps for step in steps]
            nodes.deadlines.arm_again(list(compress(slots, lasting)), list(compress(steps, lasting)))
            ended = list(map(not_, lasting))
            slots, steps = list(compress(slots, ended)), list(compress(steps, ended))
        return list(zip(steps, slots, strict=True))

    def _look_at(self, slot: int, now: Now) -> bool:
        """Move on a node whose deadline has come. Return False if it must wait, like all not yet probed."""
        nodes = self._nodes
        due_s = nodes.deadline_s(slot)
        unanswered = self.asked.pop(slot, None) is not None
        self.postponed.discard(slot)
        if due_s > now.attended_s:
            nodes.deadlines.arm(slot, due_s)
            return True
        if self._postpones_death(slot, nodes.registry.state(slot), now):
            return True
        if not unanswered:
            if not self.silence.may_advance(slot, len(nodes.registry), len(self.asked), now):
                self.waiting.add(slot)
                if self.silence.counts(slot):
                    self._waiting_counted.add(slot)
                self._waiting_queue.append(slot)
                return False
            if self._probing:
                node_id, profile = nodes.registry.node_id(slot), Profile.decode(nodes.registry.profile(slot))
                self.asked[slot] = node_id
                self.probe_requests.append(ProbeRequest(slot, node_id, profile.address, profile.port))
                nodes.deadlines.arm(slot, now.attended_s + PROBE_ANSWER_S)
                return True
        self.silence.advanced((slot,), now.attended_s)
        self._advance(slot, due_s, now)
        return True

    def _advance(self, slot: int, due_s: float, now: Now) -> None:
        """Move a node through every state that has ended by now, in order, each at its own deadline."""
        nodes = self._nodes
        state = nodes.registry.state(slot)
        while due_s <= now.attended_s:
            if self._postpones_death(slot, state, now):
                return
            at = now.wall_at(due_s)
            if next_state(state, Event.DEADLINE) is State.DEAD:
                node_id = nodes.registry.node_id(slot)
                nodes.bury(slot, Event.DEADLINE, at=at, at_s=due_s, now_s=now.attended_s)
                self.silence.died(slot, node_id)
                return
            state = nodes.enter(slot, Event.DEADLINE, at=at, at_s=due_s)
            # The new state began at `due_s`, and nothing else counts for a silent node.
            dwell_s = nodes.patience.dwell_s(state, nodes.registry.longest[slot])
            due_s = deadline_s(state, due_s, 0.0, 0.0, dwell_s)
        nodes.deadlines.arm(slot, due_s)

    def _postpones_death(self, slot: int, state: State, now: Now) -> bool:
        """Return whether a node that would die now lives on, because nobody may be buried."""
        if next_state(state, Event.DEADLINE) is not State.DEAD or self.may_bury():
            return False
        self.postponed.add(slot)
        self._nodes.deadlines.arm(slot, now.attended_s + POSTPONE_S)
        return True

    def _expire_tombstones(self, now: Now, limit: int) -> int:
        for handled in range(limit):
            tombstone = self._nodes.tombstones.pop_expired(now.attended_s)
            if tombstone is None:
                return handled
            ends_s = self._nodes.tombstones.ends_s(tombstone)
            self._nodes.end_tombstone(tombstone, at=now.wall_at(ends_s), at_s=ends_s)
        return limit


def is_crowded(count: int, count_max: int) -> bool:
    """Return whether so many nodes or bytes are held that nodes make room for new ones."""
    return count >= CROWDED_SHARE * count_max


class Crowding:
    """A round over all slots, a few with each new node, that finds nodes to make room.

    The records alone decide, so a restart loses nothing.
    """

    def __init__(self, registry: Registry, nodes_max: int, bytes_max: int) -> None:
        self._registry = registry
        self._nodes_max = nodes_max
        self._bytes_max = bytes_max
        self._next_slot = 0

    def is_crowded(self, bytes_added: int) -> bool:
        """Return whether one more node, which takes `bytes_added` more bytes, would find little room."""
        registry = self._registry
        return is_crowded(len(registry), self._nodes_max) or is_crowded(
            registry.bytes_held + bytes_added, self._bytes_max
        )

    def who_makes_room(self, bytes_added: int, now_s: float) -> list[int]:
        """Return up to `GIVEN_UP_MAX` slots to free at attended time `now_s`; none unless it is crowded.

        The room is for one more node, which takes `bytes_added` more bytes.
        """
        if not self.is_crowded(bytes_added):
            return []
        nodes, held = len(self._registry), self._registry.bytes_held
        is_full = nodes >= self._nodes_max or held + bytes_added > self._bytes_max
        found: list[int] = []
        for slot in self._round(LOOKED_AT_WHEN_FULL if is_full else LOOKED_AT):
            if self._makes_room(slot, now_s):
                found.append(slot)
                if len(found) == GIVEN_UP_MAX:
                    break
        return found

    def _round(self, limit: int) -> Iterator[int]:
        slots = self._registry.slots_count
        for _ in range(min(limit, slots)):
            slot = self._next_slot % slots
            self._next_slot = slot + 1
            if not self._registry.is_free(slot):
                yield slot

    def _makes_room(self, slot: int, now_s: float) -> bool:
        """Return whether nothing keeps the node in `slot`, and it was never heard since it registered.

        A proved key or an operator keeps a node. A node that announced an absence is expected only from its
        end on. Attended seconds count, so that no node loses its place because we were away.
        """
        registry = self._registry
        if registry.flags[slot] & (PROVEN | HELD):
            return False
        expected_s = max(registry.last_seen_s[slot], registry.away_s(slot)[1])
        never_heard = registry.last_seen_at[slot] == registry.registered_at[slot]
        return never_heard and now_s - expected_s >= UNHEARD_S

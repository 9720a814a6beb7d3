"""What silence does: nodes whose deadline has come move on, unless there is reason to doubt ourselves."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import NamedTuple

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
from ..state.node import LEFT, Profile
from .mass_silence import MassSilence

# A probe that has not answered by then counts as unanswered, whatever became of it.
PROBE_ANSWER_S = 60.0
# One that could not be asked, for our own reasons, is asked so much later.
POSTPONE_S = 300.0
# So many at once are worth being moved on together.
CROWD = 8
# What a record that is broken does to whoever looks at it.
BROKEN = (InternalBug, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class ProbeRequest(NamedTuple):
    """Somebody may try to reach this node; `Expiry.probed` takes the answer."""

    slot: int
    node_id: str
    address: str
    port: int


class Expiry:
    """Handles deadlines as they come due, in bounded pieces. `probing`: ask before believing a silence."""

    def __init__(self, nodes: Nodes, silence: MassSilence, *, probing: bool) -> None:
        self._nodes = nodes
        self._probing = probing
        self.silence = silence
        self.probe_requests: deque[ProbeRequest] = deque()
        self._asked: dict[int, str] = {}
        # Slots that are due and could not be asked yet.
        self._postponed: set[int] = set()
        # Slots that are due but must wait, for the end of a hold or for the next pass after it. An entry of
        # the queue counts only while its slot is in the set.
        self._waiting_queue: deque[int] = deque()
        self._waiting: set[int] = set()
        # Those of them that count as silent already, for a state that they passed within the hour.
        self._waiting_counted: set[int] = set()
        # Nodes whose transition failed, with what failed; they are left alone until they are heard again.
        self.set_aside: dict[int, str] = {}

    @property
    def waiting_count(self) -> int:
        """How many nodes are due and held back."""
        return len(self._waiting)

    def is_waiting(self, slot: int) -> bool:
        """Whether the node in `slot` is due and held back."""
        return slot in self._waiting

    def is_asked(self, slot: int) -> bool:
        """Whether the answer to a probe of the node in `slot` is awaited."""
        return slot in self._asked

    def is_postponed(self, slot: int) -> bool:
        """Whether the node in `slot` is due and to be asked at a later time."""
        return slot in self._postponed

    def next_s(self) -> float | None:
        """When something is due next, in attended seconds; None where nothing ever is."""
        times = (self._nodes.deadlines.next_s(), self._nodes.tombstones.next_s())
        return min((time for time in times if time is not None), default=None)

    def expire_due(self, now: Now, limit: int) -> int:
        """Handle up to `limit` of what is due; if fewer were handled, nothing more can be now."""
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
                    # One broken record must not stop the life of all others.
                    self._nodes.deadlines.disarm(slot)
                    self.set_aside[slot] = f"{type(error).__name__}: {error}"
        if handled == limit:
            return handled
        if held:
            waiting = len(self._waiting) - len(self._waiting_counted)
            self.silence.reconsider(waiting, len(self._nodes.registry), now.attended_s, now.monotonic_s)
        elif not blocked and not self._asked:
            self.silence.caught_up()
        return handled + self._expire_tombstones(now, limit - handled)

    def probed(self, slot: int, node_id: str, *, alive: bool | None, now: Now) -> None:
        """Take the answer to a probe, in time or late; harmless where the node is no more.

        `alive` is None where it could not be asked, which is not its fault.
        """
        if alive is None:
            self.postpone(slot, node_id, now)
            return
        registry = self._nodes.registry
        awaited = self._asked.get(slot) == node_id
        if not alive:
            if awaited:
                # The next piece of work finds it due and unanswered.
                self._nodes.deadlines.arm(slot, now.attended_s)
        elif awaited or (
            # Late, it is a sign of life all the same, but not of one that took its leave in the meantime.
            not registry.is_free(slot)
            and registry.node_id(slot) == node_id
            and not registry.flags(slot) & LEFT
        ):
            self.sign_of_life(slot, Event.SIGN_OF_LIFE, now)

    def postpone(self, slot: int, node_id: str, now: Now) -> None:
        """A node cannot be asked now, which is not its fault: it is asked `POSTPONE_S` later."""
        if self._asked.get(slot) == node_id:
            del self._asked[slot]
            self._postponed.add(slot)
            self._nodes.deadlines.disarm(slot)
            self._nodes.deadlines.arm(slot, now.attended_s + POSTPONE_S)

    def sign_of_life(self, slot: int, event: Event, now: Now) -> State:
        """The node in `slot` was heard: it is active from now on. Returns the state that it was in.

        Last signs of life never go back in attended time; the wall time shown is that of the latest.
        """
        registry = self._nodes.registry
        gap_s = now.attended_s - registry.last_seen_s[slot]
        if gap_s >= 0:
            registry.last_seen_s[slot] = now.attended_s
            registry.last_seen_at[slot] = now.wall_s
        self._nodes.changes.signs_of_life[slot] = None
        state = registry.state(slot)
        if state is not State.ACTIVE:
            self._revive(slot, event, now)
        elif self.questions(slot):
            self.let_go(slot)
        return state

    def questions(self, slot: int) -> bool:
        """Whether the life of the node in `slot` is in question, which its next sign of life will end."""
        return (
            slot in self._waiting or slot in self._asked or slot in self._postponed or slot in self.set_aside
        )

    def let_go(self, slot: int) -> None:
        """The node in `slot` was heard: nothing is held against it, its deadline counts again."""
        self.silence.returned(slot)
        self._waiting.discard(slot)
        self._waiting_counted.discard(slot)
        self._asked.pop(slot, None)
        self._postponed.discard(slot)
        self.set_aside.pop(slot, None)
        self._nodes.deadlines.arm(slot, self._nodes.deadline_s(slot))

    def release_hold(self, now: Now) -> bool:
        """End a hold on an operator's word. Returns whether there was one."""
        if self.silence.hold is None:
            return False
        self.silence.release(now.attended_s)
        return True

    def _revive(self, slot: int, event: Event, now: Now) -> None:
        flags = self._nodes.registry.flags(slot)
        if flags & LEFT:
            self._nodes.rewrite(self._nodes.registry.record(slot)._replace(flags=flags & ~LEFT))
        self._nodes.enter(slot, event, at=now.wall_s, at_s=now.attended_s)
        self.let_go(slot)

    def _next_due(self, now: Now, limit: int, *, blocked: bool) -> tuple[list[int], int]:
        """The next slots to look at, and how many entries they were, of which `limit` may be taken.

        Those that wait come first, one at a time; where `blocked`, they stay where they are.
        """
        queue, passed = self._waiting_queue, 0
        while queue and not blocked and passed < limit:
            slot = queue.popleft()
            passed += 1
            # Who was heard since left an entry that does not count.
            if slot in self._waiting:
                self._waiting.remove(slot)
                self._waiting_counted.discard(slot)
                return [slot], passed
        if passed:
            return [], passed
        return self._nodes.deadlines.pop_due(now.attended_s, limit)

    def _advance_all(self, slots: Sequence[int], now: Now) -> Sequence[int]:
        """Move on those of `slots` about whom there is nothing to ask or to doubt; returns the others.

        Where many are due at once, each takes a third of what `_look_at` does.
        """
        nodes = self._nodes
        if (
            len(slots) < CROWD
            or self._probing
            or not self.silence.believes(len(slots), len(nodes.registry), now)
        ):
            return slots
        try:
            # An array, because what does not fit into one can be no deadline.
            steps = array("Q", nodes.deadline_steps(slots))
        except BROKEN:
            # One by one they show who it is.
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
        # Tombstones expire in the order in which they are put up.
        return [slot for _, slot in sorted(others)]

    def _advance_from(
        self, state: State, slots: Sequence[int], steps: Sequence[int], *, now: Now
    ) -> list[tuple[int, int]]:
        """The `_advance` of nodes that are all in `state`, which ends at `steps` of each; none of them dies.

        Returns those that are to die, or cannot be moved on, each behind when its state ended.
        """
        nodes, now_steps = self._nodes, math.floor(now.attended_s * DEADLINE_STEPS_PER_S)
        while slots:
            if TABLE.get((state, Event.DEADLINE)) not in LIVE_STATES:
                break
            at_s = [step / DEADLINE_STEPS_PER_S for step in steps]
            at = [now.wall_s - (now.attended_s - due_s) for due_s in at_s]
            try:
                state = nodes.enter_all(slots, state, Event.DEADLINE, at=at, at_s=at_s)
            except BROKEN:
                break
            self.silence.advanced(slots, now.attended_s)
            dwell_s = nodes.lifecycle.dwell_s(state)
            steps = [math.ceil((since_s + dwell_s) * DEADLINE_STEPS_PER_S) for since_s in at_s]
            lasting = [step > now_steps for step in steps]
            nodes.deadlines.arm_again(list(compress(slots, lasting)), list(compress(steps, lasting)))
            ended = list(map(not_, lasting))
            slots, steps = list(compress(slots, ended)), list(compress(steps, ended))
        return list(zip(steps, slots, strict=True))

    def _look_at(self, slot: int, now: Now) -> bool:
        """Move on a node whose deadline has come; False where it must wait, like all that were not asked."""
        nodes = self._nodes
        due_s = nodes.deadline_s(slot)
        unanswered = self._asked.pop(slot, None) is not None
        self._postponed.discard(slot)
        if due_s > now.attended_s:
            nodes.deadlines.arm(slot, due_s)
            return True
        if not unanswered:
            if not self.silence.may_advance(slot, len(nodes.registry), len(self._asked), now):
                self._wait(slot)
                return False
            if self._probing:
                self._ask(slot, now)
                return True
        self.silence.advanced((slot,), now.attended_s)
        self._advance(slot, due_s, now)
        return True

    def _advance(self, slot: int, due_s: float, now: Now) -> None:
        """Move a node through every state that has ended by now, in order, each at its own deadline."""
        nodes = self._nodes
        state = nodes.registry.state(slot)
        while due_s <= now.attended_s:
            at = now.wall_s - (now.attended_s - due_s)
            if next_state(state, Event.DEADLINE) is State.DEAD:
                node_id = nodes.registry.node_id(slot)
                nodes.bury(slot, Event.DEADLINE, at=at, at_s=due_s, now_s=now.attended_s)
                self.silence.died(slot, node_id)
                return
            state = nodes.enter(slot, Event.DEADLINE, at=at, at_s=due_s)
            # It began now, and nothing else counts for a silent node: 0.5 µs less than by its slot.
            due_s = deadline_s(state, due_s, 0.0, 0.0, nodes.lifecycle)
        nodes.deadlines.arm(slot, due_s)

    def _ask(self, slot: int, now: Now) -> None:
        registry = self._nodes.registry
        node_id, profile = registry.node_id(slot), Profile.decode(registry.profile(slot))
        self._asked[slot] = node_id
        self.probe_requests.append(ProbeRequest(slot, node_id, profile.address, profile.port))
        self._nodes.deadlines.arm(slot, now.attended_s + PROBE_ANSWER_S)

    def _wait(self, slot: int) -> None:
        self._waiting.add(slot)
        if self.silence.counts(slot):
            self._waiting_counted.add(slot)
        self._waiting_queue.append(slot)

    def _expire_tombstones(self, now: Now, limit: int) -> int:
        for handled in range(limit):
            tombstone = self._nodes.tombstones.pop_expired(now.attended_s)
            if tombstone is None:
                return handled
            ends_s = self._nodes.tombstones.ends_s(tombstone)
            at = now.wall_s - (now.attended_s - ends_s)
            self._nodes.forget_tombstone(tombstone, at=at, at_s=ends_s)
        return limit

"""Everything that the directory holds, and the few ways in which it changes, each keeping all parts in step.

The parts are the registry, the service index, the deadlines, the tombstones, the notes of what to store, and
the transitions that happened. No rule is decided here (see `directory` and `expiry`), none of these methods
waits for anything, so that nothing ever sees a change half done.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from itertools import compress, repeat
from operator import add, mul

from .lifecycle import (
    DEADLINE_STEPS_PER_S,
    STATES,
    Event,
    LifecycleOptions,
    State,
    deadline_s,
    next_state,
)
from .soundness import FREE_SLOTS_MIN, Unserved
from .state.changes import Changes
from .state.deadlines import Deadlines
from .state.node import (
    DISCOVERABLE,
    HELD,
    PROVEN,
    Profile,
    Record,
    Tombstone,
    Transition,
    append_entry,
    append_history,
    hash_id,
    history_entry,
    is_discoverable,
    key_fingerprint,
)
from .state.registry import Registry
from .state.service_index import ServiceIndex
from .state.tombstones import Tombstones

# Transitions that nobody fetched are dropped, oldest first, beyond so many; they stay counted.
TRANSITIONS_KEPT = 100_000
# Far behind every deadline that there can be, and still a whole number of steps in 64 bits: 35,000 years.
HELD_UNTIL_S = float(1 << 40)


class Nodes:
    """The state of the directory. `shards` and `nodes_max` as in the settings."""

    def __init__(self, lifecycle: LifecycleOptions, *, shards: int, nodes_max: int) -> None:
        self.lifecycle = lifecycle
        self.registry = Registry(shards)
        self.index = ServiceIndex(self.registry)
        self.deadlines = Deadlines()
        self.tombstones = Tombstones(tombstone_s=lifecycle.tombstone_s, count_max=nodes_max)
        # A store may leave so many slots free below its last row: more were never taken at one time.
        self.free_slots_max = max(nodes_max, FREE_SLOTS_MIN)
        # Rows of the store that cannot be served. No other node gets their slots and names.
        self.unserved: list[Unserved] = []
        self._reserved: set[str] = set()
        self.changes = Changes()
        self.revision = 0
        # What happened and was not yet fetched, and how often each (from, to, reason) happened so far.
        self.transitions: deque[Transition] = deque(maxlen=TRANSITIONS_KEPT)
        self.transition_counts: Counter[tuple[State, State, str]] = Counter()
        # Names of nodes that hid or were forgotten, which what was told of them still holds (`event_feed`).
        self.concealed: set[str] = set()

    def deadline_s(self, slot: int) -> float:
        """When the state of the node in `slot` truly ends by silence, in attended seconds.

        That of a node that is held ends at `HELD_UNTIL_S`: never.
        """
        registry = self.registry
        if registry.flags(slot) & HELD:
            return HELD_UNTIL_S
        return deadline_s(
            STATES[registry.states[slot]],
            registry.since_s(slot),
            registry.last_seen_s[slot],
            registry.away_s(slot)[1] if registry.has_absences else 0.0,
            self.lifecycle,
        )

    def deadline_steps(self, slots: Sequence[int]) -> list[int]:
        """The `deadline_s` of many, in deadline steps: a fifth of what they cost one by one."""
        registry = self.registry
        dwell_s = [self.lifecycle.dwell_s(state) if state else 0.0 for state in State]
        dwells = map(dwell_s.__getitem__, map(registry.states.__getitem__, slots))
        ends_s = map(add, registry.silent_since_s(slots), dwells)
        steps = list(map(math.ceil, map(mul, ends_s, repeat(DEADLINE_STEPS_PER_S))))
        if registry.has_absences or registry.any_held(slots):
            for place, slot in enumerate(slots):
                if registry.flags(slot) & HELD or registry.away_s(slot)[1]:
                    steps[place] = int(self.deadline_s(slot) * DEADLINE_STEPS_PER_S)
        return steps

    def is_reserved(self, node_id: str) -> bool:
        """Whether the name belongs to a row of the store that cannot be served."""
        return node_id in self._reserved

    def set_aside(self, rows: Sequence[Unserved]) -> None:
        """Give the slots and names of `rows`, none of which is registered, to nobody else."""
        self.unserved += rows
        self.registry.bar(row.slot for row in rows)
        self._reserved.update(row.node_id for row in rows if row.node_id is not None)

    def is_indexed(self, slot: int) -> bool:
        """Whether the node in `slot` may be discovered, its state aside."""
        return is_discoverable(self.registry.flags(slot))

    def next_revision(self) -> int:
        """The number of one more change that is acknowledged."""
        self.revision += 1
        return self.revision

    def begin(self, record: Record, *, from_state: State, at: float) -> int:
        """Take in a new node; a tombstone of its name is lifted. Returns the number of the change."""
        transition = Transition(
            at, record.since_s, record.node_id, from_state, State(record.state), Event.REGISTERED.value
        )
        if from_state is State.DEAD:
            # The history of a first life begins with its registration, which `registered_at` tells.
            record = record._replace(history=append_history("", transition))
        self.registry.insert(record)
        self.place(record.slot)
        self._happened(transition)
        id_hash = hash_id(record.node_id)
        tombstone = self.tombstones.lift(id_hash)
        # A tombstone already gone but still to be stored tells that the name had another slot a moment ago.
        if tombstone is None and not self.changes.is_noted(id_hash):
            return self.changes.note(record.slot)
        return self.changes.note_together(id_hash, record.slot)

    def place(self, slot: int) -> None:
        """Index and arm a node that has just come into the registry."""
        if self.is_indexed(slot):
            self.index.add(slot)
        self.deadlines.arm(slot, self.deadline_s(slot))

    def place_all(self) -> None:
        """Index and arm all nodes of a registry that was restored this moment."""
        self.index.add_all(self.registry.discoverable_slots())
        slots = self.registry.taken_slots()
        self.deadlines.arm_all(slots, self.deadline_steps(slots))

    def rewrite(self, record: Record) -> int:
        """Replace what is known of a node, its state apart, under a new revision. Returns the change."""
        slot = record.slot
        if self.registry.flags(slot) & ~record.flags & DISCOVERABLE:
            self.concealed.add(record.node_id)
        if self.is_indexed(slot):
            self.index.remove(slot)
        self.registry.replace(record._replace(revision=self.next_revision()))
        if self.is_indexed(slot):
            self.index.add(slot)
        # A node without a deadline is held back; whoever holds it arms it again.
        if self.deadlines.armed_s(slot) is not None:
            self.deadlines.arm(slot, self.deadline_s(slot))
        return self.changes.note(slot)

    def enter(self, slot: int, event: Event, *, at: float, at_s: float) -> State:
        """Let `event` happen to the node in `slot` at wall time `at` and attended `at_s`; its new state.

        Not for events that lead to DEAD (`bury`). The new deadline is the caller's to arm, who may know of
        the next event already. Raises `InternalBug` for an event outside the table.
        """
        registry = self.registry
        from_state = registry.state(slot)
        to_state = next_state(from_state, event)
        if to_state is from_state:
            return to_state
        # `value` is a property, which takes 0.2 µs.
        reason: str = event._value_
        transition = Transition(at, at_s, registry.node_id(slot), from_state, to_state, reason)
        if self.is_indexed(slot):
            self.index.move(slot, from_state, to_state)
        registry.set_state(slot, to_state, at_s, append_history(registry.history(slot), transition))
        self.changes.note(slot)
        self._happened(transition)
        return to_state

    def enter_all(
        self,
        slots: Sequence[int],
        from_state: State,
        event: Event,
        *,
        at: Sequence[float],
        at_s: Sequence[float],
    ) -> State:
        """The `enter` of many, all of them in `from_state`, each at its own time: a third of one by one.

        Raises `InternalBug` for an event outside the table.
        """
        registry = self.registry
        to_state = next_state(from_state, event)
        reason: str = event._value_
        # Of those who fell silent at one moment the text is the same, and kept once.
        entries = {when: history_entry(when, from_state, to_state, reason) for when in set(at)}
        histories = list(map(append_entry, registry.histories(slots), map(entries.__getitem__, at)))
        kind = map(repeat, (from_state, to_state, reason))
        transitions = zip(at, at_s, registry.node_ids_of(slots), *kind, strict=False)
        self.index.move_all(list(compress(slots, registry.discoverable(slots))), from_state, to_state)
        registry.set_states(slots, from_state, to_state, at_s, histories)
        self.changes.note_all(slots)
        self.transitions.extend(map(tuple.__new__, repeat(Transition), transitions))
        self.transition_counts[from_state, to_state, reason] += len(slots)
        return to_state

    def bury(self, slot: int, event: Event, *, at: float, at_s: float, now_s: float | None = None) -> int:
        """Remove the node in `slot`, leaving a tombstone that is dated `at` and `at_s`.

        `now_s` is the moment, where a deadline before it is handled now. Return the number of the change.
        """
        registry = self.registry
        from_state, node_id = registry.state(slot), registry.node_id(slot)
        to_state = next_state(from_state, event)
        flags = registry.flags(slot)
        fingerprint = key_fingerprint(Profile.decode(registry.profile(slot)).public_key, flags)
        next_key = registry.next_key(slot)
        self.discard(slot)
        tombstone = Tombstone(
            hash_id(node_id),
            fingerprint,
            at,
            at_s,
            event.value,
            self.next_revision(),
            flags & PROVEN,
            next_key,
        )
        for crowded_out in self.tombstones.put_up(tombstone, at_s if now_s is None else now_s):
            self.changes.note(crowded_out.id_hash)
        self._happened(Transition(at, at_s, node_id, from_state, to_state, event.value))
        if event is Event.FORGOTTEN:
            self.concealed.add(node_id)
        return self.changes.note_together(tombstone.id_hash, slot)

    def discard(self, slot: int) -> None:
        """Take the node in `slot` out of registry, index and deadlines; nothing is noted."""
        if self.is_indexed(slot):
            self.index.remove(slot)
        self.registry.remove(slot)
        self.deadlines.disarm(slot)

    def forget_tombstone(self, tombstone: Tombstone, *, at: float, at_s: float) -> None:
        """Note that a tombstone, taken from `tombstones` already, is no more."""
        to_state = next_state(State.DEAD, Event.DEADLINE)
        self.changes.note(tombstone.id_hash)
        # The id itself is long forgotten.
        name = f"#{tombstone.id_hash}"
        self._happened(Transition(at, at_s, name, State.DEAD, to_state, Event.DEADLINE.value))

    def _happened(self, transition: Transition) -> None:
        self.transitions.append(transition)
        self.transition_counts[transition.from_state, transition.to_state, transition.reason] += 1

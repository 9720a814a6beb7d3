"""All state of the directory, and the few changes to it, each of which keeps all parts in step.

The parts are the registry, the service index, the deadlines, the tombstones, the notes of changes to store,
the habits, and the transitions. The rules are in `directory` and `expiry`. No method waits, so nothing ever
sees half a change.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import compress, repeat
from operator import mul

from .lifecycle import (
    DEADLINE_STEPS_PER_S,
    STATES,
    Event,
    LifecycleOptions,
    State,
    deadline_s,
    next_state,
)
from .octaves import code_of
from .patience import Patience
from .soundness import FREE_SLOTS_MIN, Unserved
from .state.changes import PendingChanges
from .state.deadlines import Deadlines
from .state.fills import Fills
from .state.habits import CHUNK_SLOTS, SLOWEST, Habits
from .state.kept import Kept
from .state.node import (
    HELD,
    PROVEN,
    UNREMEMBERED,
    Profile,
    Record,
    Tombstone,
    Transition,
    append_entry,
    hash_id,
    history_entry,
    is_discoverable,
    is_visible,
    key_fingerprint,
)
from .state.registry import Registry
from .state.service_index import ServiceIndex
from .state.tombstones import Tombstones

# Transitions that are not reported beyond this number are dropped, oldest first. They stay counted.
TRANSITIONS_KEPT = 100_000
# The name of the kept factor of patience.
PATIENCE = "patience"
# Later than any deadline, and still a whole number of steps in 64 bits: 35,000 years.
HELD_UNTIL_S = float(1 << 40)


class Transitions:
    """Transitions that happened: how many of each kind, and the observers that hear of each.

    `counts` go by (from, to, reason). The scheduler calls `report` in each tick; an observer is called with
    all transitions since the last report, oldest first.
    """

    def __init__(self, *, kept_max: int = TRANSITIONS_KEPT) -> None:
        self.counts: Counter[tuple[State, State, str]] = Counter()
        self.observers: list[Callable[[Sequence[Transition]], None]] = []
        self._unreported: deque[Transition] = deque(maxlen=kept_max)

    def add(self, transition: Transition) -> None:
        """Count a transition and keep it for the next report."""
        self._unreported.append(transition)
        self.counts[transition.from_state, transition.to_state, transition.reason] += 1

    def add_all(self, kind: tuple[State, State, str], rows: Iterable[Iterable[object]], count: int) -> None:
        """Add `count` transitions of one kind, each given as the fields of a `Transition`."""
        self._unreported.extend(map(tuple.__new__, repeat(Transition), rows))
        self.counts[kind] += count

    def take(self) -> list[Transition]:
        """Remove and return the transitions since the last report, oldest first."""
        taken = list(self._unreported)
        self._unreported.clear()
        return taken

    def report(self) -> None:
        """Pass the transitions since the last report to each observer; none is reported twice."""
        if self._unreported:
            taken = self.take()
            for observer in self.observers:
                observer(taken)


class Nodes:
    """The state of the directory. The arguments are as in the settings."""

    def __init__(
        self,
        lifecycle: LifecycleOptions,
        *,
        shards: int,
        nodes_max: int,
        patience_factor_max: float = 1.0,
    ) -> None:
        self.lifecycle = lifecycle
        self.patience = Patience(lifecycle, patience_factor_max)
        self._former_patience: Patience | None = None
        self.registry = Registry(shards, apart_from=self.patience.lengthens_active_from)
        self.index = ServiceIndex(self.registry)
        self.deadlines = Deadlines()
        self.tombstones = Tombstones(tombstone_s=lifecycle.tombstone_s, count_max=nodes_max)
        # Free slots that a store may have below its last row: more were never in use at one time.
        self.free_slots_max = max(nodes_max, FREE_SLOTS_MIN)
        # Rows of the store that cannot be served. No other node gets their slots or names.
        self.unserved: list[Unserved] = []
        self._reserved: set[str] = set()
        self.changes = PendingChanges()
        self.habits = Habits()
        self.kept = Kept()
        # Where other processes send signs of life (see `merging`): which slots were filled lately.
        self.fills: Fills | None = None
        # True where another process leads: records change by its frames alone, and no deadline is armed.
        self.is_replica = False
        self.revision = 0
        self.transitions = Transitions()
        # Names of nodes that hid or were forgotten, which earlier events may still hold (`EventFeed`).
        self.concealed: set[str] = set()

    def deadline_s(self, slot: int) -> float:
        """Return when silence ends the state of the node in `slot`, in attended seconds.

        For a held node it is `HELD_UNTIL_S`, which never comes.
        """
        registry = self.registry
        if registry.flags[slot] & HELD:
            return HELD_UNTIL_S
        state = STATES[registry.states[slot]]
        return deadline_s(
            state,
            registry.since_s[slot],
            registry.last_seen_s[slot],
            registry.away_s(slot)[1] if registry.has_absences else 0.0,
            self.patience.dwells_s[state][registry.longest[slot]],
        )

    def deadline_steps(self, slots: Sequence[int]) -> list[int]:
        """Return the `deadline_s` of many nodes in deadline steps: cheaper than one by one."""
        registry = self.registry
        states, last_seen_s, since_s, active = (
            registry.states,
            registry.last_seen_s,
            registry.since_s,
            State.ACTIVE,
        )
        dwells_s, longest = self.patience.dwells_s, registry.longest
        ends_s = [
            (last_seen_s[slot] if (state := states[slot]) == active else since_s[slot])
            + dwells_s[state][longest[slot]]
            for slot in slots
        ]
        steps = list(map(math.ceil, map(mul, ends_s, repeat(DEADLINE_STEPS_PER_S))))
        if registry.has_absences or registry.any_held(slots):
            for place, slot in enumerate(slots):
                if registry.flags[slot] & HELD or registry.away_s(slot)[1]:
                    steps[place] = int(self.deadline_s(slot) * DEADLINE_STEPS_PER_S)
        return steps

    def restore_patience(self, name: str, value: bytes) -> None:
        """Take back the factor of patience of the last run, which `Kept` has under `name`."""
        self._former_patience = Patience(self.lifecycle, float(value))

    def lowered_patience(self) -> tuple[float, int] | None:
        """Return the factor of the last run, and how many nodes have an earlier deadline now.

        None unless the factor was lowered. The present one is kept for the next run.
        """
        former, patience = self._former_patience, self.patience
        if former is None or former.factor_max != patience.factor_max:
            self.kept.note(PATIENCE, lambda: b"%r" % patience.factor_max)
        if former is None or former.factor_max <= patience.factor_max:
            return None
        earlier = sum(
            former.dwells_s[state][code] > patience.dwells_s[state][code]
            for state, code in zip(self.registry.states, self.registry.longest, strict=True)
        )
        return former.factor_max, earlier

    def is_reserved(self, node_id: str) -> bool:
        """Return whether the name belongs to a row of the store that cannot be served."""
        return node_id in self._reserved

    def set_aside(self, rows: Sequence[Unserved]) -> None:
        """Reserve the slots and names of `rows`, none of which is registered."""
        self.unserved += rows
        self.registry.bar(row.slot for row in rows)
        self._reserved.update(row.node_id for row in rows if row.node_id is not None)

    def is_indexed(self, slot: int) -> bool:
        """Return whether the node in `slot` may be discovered in some state."""
        return is_discoverable(self.registry.flags[slot])

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision

    def begin(self, record: Record, id_hash: str, *, from_state: State, at: float) -> int:
        """Add a new node and lift the tombstone of its name. Return the number of the change.

        `id_hash` is the `hash_id` of its id.
        """
        # `value` is a slow property.
        reason: str = Event.REGISTERED._value_
        transition = Transition(at, record.since_s, record.node_id, from_state, State.ACTIVE, reason)
        if from_state is State.DEAD:
            # Only a later life needs this entry: `registered_at` says when a first life began.
            record = record._replace(history=history_entry(at, from_state, State.ACTIVE, Event.REGISTERED))
        self.registry.insert(record)
        self.place(record.slot)
        # The record is stored with the time of its registration, so its page gathers nothing.
        self.changes.heard.unmarked_news = True
        self.transitions.add(transition)
        tombstone = self.tombstones.lift(id_hash) if from_state is State.DEAD else None
        # A lifted tombstone that is still to be stored shows that the name had another slot a moment ago.
        if tombstone is None and not self.changes.is_noted(id_hash):
            change = self.changes.note(record.slot)
        else:
            change = self.changes.note_together(id_hash, record.slot)
        if self.fills is not None:
            self.fills.note(record.slot, change)
        return change

    def place(self, slot: int) -> None:
        """Index a node that was just added to the registry, and arm its deadline."""
        self.settle(slot)
        self.deadlines.arm(slot, self.deadline_s(slot))

    def settle(self, slot: int) -> None:
        """Index a node that was just added to the registry, and begin its habit."""
        self.make_room(slot + 1)
        is_remembered = not self.registry.flags[slot] & UNREMEMBERED
        self.habits.paces[slot] = self.habits.pace_first if is_remembered else SLOWEST
        self.habits.touched[slot // CHUNK_SLOTS] = 1
        if self.is_indexed(slot):
            self.index.add(slot)

    def make_room(self, slots: int) -> None:
        """Make room for signs of life and habits of so many slots."""
        self.changes.heard.make_room(slots)
        self.habits.make_room(slots)

    def place_all(self) -> None:
        """Index all nodes of a registry that was just restored, and arm their deadlines."""
        self.make_room(self.registry.slots_count)
        # A kill may have left the times of forgotten nodes in the store.
        for slot in self.registry.free_slots:
            self.changes.heard.add_freed(slot)
        self.index.add_all(self.registry.discoverable_slots())
        slots = self.registry.taken_slots()
        self.deadlines.arm_all(slots, self.deadline_steps(slots))

    def rewrite(self, record: Record) -> int:
        """Replace a record, but not its state, under a new revision. Return the number of the change."""
        slot = record.slot
        if is_visible(self.registry.flags[slot]) and not is_visible(record.flags):
            self.concealed.add(record.node_id)
        self.write(record._replace(revision=self.next_revision()))
        # A node without a deadline is held back by `Expiry`, which arms it again.
        if self.deadlines.armed_s(slot) is not None:
            self.deadlines.arm(slot, self.deadline_s(slot))
        return self.changes.note(slot)

    def write(self, record: Record) -> None:
        """Replace a record by one of the same node, as it is, and index that."""
        slot = record.slot
        if self.is_indexed(slot):
            self.index.remove(slot)
        self.registry.replace(record)
        if record.flags & UNREMEMBERED:
            self.habits.forget(slot)
            self.habits.paces[slot] = SLOWEST
        if self.is_indexed(slot):
            self.index.add(slot)

    def raise_longest(self, slot: int, absence_s: float) -> None:
        """Note that the node in `slot` came back after an absence of `absence_s`, in attended seconds.

        A shorter one than before changes nothing. Deadlines only become later, so none is armed anew.
        """
        longest = code_of(absence_s)
        if longest > self.registry.longest[slot]:
            self.registry.set_longest(slot, longest, self.next_revision())
            self.changes.note(slot)

    def enter(self, slot: int, event: Event, *, at: float, at_s: float) -> State:
        """Let `event` happen to a node at wall time `at` and attended `at_s`. Return the new state.

        Events that lead to DEAD are for `bury`. The caller arms the new deadline, since it may know the next
        event already. Raise `InternalBug` for an event outside the table.
        """
        registry = self.registry
        from_state = registry.state(slot)
        to_state = next_state(from_state, event)
        if to_state is from_state:
            return to_state
        # `value` is a slow property.
        reason: str = event._value_
        transition = Transition(at, at_s, registry.node_id(slot), from_state, to_state, reason)
        if self.is_indexed(slot):
            self.index.move(slot, from_state, to_state)
        history = append_entry(registry.histories[slot], history_entry(at, from_state, to_state, reason))
        registry.set_state(slot, to_state, at_s, history)
        self.changes.note(slot)
        self.transitions.add(transition)
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
        """Let `event` happen, as `enter` does, to many nodes in `from_state`, each at its own time.

        Raise `InternalBug` for an event outside the table.
        """
        registry = self.registry
        to_state = next_state(from_state, event)
        reason: str = event._value_
        # Nodes that fell silent at one moment share one text.
        entries = {when: history_entry(when, from_state, to_state, reason) for when in set(at)}
        former = map(registry.histories.__getitem__, slots)
        histories = list(map(append_entry, former, map(entries.__getitem__, at)))
        kind = (from_state, to_state, reason)
        transitions = zip(at, at_s, registry.packed_columns(slots)[0], *map(repeat, kind), strict=False)
        self.index.move_all(list(compress(slots, registry.discoverable(slots))), from_state, to_state)
        registry.set_states(slots, from_state, to_state, at_s, histories)
        self.changes.note_all(slots)
        self.transitions.add_all(kind, transitions, len(slots))
        return to_state

    def bury(self, slot: int, event: Event, *, at: float, at_s: float, now_s: float | None = None) -> int:
        """Remove the node in `slot` and leave a tombstone that is dated `at` and `at_s`.

        `now_s` is the current attended time if that is later. Return the number of the change.
        """
        registry = self.registry
        from_state, node_id = registry.state(slot), registry.node_id(slot)
        to_state = next_state(from_state, event)
        flags = registry.flags[slot]
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
        self.transitions.add(Transition(at, at_s, node_id, from_state, to_state, event.value))
        if event is Event.FORGOTTEN:
            self.concealed.add(node_id)
        return self.changes.note_together(tombstone.id_hash, slot)

    def clear(self, slot: int) -> None:
        """Remove the node in `slot` from a replica."""
        if self.is_indexed(slot):
            self.index.remove(slot)
        self.registry.clear(slot)
        self.habits.forget(slot)

    def discard(self, slot: int) -> None:
        """Remove the node in `slot` from registry, index and deadlines, without a note of the change."""
        self.clear(slot)
        self.registry.offer(slot)
        self.deadlines.disarm(slot)
        # The next flush removes its times from the store.
        self.changes.heard.add_freed(slot)

    def end_tombstone(self, tombstone: Tombstone, *, at: float, at_s: float) -> None:
        """Note the end of a tombstone that was removed from `tombstones`."""
        to_state = next_state(State.DEAD, Event.DEADLINE)
        self.changes.note(tombstone.id_hash)
        # The id itself is no longer known.
        name = f"#{tombstone.id_hash}"
        self.transitions.add(Transition(at, at_s, name, State.DEAD, to_state, Event.DEADLINE.value))

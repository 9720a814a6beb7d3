"""Which discoverable nodes offer which services, arranged so that a random few are found at once.

Nodes are grouped by their exact set of services and region, within a group by state. A query unites the
groups that contain all it asks for, whose sizes give the exact total; a member is drawn by its position.
What a query costs depends on how many distinct sets there are, not on how many nodes. A hostile flood of
ever new sets is capped: beyond `groups_max` groups, nodes stand in one list per service instead.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .lifecycle import State
from .registry import Registry

GROUPS_MAX = 2_048


class Pool(NamedTuple):
    """Slots among which a draw may choose, all in `region` where that is not None."""

    slots: Sequence[int]
    region: str | None


class _Group:
    """The members that share one set of services and one region, by state."""

    __slots__ = ("by_state", "names", "region")

    def __init__(self, names: frozenset[str], region: str) -> None:
        self.names = names
        self.region = region
        self.by_state: tuple[array[int], ...] = tuple(array("I") for _ in State)

    def is_empty(self) -> bool:
        return not any(self.by_state)


class _Crowd:
    """Slots that can be added, removed and drawn by position, whatever other crowds they are in."""

    __slots__ = ("_places", "slots")

    def __init__(self) -> None:
        self.slots = array("I")
        self._places: dict[int, int] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self._places

    def add(self, slot: int) -> None:
        self._places[slot] = len(self.slots)
        self.slots.append(slot)

    def remove(self, slot: int) -> None:
        place = self._places.pop(slot)
        last = self.slots.pop()
        if last != slot:
            self.slots[place] = last
            self._places[last] = place


# The crowd of all ungrouped nodes; no service can have this name.
_EVERY = ""


class ServiceIndex:
    """The discoverable nodes of a registry by service, region and state."""

    def __init__(self, registry: Registry, *, groups_max: int = GROUPS_MAX) -> None:
        self._registry = registry
        self._groups_max = groups_max
        self._groups: dict[int, _Group] = {}
        self._groups_by_service: dict[str, set[int]] = {_EVERY: set()}
        # The place of a grouped slot among its group's members of its state.
        self._places = array("I")
        self._crowds: dict[tuple[str, State], _Crowd] = {}
        self._ungrouped: dict[int, frozenset[str]] = {}

    @property
    def groups_count(self) -> int:
        return len(self._groups)

    @property
    def ungrouped_count(self) -> int:
        """How many nodes offer sets beyond the most groups."""
        return len(self._ungrouped)

    def add(self, slot: int) -> None:
        """Take in the node in `slot`, by its services, region and state in the registry."""
        set_id = self._registry.set_id(slot)
        state = self._registry.state(slot)
        group = self._groups.get(set_id)
        if group is None:
            held = self._registry.sets[set_id]
            if len(self._groups) >= self._groups_max:
                self._ungrouped[slot] = held.names
                self._crowd_add(slot, held.names, state)
                return
            group = self._groups[set_id] = _Group(held.names, held.region)
            for name in (*held.names, _EVERY):
                self._groups_by_service.setdefault(name, set()).add(set_id)
        self._join(group, slot, state)

    def remove(self, slot: int) -> None:
        """Take out the node in `slot`; its services and state in the registry are still what they were."""
        state = self._registry.state(slot)
        names = self._ungrouped.pop(slot, None)
        if names is not None:
            self._crowd_remove(slot, names, state)
            return
        set_id = self._registry.set_id(slot)
        group = self._groups[set_id]
        self._part(group, slot, state)
        if group.is_empty():
            del self._groups[set_id]
            for name in (*group.names, _EVERY):
                self._groups_by_service[name].discard(set_id)
                if not self._groups_by_service[name] and name != _EVERY:
                    del self._groups_by_service[name]

    def move(self, slot: int, from_state: State, to_state: State) -> None:
        """Follow the node in `slot` from one state to another."""
        names = self._ungrouped.get(slot)
        if names is not None:
            self._crowd_remove(slot, names, from_state)
            self._crowd_add(slot, names, to_state)
            return
        group = self._groups[self._registry.set_id(slot)]
        self._part(group, slot, from_state)
        self._join(group, slot, to_state)

    def pools(self, names: frozenset[str], states: Iterable[State]) -> Iterator[Pool]:
        """The members in one of `states` that offer all of `names`. They must not change meanwhile."""
        states = tuple(states)
        for set_id in self._fewest_groups(names):
            group = self._groups[set_id]
            if names <= group.names:
                for state in states:
                    if group.by_state[state]:
                        yield Pool(group.by_state[state], group.region)
        for state in states if self._ungrouped else ():
            slots = self._ungrouped_with(names, state)
            if slots:
                yield Pool(slots, None)

    def members(self) -> Iterator[tuple[int, State]]:
        """Every (slot, state) that the index holds, once for each place it stands in; for the check."""
        for group in self._groups.values():
            for state in State:
                yield from ((slot, state) for slot in group.by_state[state])
        for (name, state), crowd in self._crowds.items():
            if name == _EVERY:
                yield from ((slot, state) for slot in crowd.slots)

    def _fewest_groups(self, names: frozenset[str]) -> Iterable[int]:
        nothing: set[int] = set()
        return min((self._groups_by_service.get(name, nothing) for name in names or (_EVERY,)), key=len)

    def _ungrouped_with(self, names: frozenset[str], state: State) -> Sequence[int]:
        crowds = [self._crowds.get((name, state)) for name in names or (_EVERY,)]
        if None in crowds:
            return ()
        fewest = min((crowd.slots for crowd in crowds if crowd is not None), key=len)
        if len(crowds) == 1:
            return fewest
        return array("I", (slot for slot in fewest if names <= self._ungrouped[slot]))

    def _join(self, group: _Group, slot: int, state: State) -> None:
        members = group.by_state[state]
        while slot >= len(self._places):
            self._places.append(0)
        self._places[slot] = len(members)
        members.append(slot)

    def _part(self, group: _Group, slot: int, state: State) -> None:
        members = group.by_state[state]
        last = members.pop()
        if last != slot:
            place = self._places[slot]
            members[place] = last
            self._places[last] = place

    def _crowd_add(self, slot: int, names: frozenset[str], state: State) -> None:
        for name in (*names, _EVERY):
            self._crowds.setdefault((name, state), _Crowd()).add(slot)

    def _crowd_remove(self, slot: int, names: frozenset[str], state: State) -> None:
        for name in (*names, _EVERY):
            crowd = self._crowds[name, state]
            crowd.remove(slot)
            if not crowd.slots:
                del self._crowds[name, state]

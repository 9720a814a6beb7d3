"""Index of discoverable nodes by service, region and state, from which a random few are drawn fast.

Nodes are grouped by their exact set of services and region, and within a group by state. A query unites the
groups that contain all services that it asks for. Their sizes give the exact total, and a member is drawn by
its position. The cost of a query depends on the number of distinct sets, not on the number of nodes.

A hostile flood of ever new sets is capped: beyond `groups_max` groups, a node joins a crowd for each of its
services. A query then draws from the smallest crowd of the services that it asks for, whose members may lack
the other ones.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

from ..lifecycle import STATES, State
from .columns import picker
from .registry import Registry

GROUPS_MAX = 1_024


class Pool(NamedTuple):
    """Slots among which a draw may choose: `size` of them in `parts`, all in `region` unless that is None.

    With `is_certain`, all of them offer the services of the query; otherwise each has to be looked at.
    """

    parts: Sequence[Sequence[int]]
    size: int
    region: str | None
    is_certain: bool


class _Group:
    """Members that share one set of services and one region, by state."""

    __slots__ = ("by_state", "names", "region")

    def __init__(self, names: frozenset[str], region: str) -> None:
        self.names = names
        self.region = region
        self.by_state: tuple[array[int], ...] = tuple(array("I") for _ in State)

    def is_empty(self) -> bool:
        return not any(self.by_state)


# Names the crowd of all ungrouped nodes. No service can have this name.
_EVERY = ""


class ServiceIndex:
    """Discoverable nodes of a registry by service, region and state."""

    def __init__(self, registry: Registry, *, groups_max: int = GROUPS_MAX) -> None:
        self._registry = registry
        self.groups_max = groups_max
        self._groups: dict[int, _Group] = {}
        self._groups_by_service: dict[str, set[int]] = {_EVERY: set()}
        # Place of each grouped slot among the members of its group and state.
        self._places = array("I")
        # By state and service. A crowd of one is a bare slot: a flood of unique names consists of these.
        self._crowds: tuple[dict[str, array[int] | int], ...] = tuple({} for _ in State)
        # Places of each ungrouped slot in the crowd of all and in those of its services, in their order.
        self._ungrouped: dict[int, array[int]] = {}

    @property
    def ungrouped_count(self) -> int:
        """Number of nodes that found no group, because there are `groups_max` of them."""
        return len(self._ungrouped)

    def __len__(self) -> int:
        """Return how many nodes may be discovered, in whatever state."""
        grouped = sum(len(members) for group in self._groups.values() for members in group.by_state)
        return grouped + len(self._ungrouped)

    def add(self, slot: int) -> None:
        """Add the node in `slot`, by its services, region and state in the registry."""
        group = self._group(self._registry.set_ids[slot])
        state = self._registry.state(slot)
        if group is None:
            self._join_crowds(slot, state)
        else:
            self._join(group, slot, state)

    def add_all(self, slots: Sequence[int]) -> None:
        """Add the nodes in `slots`, none of which is in the index: cheaper than one by one."""
        together: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        set_ids, states = self._registry.set_ids, self._registry.states
        for slot in slots:
            together[set_ids[slot], states[slot]].append(slot)
        self._extend_places(max(slots, default=-1))
        for (set_id, state), joining in together.items():
            group = self._group(set_id)
            if group is None:
                for slot in joining:
                    self._join_crowds(slot, STATES[state])
                continue
            members = group.by_state[state]
            for place, slot in enumerate(joining, len(members)):
                self._places[slot] = place
            members.extend(joining)

    def _group(self, set_id: int) -> _Group | None:
        """Return the group of a service set, made if needed; None if there are too many groups."""
        group = self._groups.get(set_id)
        if group is None and len(self._groups) < self.groups_max:
            service_set = self._registry.sets[set_id]
            group = self._groups[set_id] = _Group(service_set.names, service_set.region)
            for name in (*service_set.names, _EVERY):
                self._groups_by_service.setdefault(name, set()).add(set_id)
        return group

    def _extend_places(self, slot: int) -> None:
        self._places.extend(repeat(0, slot + 1 - len(self._places)))

    def remove(self, slot: int) -> None:
        """Remove the node in `slot`, whose services and state in the registry have not changed yet."""
        state = self._registry.state(slot)
        if slot in self._ungrouped:
            self._leave_crowds(slot, state)
            return
        set_id = self._registry.set_ids[slot]
        group = self._groups[set_id]
        self._leave(group, slot, state)
        if group.is_empty():
            del self._groups[set_id]
            for name in (*group.names, _EVERY):
                self._groups_by_service[name].discard(set_id)
                if not self._groups_by_service[name] and name != _EVERY:
                    del self._groups_by_service[name]

    def move(self, slot: int, from_state: State, to_state: State) -> None:
        """Move the node in `slot` from one state to another."""
        if slot in self._ungrouped:
            self._leave_crowds(slot, from_state)
            self._join_crowds(slot, to_state)
            return
        group = self._groups[self._registry.set_ids[slot]]
        self._leave(group, slot, from_state)
        self._join(group, slot, to_state)

    def move_all(self, slots: Sequence[int], from_state: State, to_state: State) -> None:
        """Move many nodes, all of them in the index, from one state to another: cheaper than one by one."""
        ungrouped: list[int] = []
        together: defaultdict[int, list[int]] = defaultdict(list)
        set_ids = self._registry.set_ids
        for slot in slots:
            (ungrouped if slot in self._ungrouped else together[set_ids[slot]]).append(slot)
        # Find all groups before the first node moves: an error then leaves the index as it was.
        groups = [(self._groups[set_id].by_state, moving) for set_id, moving in together.items()]
        places = self._places
        for by_state, moving in groups:
            leaving, joined = by_state[from_state], by_state[to_state]
            for slot in moving:
                last = leaving.pop()
                if last != slot:
                    place = places[slot]
                    leaving[place] = last
                    places[last] = place
                places[slot] = len(joined)
                joined.append(slot)
        for slot in ungrouped:
            self.move(slot, from_state, to_state)

    def pools(self, names: frozenset[str], states: Iterable[State]) -> Iterator[Pool]:
        """Yield the members in `states` that offer all of `names`. They must not change meanwhile."""
        wanted = tuple(map(int, states))
        parts_of = picker(wanted)
        for set_id in self._fewest_groups(names):
            group = self._groups[set_id]
            if len(names) < 2 or names <= group.names:
                parts = parts_of(group.by_state)
                size = sum(map(len, parts))
                if size:
                    yield Pool(parts, size, group.region, True)
        if self._ungrouped:
            crowds = [self._crowds_of(name, wanted) for name in names or (_EVERY,)]
            size, smallest = min(((sum(map(len, parts)), parts) for parts in crowds), key=_size)
            if size:
                yield Pool(smallest, size, None, len(names) < 2)

    def offered(self, most: int, least: int) -> list[tuple[str, int]]:
        """Return up to `most` services that at least `least` nodes offer, with the number of these.

        Those that more nodes offer come first. Services that ungrouped nodes alone offer are left out: a
        flood of unique names consists of these.
        """
        counts: Counter[str] = Counter()
        for group in self._groups.values():
            members = sum(map(len, group.by_state))
            for name in group.names:
                counts[name] += members
        for crowds in self._crowds if self._ungrouped else ():
            for name in counts:
                crowd = crowds.get(name, ())
                counts[name] += 1 if isinstance(crowd, int) else len(crowd)
        ranked = sorted(counts.items(), key=lambda found: (-found[1], found[0]))
        return [(name, count) for name, count in ranked[:most] if count >= least]

    def members(self) -> Iterator[tuple[int, State]]:
        """Yield (slot, state) for each place of each node in the index; for the consistency check."""
        for group in self._groups.values():
            for state in State:
                yield from ((slot, state) for slot in group.by_state[state])
        for state in State:
            for crowd in self._crowds_of(_EVERY, (state,)):
                yield from ((slot, state) for slot in crowd)

    def _fewest_groups(self, names: frozenset[str]) -> Iterable[int]:
        nothing: set[int] = set()
        return min((self._groups_by_service.get(name, nothing) for name in names or (_EVERY,)), key=len)

    def _crowds_of(self, name: str, states: Iterable[int]) -> list[Sequence[int]]:
        """Return the ungrouped nodes that offer `name`, by state."""
        crowds = [self._crowds[state].get(name, ()) for state in states]
        return [(crowd,) if isinstance(crowd, int) else crowd for crowd in crowds]

    def _join(self, group: _Group, slot: int, state: State) -> None:
        members = group.by_state[state]
        if slot >= len(self._places):
            self._extend_places(slot)
        self._places[slot] = len(members)
        members.append(slot)

    def _leave(self, group: _Group, slot: int, state: State) -> None:
        members = group.by_state[state]
        last = members.pop()
        if last != slot:
            place = self._places[slot]
            members[place] = last
            self._places[last] = place

    def _join_crowds(self, slot: int, state: State) -> None:
        crowds, places = self._crowds[state], array("I")
        for name in chain((_EVERY,), self._registry.service_set(slot).listed):
            crowd = crowds.get(name)
            if crowd is None:
                crowds[name] = slot
                places.append(0)
                continue
            if isinstance(crowd, int):
                crowd = crowds[name] = array("I", (crowd,))
            places.append(len(crowd))
            crowd.append(slot)
        self._ungrouped[slot] = places

    def _leave_crowds(self, slot: int, state: State) -> None:
        crowds, service_set = self._crowds[state], self._registry.service_set
        names = chain((_EVERY,), service_set(slot).listed)
        for name, place in zip(names, self._ungrouped.pop(slot), strict=True):
            crowd = crowds[name]
            if isinstance(crowd, int):
                del crowds[name]
                continue
            last = crowd.pop()
            if last != slot:
                crowd[place] = last
                number = service_set(last).listed.index(name) + 1 if name != _EVERY else 0
                self._ungrouped[last][number] = place
            if len(crowd) == 1:
                crowds[name] = crowd[0]


def _size(sized: tuple[int, object]) -> int:
    return sized[0]

"""Which discoverable nodes offer which services, arranged so that a random few are found at once.

Nodes are grouped by their exact set of services and region, within a group by state. A query unites the
groups that contain all it asks for, whose sizes give the exact total; a member is drawn by its position.
What a query costs depends on how many distinct sets there are, not on how many nodes. A hostile flood of
ever new sets is capped: beyond `groups_max` groups, a node stands in a crowd for each of its services, and
a query draws from the smallest crowd of those it asks for, whose members may lack the other ones.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import NamedTuple

from ..lifecycle import STATES, State
from .registry import Registry

GROUPS_MAX = 1_024
# Who wants to know whether some node has moved asks within so many moves, or takes it that it has.
MOVES_KEPT = 1_024


class Pool(NamedTuple):
    """Slots among which a draw may choose: `size` of them in `parts`, all in `region` where that is not None.

    `is_certain` says that all of them offer what was asked for; otherwise each is still to be looked at.
    """

    parts: Sequence[Sequence[int]]
    size: int
    region: str | None
    is_certain: bool


class _Group:
    """The members that share one set of services and one region, by state."""

    __slots__ = ("by_state", "names", "region")

    def __init__(self, names: frozenset[str], region: str) -> None:
        self.names = names
        self.region = region
        self.by_state: tuple[array[int], ...] = tuple(array("I") for _ in State)

    def is_empty(self) -> bool:
        return not any(self.by_state)


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
        # By state and service. A crowd of one is the bare slot: a flood of unique names is made of these.
        self._crowds: tuple[dict[str, array[int] | int], ...] = tuple({} for _ in State)
        # The places of an ungrouped slot in the crowd of all and in those of its services, in their order.
        self._ungrouped: dict[int, array[int]] = {}
        # How often a node came, went or moved, and which ones lately; one that is rewritten goes and comes.
        self.moves = 0
        self._moved: deque[int] = deque(maxlen=MOVES_KEPT)

    @property
    def ungrouped_count(self) -> int:
        """How many nodes offer sets beyond the most groups."""
        return len(self._ungrouped)

    def __len__(self) -> int:
        """How many nodes may be discovered, their states aside."""
        grouped = sum(len(members) for group in self._groups.values() for members in group.by_state)
        return grouped + len(self._ungrouped)

    def add(self, slot: int) -> None:
        """Take in the node in `slot`, by its services, region and state in the registry."""
        self._note(slot)
        group = self._group(self._registry.set_id(slot))
        state = self._registry.state(slot)
        if group is None:
            self._join_crowds(slot, state)
        else:
            self._join(group, slot, state)

    def add_all(self, slots: Sequence[int]) -> None:
        """Take in the nodes in `slots`, none of which is there: a fifth of the cost of one by one."""
        self._note_all(slots)
        together: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        states = map(self._registry.states.__getitem__, slots)
        for key, slot in zip(zip(self._registry.set_ids(slots), states, strict=True), slots, strict=True):
            together[key].append(slot)
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
        """The group of a service set, which is made where there is none; None where there are too many."""
        group = self._groups.get(set_id)
        if group is None and len(self._groups) < self._groups_max:
            service_set = self._registry.sets[set_id]
            group = self._groups[set_id] = _Group(service_set.names, service_set.region)
            for name in (*service_set.names, _EVERY):
                self._groups_by_service.setdefault(name, set()).add(set_id)
        return group

    def _extend_places(self, slot: int) -> None:
        self._places.extend(repeat(0, slot + 1 - len(self._places)))

    def remove(self, slot: int) -> None:
        """Take out the node in `slot`; its services and state in the registry are still what they were."""
        self._note(slot)
        state = self._registry.state(slot)
        if slot in self._ungrouped:
            self._part_from_crowds(slot, state)
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
        self._note(slot)
        if slot in self._ungrouped:
            self._part_from_crowds(slot, from_state)
            self._join_crowds(slot, to_state)
            return
        group = self._groups[self._registry.set_id(slot)]
        self._part(group, slot, from_state)
        self._join(group, slot, to_state)

    def move_all(self, slots: Sequence[int], from_state: State, to_state: State) -> None:
        """Follow many nodes, all of which are here, from one state to another: half of one by one."""
        ungrouped: list[int] = []
        together: defaultdict[int, list[int]] = defaultdict(list)
        for slot, set_id in zip(slots, self._registry.set_ids(slots), strict=True):
            (ungrouped if slot in self._ungrouped else together[set_id]).append(slot)
        # All groups are found before the first node is moved.
        groups = [(self._groups[set_id].by_state, moving) for set_id, moving in together.items()]
        places = self._places
        for by_state, moving in groups:
            self._note_all(moving)
            parting, joined = by_state[from_state], by_state[to_state]
            for slot in moving:
                last = parting.pop()
                if last != slot:
                    place = places[slot]
                    parting[place] = last
                    places[last] = place
                places[slot] = len(joined)
                joined.append(slot)
        for slot in ungrouped:
            self.move(slot, from_state, to_state)

    def pools(self, names: frozenset[str], states: Iterable[State]) -> Iterator[Pool]:
        """The members in one of `states` that offer all of `names`. They must not change meanwhile."""
        wanted = tuple(map(int, states))
        for set_id in self._fewest_groups(names):
            group = self._groups[set_id]
            if len(names) < 2 or names <= group.names:
                by_state = group.by_state
                parts = [by_state[state] for state in wanted]
                size = sum(map(len, parts))
                if size:
                    yield Pool(parts, size, group.region, True)
        if self._ungrouped:
            crowds = [self._crowds_of(name, wanted) for name in names or (_EVERY,)]
            size, smallest = min(((sum(map(len, parts)), parts) for parts in crowds), key=_size)
            if size:
                yield Pool(smallest, size, None, len(names) < 2)

    def moved_since(self, moves: int) -> list[int] | None:
        """The slots of all who came, went or moved since there were so many `moves`; None for too many."""
        count = self.moves - moves
        return list(islice(reversed(self._moved), count)) if count <= len(self._moved) else None

    def members(self) -> Iterator[tuple[int, State]]:
        """Every (slot, state) that the index holds, once for each place it stands in; for the check."""
        for group in self._groups.values():
            for state in State:
                yield from ((slot, state) for slot in group.by_state[state])
        for state in State:
            for crowd in self._crowds_of(_EVERY, (state,)):
                yield from ((slot, state) for slot in crowd)

    def _note(self, slot: int) -> None:
        self.moves += 1
        self._moved.append(slot)

    def _note_all(self, slots: Sequence[int]) -> None:
        self.moves += len(slots)
        self._moved.extend(slots[-MOVES_KEPT:])

    def _fewest_groups(self, names: frozenset[str]) -> Iterable[int]:
        nothing: set[int] = set()
        return min((self._groups_by_service.get(name, nothing) for name in names or (_EVERY,)), key=len)

    def _crowds_of(self, name: str, states: Iterable[int]) -> list[Sequence[int]]:
        """Those who offer `name`, by state, among all that stand in crowds."""
        crowds = [self._crowds[state].get(name, ()) for state in states]
        return [(crowd,) if isinstance(crowd, int) else crowd for crowd in crowds]

    def _join(self, group: _Group, slot: int, state: State) -> None:
        members = group.by_state[state]
        if slot >= len(self._places):
            self._extend_places(slot)
        self._places[slot] = len(members)
        members.append(slot)

    def _part(self, group: _Group, slot: int, state: State) -> None:
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

    def _part_from_crowds(self, slot: int, state: State) -> None:
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

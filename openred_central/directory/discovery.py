"""Discovery: a fair draw among all nodes that match, the most available first.

The draw picks members by random positions, so its cost depends on the number of results and not on the
number of matches. The candidates are ranked by availability. Filters that the index does not know reject
candidates within the draw: the last sign of life and, for nodes in crowds, the region and all services but
one. If they reject nearly all, a walk over all matches replaces the draw, in steps so that nobody waits long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import NamedTuple

from .lifecycle import LIVE_STATES, State
from .nodes import Nodes
from .state.columns import picker
from .state.node import is_discoverable
from .state.registry import Registry
from .state.service_index import Pool

# More candidates than results, so that ranking by availability has a choice.
CANDIDATES_PER_RESULT = 2
# Positions tried for each candidate before a walk replaces the draw.
TRIES_PER_CANDIDATE = 4
# Members looked at in one step of the walk, which holds up all other requests.
WALK_STEP_MEMBERS = 2_000
# Members that may lack services are counted up to this number; beyond it the total is estimated.
COUNTED_MAX = 1_000
# Shortest gap that counts as usual: a node that sends heartbeats every second is not away after two.
USUAL_GAP_S_MIN = 60.0


class Query(NamedTuple):
    """A search for up to `max_results` nodes in one of `states` that offer all of `names`.

    `min_last_seen_at` is the wall time since which a node must have been heard. If it and `states` leave no
    node, `fallback_states` are searched without it. `region` is required, `near` only preferred; either may
    be None.
    """

    names: frozenset[str]
    states: tuple[State, ...]
    max_results: int
    fallback_states: tuple[State, ...] = LIVE_STATES
    min_last_seen_at: float | None = None
    region: str | None = None
    near: str | None = None


class Found(NamedTuple):
    """The result of a query: `slots` with their `availabilities`, best first, and the `total` of matches.

    `total` counts services and states only. It is exact unless the query names several services and more than
    `COUNTED_MAX` nodes in crowds may offer them: these are estimated from a random sample. With `degraded`,
    no node matched and these come from `Query.fallback_states`.
    """

    slots: list[int]
    availabilities: list[float]
    total: int
    degraded: bool


def availability(silent_s: float, usual_gap_s: float) -> float:
    """Return how likely a node answers, from 0 to 1, by its silence compared with its usual gap."""
    gap_s = max(usual_gap_s, USUAL_GAP_S_MIN)
    return 1.0 if silent_s <= gap_s else gap_s / silent_s


def availability_of(registry: Registry, slot: int, now_s: float, tolerance_s: float) -> float:
    """Return the `availability` of the node in `slot` at attended `now_s`.

    It is 0 for a node in coma, and during an announced absence unless the node was heard since it began. For
    a node that is not active, `tolerance_s` is the longest gap that counts as usual.
    """
    last_seen_s, state = registry.last_seen_s[slot], registry.states[slot]
    if state == State.COMA:
        return 0.0
    away_from_s, away_until_s = registry.away_s(slot)
    if away_until_s > now_s and last_seen_s <= away_from_s:
        return 0.0
    silent_s = now_s - last_seen_s
    usual = availability(silent_s, registry.usual_gap_s[slot])
    return usual if state == State.ACTIVE else min(usual, tolerance_s / max(silent_s, tolerance_s))


class Draw:
    """One query on its way. Call `step` until it returns a result; let others run in between."""

    def __init__(self, nodes: Nodes, query: Query, now_s: float, random: Callable[[], float]) -> None:
        self._registry = nodes.registry
        self._index = nodes.index
        self._query = query
        self._now_s = now_s
        self._random = random
        self._tolerance_s = nodes.lifecycle.heartbeat_tolerance_s
        self._walk: _Walk | None = None
        self._total = 0
        self._degraded = False
        # True if each member of the pools must be looked at before it becomes a candidate.
        self._filters = False
        # True if all candidates are as available as a node can be.
        self._are_well = False

    def step(self) -> Found | None:
        """Do a bounded piece of work. Return None if there is more to do."""
        if self._walk is None:
            pools = list(self._index.pools(self._query.names, self._query.states))
            self._total = self._count(pools)
            candidates = self._from(pools)
            if candidates is None:
                return None
        elif not self._walk.step():
            return None
        else:
            candidates = [slot for slot in self._walk.taken if self._still_matches(slot)]
        if not candidates and not self._degraded:
            self._degraded = True
            candidates = self._from(list(self._index.pools(self._query.names, self._query.fallback_states)))
            if candidates is None:
                return None
        return self._ranked(candidates)

    def _count(self, pools: list[Pool]) -> int:
        """Return how many members of `pools` offer all services of the query, estimated for very many."""
        sure = sum(pool.size for pool in pools if pool.is_certain)
        parts = [part for pool in pools if not pool.is_certain for part in pool.parts]
        if not parts:
            return sure
        registry, names, random = self._registry, self._query.names, self._random
        members = sum(map(len, parts))
        if members <= COUNTED_MAX:
            return sure + sum(registry.count_offering(part, names) for part in parts)
        estimated = 0.0
        for part in filter(None, parts):
            looks = 1 + COUNTED_MAX * len(part) // members
            looked_at = [part[int(random() * len(part))] for _ in range(looks)]
            estimated += len(part) * registry.count_offering(looked_at, names) / looks
        return sure + round(estimated)

    def _from(self, pools: list[Pool]) -> list[int] | None:
        """Return candidates drawn from `pools`; None if a walk has begun instead."""
        wanted = self._query.max_results * CANDIDATES_PER_RESULT
        region = self._query.region
        uncertain = any(not pool.is_certain or (region and pool.region is None) for pool in pools)
        self._filters = uncertain or (self._query.min_last_seen_at is not None and not self._degraded)
        if region is not None:
            pools = [pool for pool in pools if pool.region in (region, None)]
        near = self._query.near
        preferred = [pool for pool in pools if pool.region == near] if near is not None else []
        taken = self._sample(preferred, wanted)
        if taken is not None and len(taken) >= self._query.max_results:
            return taken
        rest = self._sample([pool for pool in pools if pool.region != near or near is None], wanted)
        if taken is None or rest is None:
            parts = [part for pool in pools for part in pool.parts if part]
            self._walk = _Walk(parts, wanted, self._accepts, self._random)
            return None
        return taken + rest

    def _sample(self, pools: list[Pool], wanted: int) -> list[int] | None:
        """Return up to `wanted` random members that pass the filters; None if the tries were not enough."""
        total = sum(pool.size for pool in pools)
        tries = wanted * TRIES_PER_CANDIDATE
        if total <= tries:
            every = list(chain.from_iterable(chain.from_iterable(pool.parts for pool in pools)))
            if self._filters:
                every = list(filter(self._accepts, every))
            return _shuffled(every, wanted, self._random)
        return self._draw(pools, total, wanted, tries)

    def _draw(self, pools: list[Pool], total: int, wanted: int, tries: int) -> list[int] | None:
        """Draw as `_sample` does, by random positions among the `total` members, each tried once."""
        parts = list(filter(None, chain.from_iterable(pool.parts for pool in pools)))
        ends = list(accumulate(map(len, parts)))
        random, max_results = self._random, self._query.max_results
        accepts = self._accepts if self._filters else None
        tried: set[int] = set()
        taken: list[int] = []
        missing, best = min(wanted, max_results), 0
        while missing and tries:
            count = min(missing, tries)
            tries -= count
            positions = [int(random() * total) for _ in range(count)]
            if len(fresh := dict.fromkeys(positions)) < count or not tried.isdisjoint(fresh):
                positions = [position for position in fresh if position not in tried]
            tried.update(positions)
            # Counted back from the end of the part in which the position lies.
            numbers = [bisect_right(ends, position) for position in positions]
            slots = [parts[number][at - ends[number]] for number, at in zip(numbers, positions, strict=True)]
            taken += filter(accepts, slots) if accepts else slots
            best = self._count_best(taken)
            missing = min(wanted - len(taken), max_results - best)
        if missing and len(taken) < max_results:
            return None
        self._are_well = 0 < best == len(taken)
        return taken

    def _count_best(self, slots: list[int]) -> int:
        """Return how many of `slots` no later candidate can outrank.

        Once there are `max_results` of them, further candidates change nothing.
        """
        registry = self._registry
        if self._query.near is not None or registry.has_absences:
            return 0
        # Column by column, so that the processor fetches the memory of many nodes at once.
        pick, now_s, active = picker(slots), self._now_s, int(State.ACTIVE)
        rows = zip(
            *(pick(registry.last_seen_s), pick(registry.usual_gap_s), pick(registry.states)), strict=True
        )
        return sum([now_s - seen_s <= gap_s and state == active for seen_s, gap_s, state in rows])

    def _accepts(self, slot: int) -> bool:
        query = self._query
        least = query.min_last_seen_at
        if least is not None and self._registry.last_seen_at[slot] < least and not self._degraded:
            return False
        service_set = self._registry.service_set(slot)
        return query.region in (None, service_set.region) and query.names <= service_set.names

    def _still_matches(self, slot: int) -> bool:
        """Return whether a member found some steps ago still matches the query."""
        registry = self._registry
        if registry.is_free(slot) or not is_discoverable(registry.flags[slot]):
            return False
        states = self._query.fallback_states if self._degraded else self._query.states
        return registry.state(slot) in states and self._accepts(slot)

    def _ranked(self, candidates: list[int]) -> Found:
        registry, now_s, near = self._registry, self._now_s, self._query.near
        first = candidates[: self._query.max_results]
        if first and (self._are_well or (not self._degraded and self._count_best(first) == len(first))):
            # Nearly always there is nothing to rank.
            return Found(first, [1.0] * len(first), self._total, self._degraded)
        last_seen_s, usual_gap_s, states = registry.last_seen_s, registry.usual_gap_s, registry.states
        if self._degraded:
            # Among nodes that are equally unavailable, those heard last come first.
            candidates = sorted(candidates, key=last_seen_s.__getitem__, reverse=True)
        # Nearly all are well: this spares them the call of `availability_of`.
        active = () if registry.has_absences else (State.ACTIVE,)
        scored = [
            (
                (
                    1.0
                    if now_s - last_seen_s[slot] <= usual_gap_s[slot]
                    else availability(now_s - last_seen_s[slot], usual_gap_s[slot])
                )
                if states[slot] in active
                else availability_of(registry, slot, now_s, self._tolerance_s),
                slot,
            )
            for slot in candidates
        ]
        # Stable, so that equals stay in the random order in which they were drawn.
        scored.sort(key=itemgetter(0), reverse=True)
        if near is not None:
            scored.sort(key=lambda score_slot: registry.service_set(score_slot[1]).region != near)
        best = scored[: self._query.max_results]
        degraded = self._degraded and bool(best)
        return Found([slot for _, slot in best], [score for score, _ in best], self._total, degraded)


class _Walk:
    """A walk over all members of some pools, from a random place, until enough are accepted.

    It may meet twice, or miss, members that move between two steps: a discovery is a sample, not a listing.
    """

    def __init__(
        self,
        pools: list[Sequence[int]],
        wanted: int,
        accepts: Callable[[int], bool],
        random: Callable[[], float],
    ) -> None:
        place = int(random() * len(pools))
        cut = int(random() * len(pools[place]))
        # The rest of each pool as (slots, start, end). The first pool is cut in two, and ends the walk.
        parts = [(slots, 0, len(slots)) for slots in pools[place + 1 :] + pools[:place]]
        self._parts = deque([(pools[place], cut, len(pools[place])), *parts, (pools[place], 0, cut)])
        self._wanted = wanted
        self._accepts = accepts
        self._taken: dict[int, None] = {}

    @property
    def taken(self) -> list[int]:
        """Members accepted so far, each once."""
        return list(self._taken)

    def step(self) -> bool:
        """Look at some more members. Return True once enough were accepted or all were seen."""
        left = WALK_STEP_MEMBERS
        while self._parts and left > 0:
            slots, start, end = self._parts[0]
            stop = min(start + left, end, len(slots))
            for position in range(start, stop):
                if self._accepts(slots[position]):
                    self._taken[slots[position]] = None
                    if len(self._taken) == self._wanted:
                        return True
            left -= max(stop - start, 1)
            if stop >= min(end, len(slots)):
                self._parts.popleft()
            else:
                self._parts[0] = (slots, stop, end)
        return not self._parts


def _shuffled(slots: list[int], wanted: int, random: Callable[[], float]) -> list[int]:
    """Return `wanted` of `slots` in random order (Fisher and Yates, as far as needed); uses up `slots`."""
    taken: list[int] = []
    for left in range(len(slots), max(len(slots) - wanted, 0), -1):
        place = int(random() * left)
        taken.append(slots[place])
        slots[place] = slots[left - 1]
    return taken

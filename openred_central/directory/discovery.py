"""Discovery: a fair draw among all nodes that match, the most available first.

The draw picks members by random positions, so its cost depends on the number of results and not on the
number of matches. The candidates are ranked by a `Ranking`. Filters that the index does not know reject
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
from .ranking import Ranking
from .state.node import is_discoverable
from .state.service_index import Pool

# More candidates than results, so that the ranking has a choice.
CANDIDATES_PER_RESULT = 2
# Positions tried for each candidate before a walk replaces the draw.
TRIES_PER_CANDIDATE = 4
# Members looked at in one step of the walk, which holds up all other requests.
WALK_STEP_MEMBERS = 2_000
# Members that may lack services are counted up to this number; beyond it the total is estimated.
COUNTED_MAX = 1_000


class Query(NamedTuple):
    """A search for up to `max_results` nodes in one of `states` that offer all of `names`.

    `min_last_seen_at` is the wall time since which a node must have been heard, `min_score` the least score
    of the ranking that it must have. If they and `states` leave no node, `fallback_states` are searched
    without them. `region` is required, `near` only preferred; either may be None.
    """

    names: frozenset[str]
    states: tuple[State, ...]
    max_results: int
    fallback_states: tuple[State, ...] = LIVE_STATES
    min_last_seen_at: float | None = None
    min_score: float | None = None
    region: str | None = None
    near: str | None = None


class Found(NamedTuple):
    """The result of a query: `slots` with their `scores`, best first, and the `total` of matches.

    `total` counts services and states only. It is exact unless the query names several services and more than
    `COUNTED_MAX` nodes in crowds may offer them: these are estimated from a random sample. With `degraded`,
    no node matched and these come from `Query.fallback_states`.
    """

    slots: list[int]
    scores: list[float]
    total: int
    degraded: bool


class Draw:
    """One query on its way. Call `step` until it returns a result; let others run in between."""

    def __init__(
        self, nodes: Nodes, ranking: Ranking, query: Query, now_s: float, random: Callable[[], float]
    ) -> None:
        self._registry = nodes.registry
        self._index = nodes.index
        self._query = query
        self._now_s = now_s
        self._random = random
        self._ranking = ranking
        self._walk: _Walk | None = None
        # The scores of the nodes drawn last, in their order.
        self._scores: list[float] = []
        self._total = 0
        self._degraded = False
        # True if each member of the pools must be looked at before it becomes a candidate.
        self._filters = False

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
            self._scores = []
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
        bounds = (self._query.min_last_seen_at, self._query.min_score)
        self._filters = uncertain or (bounds != (None, None) and not self._degraded)
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
        self._scores = []
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
        return taken

    def _count_best(self, slots: list[int]) -> int:
        """Return how many of `slots`, to which each call adds some, are at least as good as is usual.

        Once there are `max_results` of them, further candidates would change little.
        """
        if self._query.near is not None:
            return 0
        usual = self._ranking.usual_score
        self._scores += self._ranking.scores(slots[len(self._scores) :], self._now_s)
        return sum([score >= usual for score in self._scores])

    def _accepts(self, slot: int) -> bool:
        query = self._query
        least = query.min_last_seen_at
        if least is not None and self._registry.last_seen_at[slot] < least and not self._degraded:
            return False
        bound = query.min_score
        if bound is not None and not self._degraded and self._ranking.scores((slot,), self._now_s)[0] < bound:
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
        registry, near = self._registry, self._query.near
        if self._degraded:
            # Among nodes that are equally unlikely to answer, those heard last come first.
            candidates = sorted(candidates, key=registry.last_seen_s.__getitem__, reverse=True)
            self._scores = []
        if len(self._scores) != len(candidates):
            self._scores = self._ranking.scores(candidates, self._now_s)
        scored = list(zip(self._scores, candidates, strict=True))
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

"""Mass silence is evidence against us: when very many nodes fall silent at once, we doubt ourselves first.

Nodes that moved on by silence within the last hour, and were not heard since, are counted, each once however
many states it passed. When one more would take the count above a share of the registry, and the directory's
own history expects far fewer, all of them are held: attended time stands still, so nobody ages. The hold ends
when so many came back that at most half of what is believed is still silent, after its longest time, or on an
operator's word; whoever is still silent then goes on, at a bounded pace.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from ...clock import Now
from ..state.registry import shard_of

WINDOW_S = 3_600.0
# The window is kept in slices, so that it moves on at the same cost however many nodes are in it.
SLICE_S = 60.0
# The dead of a slice are kept in so many parts: one of a million stops everybody for 70 ms when it grows.
NAME_PARTS = 64
# "Far lower": what is expected must be less than a quarter of what is seen.
UNEXPECTED_FACTOR = 4.0
# How much of the usual rate is taken over from each window that passes; a week or so is remembered.
USUAL_RATE_WEIGHT = 1 / 168
# After a hold at most this share of the registry advances in one pass of so many attended seconds.
RELEASE_SHARE = 0.15
RELEASE_PASS_S = 60.0


@dataclass(frozen=True, slots=True)
class MassSilenceOptions:
    """`share` of the registry (above 0; 1 and more never holds), `nodes_min` nodes, `hold_s_max` seconds."""

    share: float = 0.05
    nodes_min: int = 100
    hold_s_max: float = 86_400.0

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise ValueError(f"mass_silence_share is {self.share}, allowed is anything above 0")
        if self.nodes_min < 1:
            raise ValueError(f"mass_silence_nodes_min is {self.nodes_min}, allowed is 1 and above")
        if not self.hold_s_max > 0:
            raise ValueError(f"mass_silence_hold_max_s is {self.hold_s_max}, allowed is anything above 0")


@dataclass(frozen=True, slots=True)
class Hold:
    """Why and since when transitions are held. `since_at` wall, `since_monotonic_s` monotonic seconds."""

    since_at: float
    since_monotonic_s: float
    reason: str


class _Slice:
    """Who last moved on within one part of the window, that begins at attended `start_s`."""

    __slots__ = ("dead", "living", "start_s")

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        # How many of those that are in the registry; which they are, each slot tells.
        self.living = 0
        # By id, by which one that died is known when it returns, perhaps in another slot. In dictionaries,
        # which the garbage collector does not walk where they hold but text; it walked sets of a million ids
        # for 80 ms.
        self.dead: defaultdict[int, dict[str, None]] = defaultdict(dict)

    @property
    def count(self) -> int:
        return self.living + sum(map(len, self.dead.values()))


class MassSilence:
    """Decides, node by node, whether silence may still be believed. Nodes are known by their slots."""

    def __init__(self, options: MassSilenceOptions) -> None:
        self._options = options
        self.usual_per_h = 0.0
        self.hold: Hold | None = None
        # Oldest first; nobody is in two.
        self._slices: deque[_Slice] = deque()
        # Slices are numbered, from 1 on and never again: `_first` is the number of the oldest.
        self._first = 1
        # In which slice the node in each slot last moved on. A number below `_first` says nothing any more.
        # Four bytes, and nothing to be looked up by name: 0.1 µs for each transition instead of 0.6.
        self._slice_of = array("I")
        self._recent = 0
        self._window_started_s: float | None = None
        self._passed_s = -1.0
        self._releasing = False
        self._pass_started_s = 0.0
        self._pass_count = 0

    @property
    def releasing(self) -> bool:
        """Whether the backlog of a hold is being worked off, at a bounded pace."""
        return self._releasing

    @property
    def recent(self) -> int:
        """How many nodes moved on by silence within the last window and were not heard since."""
        return self._recent

    def threshold(self, nodes: int) -> float:
        """How many silent nodes within one window are believed in a registry of `nodes`."""
        if self._options.share >= 1:
            return float("inf")
        believed = max(self._options.share * nodes, self._options.nodes_min - 1)
        return max(believed, UNEXPECTED_FACTOR * self.usual_per_h)

    def counts(self, slot: int) -> bool:
        """Whether the node in `slot` is among the `recent` ones."""
        return slot < len(self._slice_of) and self._slice_of[slot] >= self._first

    def believes(self, count: int, nodes: int, now: Now) -> bool:
        """Whether so many more of `nodes` may advance by silence, whoever they are; none is being probed."""
        if self.hold is not None or self._releasing:
            return False
        self._pass_time(now.attended_s)
        return self._recent + count <= self.threshold(nodes)

    def may_advance(self, slot: int, nodes: int, asked: int, now: Now) -> bool:
        """Whether the node in `slot` may advance by silence; begins a hold where it is one too many.

        `nodes` is how many are registered. `asked` is how many of them are being probed: each may yet turn
        out to be silent, so its place is kept, but only their answers tell whether it is one too many.
        """
        if self.hold is not None:
            return False
        self._pass_time(now.attended_s)
        if self._releasing:
            return self._pass_count + asked < max(1, int(RELEASE_SHARE * nodes))
        threshold = self.threshold(nodes)
        # One that is counted already makes them no more.
        if self._recent + asked + 1 <= threshold or self.counts(slot):
            return True
        if asked:
            return False
        self.hold = Hold(
            now.wall_s,
            now.monotonic_s,
            f"{self._recent} of {nodes} nodes fell silent within an hour and more would follow; at most "
            f"{threshold:.0f} are believed, {self.usual_per_h:.1f} an hour are usual",
        )
        return False

    def advanced(self, slots: Sequence[int], now_s: float) -> None:
        """The nodes in `slots` moved on by silence at attended `now_s`, each through however many states."""
        if self._releasing:
            # The backlog says how long we held, not how many nodes fall silent now.
            self._pass_count += len(slots)
            return
        start_s = now_s - now_s % SLICE_S
        if not self._slices or self._slices[-1].start_s != start_s:
            self._slices.append(_Slice(start_s))
        slice_of, first = self._slice_of, self._first
        number = first + len(self._slices) - 1
        beyond = max(slots, default=-1) + 1 - len(slice_of)
        if beyond > 0:
            slice_of.frombytes(bytes(beyond * slice_of.itemsize))
        for slot in slots:
            if slice_of[slot] >= first:
                self.returned(slot)
            slice_of[slot] = number
        self._slices[-1].living += len(slots)
        self._recent += len(slots)

    def died(self, slot: int, node_id: str) -> None:
        """The node in `slot` moved on to its death: it is known by its name from now on."""
        if self.counts(slot):
            its_slice = self._slices[self._slice_of[slot] - self._first]
            its_slice.living -= 1
            its_slice.dead[shard_of(node_id, NAME_PARTS)][node_id] = None
            self._slice_of[slot] = 0

    def returned(self, slot: int) -> None:
        """The node in `slot` was heard, or its owner took it away: it is not silent, and not counted."""
        if self.counts(slot):
            self._slices[self._slice_of[slot] - self._first].living -= 1
            self._slice_of[slot] = 0
            self._recent -= 1

    def began_anew(self, node_id: str) -> None:
        """A node was registered: if it is one that had died, it is not silent, and not counted any more."""
        part = shard_of(node_id, NAME_PARTS)
        for each in self._slices:
            if part in each.dead and node_id in each.dead[part]:
                del each.dead[part][node_id]
                self._recent -= 1
                return

    def release(self, now_s: float) -> None:
        """End a hold; those who are still silent advance at a bounded pace until `caught_up`."""
        self.hold = None
        self._releasing = True
        self._pass_started_s = now_s
        self._pass_count = 0

    def caught_up(self) -> None:
        """Nothing is due any more: the next silence is judged afresh."""
        if self._releasing:
            self._releasing = False
            self._first += len(self._slices)
            self._slices.clear()
            self._recent = 0

    def reconsider(self, waiting: int, nodes: int, now_s: float, monotonic_s: float) -> bool:
        """End the hold if the nodes came back or its time is up.

        `waiting` of `nodes` are due and held, those left out that `recent` counts already. Returns whether
        the hold ended by this.
        """
        if self.hold is None:
            return False
        recovered = self._recent + waiting <= self.threshold(nodes) / 2
        if recovered or monotonic_s - self.hold.since_monotonic_s >= self._options.hold_s_max:
            self.release(now_s)
            return True
        return False

    def _pass_time(self, now_s: float) -> None:
        if now_s == self._passed_s:
            return
        self._passed_s = now_s
        if self._window_started_s is None:
            self._window_started_s = now_s
        windows = int((now_s - self._window_started_s) // WINDOW_S)
        if windows > 0:
            self.usual_per_h += (self._recent - self.usual_per_h) * USUAL_RATE_WEIGHT
            # Nothing was due in the windows since.
            self.usual_per_h *= (1 - USUAL_RATE_WEIGHT) ** (windows - 1)
            self._window_started_s += windows * WINDOW_S
        while self._slices and self._slices[0].start_s <= now_s - WINDOW_S:
            self._recent -= self._slices.popleft().count
            self._first += 1
        if now_s - self._pass_started_s >= RELEASE_PASS_S:
            self._pass_started_s = now_s
            self._pass_count = 0

"""Mass silence is evidence against us: if very many nodes fall silent at once, we doubt ourselves first.

Nodes that silence moved on within the last hour, and that were not heard since, are counted, each once
however many states it passed. If one more would lift the count above a share of the registry, and the
directory's own history expects far fewer, all transitions are held: attended time stands still, so no node
ages. The hold ends when so many nodes came back that at most half of the believed number is still silent,
after its longest time, or on an operator's word. Nodes that are still silent then move on at a bounded pace.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...clock import Now
from ..state.registry import shard_of

WINDOW_S = 3_600.0
# The window consists of slices, so that moving it costs the same however many nodes are in it.
SLICE_S = 60.0
# Dictionaries for the dead of a slice. One of a million entries would hold up everything when it grows.
NAME_PARTS = 64
# "Far fewer": less than a quarter of the observed number is expected.
UNEXPECTED_FACTOR = 4.0
# Weight of each window that passes in the usual rate, which so remembers about a week.
USUAL_RATE_WEIGHT = 1 / 168
# After a hold, at most this share of the registry moves on in one pass of `RELEASE_PASS_S` attended seconds.
RELEASE_SHARE = 0.15
RELEASE_PASS_S = 60.0


class MassSilenceOptions(NamedTuple):
    """Limits of the silence that is believed, and of a hold.

    `share` is the believed share of the registry (1 and more never holds), but never less than `nodes_min`
    nodes. A hold lasts at most `hold_s_max` seconds. `all_silent_s` is as in `Attendance`.
    """

    share: float
    nodes_min: int
    hold_s_max: float
    all_silent_s: float


class Hold(NamedTuple):
    """A hold of all transitions, with its start in wall time and in monotonic seconds, and its reason."""

    since_at: float
    since_monotonic_s: float
    reason: str


class _Slice:
    """Nodes that last moved on within one part of the window, which begins at attended `start_s`."""

    __slots__ = ("dead", "living", "start_s")

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        # Number of those that are in the registry; `_slice_of` says which they are.
        self.living = 0
        # By id, since a dead node may return in another slot. The garbage collector does not walk
        # dictionaries of text, but would walk sets.
        self.dead: defaultdict[int, dict[str, None]] = defaultdict(dict)

    @property
    def count(self) -> int:
        return self.living + sum(map(len, self.dead.values()))


class MassSilence:
    """Judge of silence, node by node. Nodes are known by their slots."""

    def __init__(self, options: MassSilenceOptions) -> None:
        self._options = options
        self.usual_per_h = 0.0
        self.hold: Hold | None = None
        self._judged_from_s = -math.inf
        # Oldest first. No node is in two slices.
        self._slices: deque[_Slice] = deque()
        # Slices are numbered from 1 on, and no number comes twice. `_first` is the number of the oldest.
        self._first = 1
        # Number of the slice in which the node in each slot last moved on. A number below `_first` is stale.
        self._slice_of = array("I")
        # Number of nodes that silence moved on within the last window and that were not heard since.
        self.recent = 0
        self._window_started_s: float | None = None
        self._passed_s = -1.0
        # True while the backlog of a hold moves on, at a bounded pace.
        self.releasing = False
        self._pass_started_s = 0.0
        self._pass_count = 0

    def threshold(self, nodes: int) -> float:
        """Return how many silent nodes within one window are believed in a registry of `nodes`."""
        if self._options.share >= 1:
            return float("inf")
        believed = max(self._options.share * nodes, self._options.nodes_min - 1)
        return max(believed, UNEXPECTED_FACTOR * self.usual_per_h)

    def counts(self, slot: int) -> bool:
        """Return whether the node in `slot` is among the `recent` ones."""
        return slot < len(self._slice_of) and self._slice_of[slot] >= self._first

    def believes(self, count: int, nodes: int, now: Now) -> bool:
        """Return whether any `count` more of `nodes` may move on by silence, while none is being probed."""
        if self.hold is not None or self.releasing:
            return False
        self._pass_time(now.attended_s)
        return self.recent + count <= self.threshold(nodes)

    def may_advance(self, slot: int, nodes: int, asked: int, now: Now) -> bool:
        """Return whether the node in `slot` may move on by silence; begin a hold if it is one too many.

        `nodes` are registered and `asked` of them are being probed. Each of these may turn out to be silent,
        so its place is kept, but only its answer can make it one too many.
        """
        if self.hold is not None:
            return False
        self._pass_time(now.attended_s)
        if self.releasing:
            return self._pass_count + asked < max(1, int(RELEASE_SHARE * nodes))
        threshold = self.threshold(nodes)
        # A node that is counted already does not increase the number.
        if self.recent + asked + 1 <= threshold or self.counts(slot):
            return True
        if asked:
            return False
        self.hold = Hold(
            now.wall_s,
            now.monotonic_s,
            f"{self.recent} of {nodes} nodes fell silent within an hour and more would follow; at most "
            f"{threshold:.0f} are believed, {self.usual_per_h:.1f} an hour are usual",
        )
        return False

    def advanced(self, slots: Sequence[int], now_s: float) -> None:
        """Count the nodes in `slots`, which silence moved on at attended `now_s`."""
        if self.releasing:
            # The backlog shows how long the hold was, not how many nodes fall silent now.
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
        self.recent += len(slots)

    def died(self, slot: int, node_id: str) -> None:
        """Count the node in `slot` by its name from now on, because it died."""
        if self.counts(slot):
            its_slice = self._slices[self._slice_of[slot] - self._first]
            its_slice.living -= 1
            its_slice.dead[shard_of(node_id, NAME_PARTS)][node_id] = None
            self._slice_of[slot] = 0

    def returned(self, slot: int) -> None:
        """Stop counting the node in `slot`, because it was heard, has left or was forgotten."""
        if self.counts(slot):
            self._slices[self._slice_of[slot] - self._first].living -= 1
            self._slice_of[slot] = 0
            self.recent -= 1

    def began_anew(self, node_id: str) -> None:
        """Stop counting a node that had died, because it was registered again."""
        part = shard_of(node_id, NAME_PARTS)
        for each in self._slices:
            if part in each.dead and node_id in each.dead[part]:
                del each.dead[part][node_id]
                self.recent -= 1
                return

    def release(self, now_s: float) -> None:
        """End a hold. Nodes that are still silent move on at a bounded pace until `caught_up`."""
        self.hold = None
        self.releasing = True
        self._pass_started_s = now_s
        self._pass_count = 0

    def caught_up(self) -> None:
        """Judge the next silence afresh, because nothing is due any more."""
        if self.releasing:
            self.releasing = False
            self._first += len(self._slices)
            self._slices.clear()
            self.recent = 0

    def told_hold(self, monotonic_s: float) -> dict[str, Any] | None:
        """Return the hold as plain data for `resume` in another process; None without one."""
        hold = self.hold
        if hold is None:
            return None
        held_s = monotonic_s - hold.since_monotonic_s
        return {"since_at": hold.since_at, "held_s": held_s, "reason": hold.reason}

    def resume(self, told: Mapping[str, Any] | None, monotonic_s: float) -> None:
        """Go on with the hold of another process, which told it."""
        if told is not None:
            self.hold = Hold(told["since_at"], monotonic_s - told["held_s"], told["reason"])
            # Until all that are silent have been found to wait, none of them counts as heard again.
            self._judged_from_s = monotonic_s + RELEASE_PASS_S

    def reconsider(self, waiting: int, nodes: int, now_s: float, monotonic_s: float) -> None:
        """End the hold if the nodes came back or its time is up.

        `waiting` of `nodes` are due and held, without those that `recent` counts already.
        """
        if self.hold is None:
            return
        few = self.recent + waiting <= self.threshold(nodes) / 2
        recovered = few and monotonic_s >= self._judged_from_s
        if recovered or monotonic_s - self.hold.since_monotonic_s >= self._options.hold_s_max:
            self.release(now_s)

    def _pass_time(self, now_s: float) -> None:
        if now_s == self._passed_s:
            return
        self._passed_s = now_s
        if self._window_started_s is None:
            self._window_started_s = now_s
        windows = int((now_s - self._window_started_s) // WINDOW_S)
        if windows > 0:
            self.usual_per_h += (self.recent - self.usual_per_h) * USUAL_RATE_WEIGHT
            # Nothing was due in the windows since.
            self.usual_per_h *= (1 - USUAL_RATE_WEIGHT) ** (windows - 1)
            self._window_started_s += windows * WINDOW_S
        while self._slices and self._slices[0].start_s <= now_s - WINDOW_S:
            self.recent -= self._slices.popleft().count
            self._first += 1
        if now_s - self._pass_started_s >= RELEASE_PASS_S:
            self._pass_started_s = now_s
            self._pass_count = 0

"""Mass silence is evidence against us: when very many nodes fall silent at once, we doubt ourselves first.

Transitions by silence are counted over the last hour. When one more would take the count above a share of
the registry, and the directory's own history expects far fewer, all of them are held: attended time stands
still, so nobody ages. The hold ends when the nodes come back, after its longest time, or on an operator's
word; whoever is still silent then goes on, at a bounded pace.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..clock import Now

WINDOW_S = 3_600.0
# The window is counted in slices, so that it costs the same however many transitions it holds.
SLICE_S = 60.0
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


class MassSilence:
    """Decides, transition by transition, whether silence may still be believed."""

    def __init__(self, options: MassSilenceOptions, *, transitions_per_h: float = 0.0) -> None:
        self._options = options
        self.usual_per_h = transitions_per_h
        self.hold: Hold | None = None
        # (start of the slice in attended seconds, transitions in it), oldest first.
        self._slices: deque[tuple[float, int]] = deque()
        self._recent = 0
        self._revived = 0
        self._window_started_s: float | None = None
        self._releasing = False
        self._pass_started_s = 0.0
        self._pass_count = 0

    @property
    def releasing(self) -> bool:
        """Whether the backlog of a hold is being worked off, at a bounded pace."""
        return self._releasing

    @property
    def recent(self) -> int:
        """Transitions by silence within the last window."""
        return self._recent

    def threshold(self, nodes: int) -> float:
        """How many transitions within one window are believed in a registry of `nodes`."""
        if self._options.share >= 1:
            return float("inf")
        believed = max(self._options.share * nodes, self._options.nodes_min - 1)
        return max(believed, UNEXPECTED_FACTOR * self.usual_per_h)

    def may_advance(self, nodes: int, asked: int, now: Now) -> bool:
        """Whether one more node may advance by silence; begins a hold where it is one too many.

        `nodes` is how many are registered. `asked` is how many of them are being probed: each may yet turn
        out to be silent, so its place is kept, but only their answers tell whether it is one too many.
        """
        if self.hold is not None:
            return False
        self._pass_time(now.attended_s)
        if self._releasing:
            return self._pass_count + asked < max(1, int(RELEASE_SHARE * nodes))
        threshold = self.threshold(nodes)
        if self._recent + asked + 1 <= threshold:
            return True
        if asked:
            return False
        self._revived = 0
        self.hold = Hold(
            now.wall_s,
            now.monotonic_s,
            f"{self._recent} of {nodes} nodes fell silent within an hour and more would follow; at most "
            f"{threshold:.0f} are believed, {self.usual_per_h:.1f} an hour are usual",
        )
        return False

    def advanced(self, now_s: float) -> None:
        """Count one transition by silence at attended `now_s`."""
        if self._releasing:
            # The backlog says how long we held, not how many nodes fall silent now.
            self._pass_count += 1
            return
        start_s = now_s - now_s % SLICE_S
        if self._slices and self._slices[-1][0] == start_s:
            self._slices[-1] = (start_s, self._slices[-1][1] + 1)
        else:
            self._slices.append((start_s, 1))
        self._recent += 1

    def revived(self) -> None:
        """Count one node that had fallen silent and came back; those are what ends a hold early."""
        self._revived += 1

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
            self._slices.clear()
            self._recent = 0

    def reconsider(self, waiting: int, nodes: int, now_s: float, monotonic_s: float) -> bool:
        """End the hold if the nodes came back or its time is up.

        `waiting` of `nodes` are due and held; those that advanced before the hold count as silent too until
        they come back. Returns whether the hold ended by this.
        """
        if self.hold is None:
            return False
        recovered = self._recent + waiting - self._revived <= self.threshold(nodes) / 2
        if recovered or monotonic_s - self.hold.since_monotonic_s >= self._options.hold_s_max:
            self.release(now_s)
            return True
        return False

    def _pass_time(self, now_s: float) -> None:
        if self._window_started_s is None:
            self._window_started_s = now_s
        windows = int((now_s - self._window_started_s) // WINDOW_S)
        if windows > 0:
            self.usual_per_h += (self._recent - self.usual_per_h) * USUAL_RATE_WEIGHT
            # Nothing was due in the windows since.
            self.usual_per_h *= (1 - USUAL_RATE_WEIGHT) ** (windows - 1)
            self._window_started_s += windows * WINDOW_S
        while self._slices and self._slices[0][0] <= now_s - WINDOW_S:
            self._recent -= self._slices.popleft()[1]
        if now_s - self._pass_started_s >= RELEASE_PASS_S:
            self._pass_started_s = now_s
            self._pass_count = 0

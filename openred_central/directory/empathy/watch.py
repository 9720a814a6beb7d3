"""The watch finds networks and regions that fell silent as a whole, and shows them. Pure.

The visits know of each due how likely it was to be met. The watch compares the sum of these chances with what
was met, for every large group of nodes, in windows of equal expectation. A group is *dark* if far fewer nodes
were heard than expected. Only *vouched* nodes count: their key or address is proved, and they were heard on
many days. A dark network accuses nobody and changes no deadline.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from math import sqrt
from typing import Final, NamedTuple

from ...clock import Now
from ..lifecycle import DAY_S, State
from ..state.habits import DAYS_KNOWN
from ..state.node import OBSERVED, PROVEN
from ..state.registry import Registry
from .groups import Group, Groups, groups_of, is_public

# Groups of fewer vouched nodes fill no window.
MEMBERS_MIN: Final = 40
GROUPS_MAX: Final = 4_096
# Groups that are counted at a time. Further ones have to wait for another day.
COUNTED_MAX: Final = 4 * GROUPS_MAX
# Slots and dark groups that `regroup` looks at.
PIECE_SLOTS: Final = 16
PIECE_GROUPS: Final = 8
# A window closes when so many nodes were expected, and is thrown away after so long. It spans more than one
# visit of each node: otherwise neighbours in the order of slots, registered by one caller, could fill it.
EXPECTED_MIN: Final = 30.0
WINDOW_S_MIN: Final = 5_400.0
WINDOW_S_MAX: Final = DAY_S
# Below this share of the expected nodes, and beyond this many deviations: one window is enough, or two in a
# row are.
DARK_SHARE: Final = 0.25
DARK_DEVIATIONS: Final = 6.0
DIM_SHARE: Final = 0.5
DIM_DEVIATIONS: Final = 4.0
# No smaller group may have missed more of the dues that a coarse one missed: a third, and room for chance.
PART_SHARE_MAX: Final = 0.4
# Parts of a window, and late nodes of a group, that are remembered.
PARTS_MAX: Final = 4_096
LATE_MAX: Final = 256
# A group that stays dark for longer is given up, and judged afresh.
DARK_S_MAX: Final = 180 * DAY_S


class Darkness(NamedTuple):
    """A dark group, since wall time `since_at`.

    In the windows that showed it, `heard` of `expected` nodes were. `members` are its vouched nodes.
    """

    group: Group
    since_at: float
    expected: float
    heard: int
    members: int


class _Window:
    """A window: the dues that were expected to be met, and those that were, since a moment."""

    __slots__ = ("expected", "heard", "late", "missed", "start", "variance")

    def __init__(self, start: Now) -> None:
        self.start = start
        self.expected = self.variance = 0.0
        self.heard = 0
        # Missed dues by part.
        self.missed: dict[bytes, int] = {}
        self.late = array("I")

    def add(self, slot: int, part: bytes, chance: float, *, met: bool) -> None:
        self.expected += chance
        self.variance += chance * (1 - chance)
        self.heard += met
        if met:
            return
        if part in self.missed or len(self.missed) < PARTS_MAX:
            self.missed[part] = self.missed.get(part, 0) + 1
        if len(self.late) < LATE_MAX:
            self.late.append(slot)

    def is_below(self, share: float, deviations: float) -> bool:
        """Return whether fewer were heard than this share of the expected, beyond so many deviations."""
        missed = self.expected - self.heard
        return self.heard < share * self.expected and missed > deviations * sqrt(self.variance)

    def is_shared(self) -> bool:
        """Return whether no part alone explains what was missed."""
        return max(self.missed.values()) <= PART_SHARE_MAX * sum(self.missed.values())


class _Watched:
    """One group that is watched, with its present window."""

    __slots__ = ("dark", "dim", "group", "late", "members", "since_s", "window")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.members = 0
        self.window: _Window | None = None
        # The window before, if it was bad.
        self.dim: _Window | None = None
        self.dark: Darkness | None = None
        self.since_s = 0.0
        # While it is dark: slots of nodes that were missed, with the time of that.
        self.late: dict[int, float] = {}

    def add(self, slot: int, part: bytes, chance: float, met: bool, now: Now) -> bool:
        """Take a sample. Return whether the group became dark by it."""
        window = self.window
        age_s = now.attended_s - window.start.attended_s if window is not None else 0.0
        if window is None or age_s > WINDOW_S_MAX:
            if window is not None:
                self.dim = None
            window = self.window = _Window(now)
        window.add(slot, part, chance, met=met)
        if window.expected < EXPECTED_MIN or age_s < WINDOW_S_MIN:
            return False
        dim, self.dim, self.window = self.dim, None, None
        if not window.is_below(DIM_SHARE, DIM_DEVIATIONS):
            return False
        # No part of a group that is not public is seen.
        if is_public(self.group) and not window.is_shared():
            return False
        if dim is None and not window.is_below(DARK_SHARE, DARK_DEVIATIONS):
            self.dim = window
            return False
        windows = [window] if dim is None else [dim, window]
        self.dark = Darkness(
            self.group,
            windows[0].start.wall_s,
            sum(one.expected for one in windows),
            sum(one.heard for one in windows),
            self.members,
        )
        self.since_s = now.attended_s
        self.late = dict.fromkeys((slot for one in windows for slot in one.late), now.attended_s)
        return True

    def forget_windows(self) -> None:
        """Begin anew: what the present windows hold was explained by another group."""
        self.window = self.dim = None


class Watch:
    """The watch over the nodes of `registry`; `days` has on how many days the node in each slot was heard.

    `observers` are called with a group that became dark, or that is back, and the moment.
    """

    def __init__(self, registry: Registry, days: Sequence[int]) -> None:
        self._registry = registry
        self._days = days
        self.observers: list[Callable[[Darkness, bool, Now], object]] = []
        self._groups: dict[Group, _Watched] = {}
        self._dark: dict[Group, _Watched] = {}
        # The pass that counts the members of groups: when it began, and how many slots are left.
        self._counted_s: float | None = None
        self._next_slot = self._slots_left = 0
        self._counts: dict[Group, int] = {}
        # Groups that are large enough, in this pass.
        self._large: dict[Group, _Watched] = {}

    @property
    def watched(self) -> int:
        """Number of groups that are watched."""
        return len(self._groups)

    @property
    def dark(self) -> list[Darkness]:
        """The groups that are dark, the longest first."""
        return [watched.dark for watched in self._dark.values() if watched.dark is not None]

    def sample(self, slot: int, chance: float, met: bool, now: Now) -> None:
        """Take that a due of the node in `slot` was met or missed; it was met with this chance."""
        if not self._groups or not self._is_vouched(slot):
            return
        found = groups_of(self._registry, slot)
        if self._dark:
            for group in found.groups:
                watched = self._dark.get(group)
                if watched is not None:
                    # It explains the silence, so the sample counts for no other group.
                    if not met and len(watched.late) < LATE_MAX:
                        watched.late[slot] = now.attended_s
                    return
        self._add(slot, found, chance, met, now)

    def regroup(self, now: Now) -> None:
        """Look at some dark groups, and once a day at some slots, to find the largest groups."""
        for group in list(self._dark)[:PIECE_GROUPS]:
            watched = self._dark.pop(group)
            if self._is_back(watched, now):
                self._end(watched, now)
            else:
                # To its end, so that all have their turn.
                self._dark[group] = watched
        if self._slots_left:
            self._count()
        elif self._counted_s is None or now.attended_s - self._counted_s >= DAY_S:
            self._counted_s = now.attended_s
            self._slots_left = self._registry.slots_count
            # Known groups are counted in any case. Each pass begins elsewhere, so that no flood of groups
            # comes first every day.
            self._counts = dict.fromkeys(self._groups, 0)
            self._large = {}
            self._next_slot += self._slots_left // 3

    def _is_vouched(self, slot: int) -> bool:
        return bool(self._registry.flags[slot] & (PROVEN | OBSERVED)) and self._days[slot] >= DAYS_KNOWN

    def _add(self, slot: int, found: Groups, chance: float, met: bool, now: Now) -> None:
        for place, group in enumerate(found.groups):
            watched = self._groups.get(group)
            if watched is not None and watched.add(slot, found.parts[place], chance, met, now):
                assert watched.dark is not None
                self._dark[group] = watched
                for wider in found.groups[place + 1 :]:
                    if wider in self._groups:
                        self._groups[wider].forget_windows()
                self._report(watched.dark, True, now)
                return

    def _is_back(self, watched: _Watched, now: Now) -> bool:
        """Return whether half of the missed nodes were heard again, or the time is up."""
        heard_s = self._registry.last_seen_s
        back = sum(heard_s[slot] > missed_s for slot, missed_s in watched.late.items())
        return 2 * back >= len(watched.late) or now.attended_s - watched.since_s >= DARK_S_MAX

    def _end(self, watched: _Watched, now: Now) -> None:
        darkness, watched.dark = watched.dark, None
        watched.late = {}
        watched.forget_windows()
        assert darkness is not None
        self._report(darkness, False, now)

    def _report(self, darkness: Darkness, is_dark: bool, now: Now) -> None:
        for observer in self.observers:
            observer(darkness, is_dark, now)

    def _count(self) -> None:
        """Count the members of groups in the next slots; at the end of the pass, watch the large groups."""
        registry, counts, slots = self._registry, self._counts, self._registry.slots_count
        for _ in range(min(PIECE_SLOTS, self._slots_left)):
            self._slots_left -= 1
            slot = self._next_slot % slots
            self._next_slot = slot + 1
            if registry.states[slot] != State.ACTIVE or not self._is_vouched(slot):
                continue
            for group in groups_of(registry, slot).groups:
                count = counts.get(group, 0) + 1
                if group in counts or len(counts) < COUNTED_MAX:
                    counts[group] = count
                if count == MEMBERS_MIN and len(self._large) < GROUPS_MAX:
                    # The largest groups get so far first.
                    self._large[group] = self._groups.get(group) or _Watched(group)
        if not self._slots_left:
            for group, watched in self._large.items():
                watched.members = counts[group]
            self._groups, self._counts, self._large = self._large | self._dark, {}, {}

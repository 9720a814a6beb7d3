"""The last commits of a run, by which it is told how far a database went back. Pure."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final, NamedTuple

# Commits older than this are not remembered.
REMEMBERED_S: Final = 600.0
# Commits of so long share one time.
_SHARED_S: Final = 1.0


class _Stretch(NamedTuple):
    """Commits that followed each other without a gap, and when the first one was made."""

    made_s: float
    first_seq: int
    tags: array[int]


class History:
    """The commits of the last minutes, each by its number and its tag."""

    def __init__(self) -> None:
        self._stretches: deque[_Stretch] = deque()

    def add(self, seq: int, tag: int, now_s: float) -> None:
        """Add a commit that was made now."""
        last = self._stretches[-1] if self._stretches else None
        if last and seq == last.first_seq + len(last.tags) and now_s - last.made_s < _SHARED_S:
            last.tags.append(tag)
        else:
            self._stretches.append(_Stretch(now_s, seq, array("q", [tag])))
        while len(self._stretches) > 1 and now_s - self._stretches[1].made_s > REMEMBERED_S:
            self._stretches.popleft()

    def ago_s(self, seq: int, tag: int, now_s: float) -> float | None:
        """Return how many seconds ago this was the last commit, up to a second more; None if it never was."""
        followed_s = now_s
        for stretch in reversed(self._stretches):
            place = seq - stretch.first_seq
            if 0 <= place < len(stretch.tags) and stretch.tags[place] == tag:
                is_last = place == len(stretch.tags) - 1
                return now_s - (followed_s if is_last else stretch.made_s)
            followed_s = stretch.made_s
        return None

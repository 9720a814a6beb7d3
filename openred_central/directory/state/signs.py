"""Signs of life one by one, by columns, for other processes: few of a page, and often. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import compress
from typing import NamedTuple

from .registry import Registry


class SignColumns(NamedTuple):
    """The latest signs of life of the nodes in some slots; the columns are as in `PageRun`."""

    slots: Sequence[int] = ()
    last_seen_at: Sequence[float] = ()
    last_seen_s: Sequence[float] = ()
    usual_gap_s: Sequence[float] = ()

    def parts(self, rows: int) -> Iterator[SignColumns]:
        """Yield them in parts of so many."""
        for first in range(0, len(self.slots), rows):
            yield SignColumns._make(column[first : first + rows] for column in self)

    def only(self, slots: Collection[int]) -> SignColumns:
        """Return those of `slots` alone."""
        wanted = list(map(set(slots).__contains__, self.slots))
        return SignColumns._make(list(compress(column, wanted)) for column in self)


def signs_in(registry: Registry, slots: Sequence[int]) -> SignColumns:
    """Return the latest signs of life in `slots`."""
    columns = registry.last_seen_at, registry.last_seen_s, registry.usual_gap_s
    return SignColumns(slots, *([column[slot] for slot in slots] for column in columns))

"""Signs of life by pages: the latest ones of runs of slots, for stores and other processes. Pure.

A run is copied out of the columns of the registry, which costs the loop far less than to take out each sign
of life that came. Pages are stored again and again; the latest one holds.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable
from itertools import compress, count
from typing import Any, Final, NamedTuple

# Slots of a page. A packed page nearly fills one of SQLite's.
PAGE_SLOTS: Final = 200
# Bytes of a slot in a packed page.
SLOT_BYTES: Final = 20
# Pages of a run, so that copying it takes the loop only shortly.
RUN_PAGES: Final = 16
# The `last_seen_s` of a slot without a node.
NO_SIGN_S: Final = -1.0
# Marks of a page that gathers.
HEARD: Final = 1
NOTED: Final = 2
_HEARD: Final = re.compile(bytes([HEARD]))


class PageRun(NamedTuple):
    """The latest signs of life of the slots of one page, or of several that follow each other, by columns.

    `number` is that of the first page. `last_seen_at` is in wall seconds, `last_seen_s` in attended seconds
    or `NO_SIGN_S` where no node is, `usual_gap_s` in seconds. The last page of a directory may be shorter.
    """

    number: int
    last_seen_at: array[float]
    last_seen_s: array[float]
    usual_gap_s: array[float]

    @property
    def first_slot(self) -> int:
        return self.number * PAGE_SLOTS

    @property
    def slots(self) -> range:
        return range(self.first_slot, self.first_slot + len(self.last_seen_s))

    @property
    def numbers(self) -> range:
        """Return the numbers of its pages."""
        return range(self.number, self.number + -(-len(self.last_seen_s) // PAGE_SLOTS))


def pack(run: PageRun) -> list[bytes]:
    """Return the pages of `run`: the columns of each one after the other, little-endian.

    A slot has `SLOT_BYTES`.
    """
    at, attended, gap = map(_little_endian, run[1:])
    return [
        at[8 * first : 8 * (first + PAGE_SLOTS)]
        + attended[8 * first : 8 * (first + PAGE_SLOTS)]
        + gap[4 * first : 4 * (first + PAGE_SLOTS)]
        for first in range(0, len(run.last_seen_s), PAGE_SLOTS)
    ]


def unpack(number: int, packed: bytes | memoryview) -> PageRun:
    """Return the page with this number alone. Raise `ValueError` for bytes of another length."""
    count, rest = divmod(len(packed), SLOT_BYTES)
    if rest or count > PAGE_SLOTS:
        raise ValueError(f"has {len(packed)} bytes, which no page has")
    page, start = PageRun(number, array("d"), array("d"), array("f")), 0
    for column in page[1:]:
        end = start + count * column.itemsize
        column.frombytes(packed[start:end])
        if sys.byteorder == "big":
            column.byteswap()
        start = end
    return page


def slots_of(pages: range) -> range:
    """Return the slots on `pages`."""
    return range(pages.start * PAGE_SLOTS, pages.stop * PAGE_SLOTS)


def _little_endian(column: array[Any]) -> bytes:
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()


class HeardPages:
    """Pages on which a node was heard, or ceased to be.

    They gather until a flush makes them due, and are then taken: so a page is stored once a flush, however
    often its nodes are heard. `marks` has room for every page in use, and for each page that gathers `HEARD`,
    or `NOTED` without a sign of life since `is_news` was asked. The heartbeat path (`Directory.hear`) writes
    it, instead of calling `add`. A process that stores nothing, but tells each sign of life, has pages of one
    slot.
    """

    def __init__(self, slots_each: int = PAGE_SLOTS) -> None:
        self.slots_each = slots_each
        self.marks = bytearray()
        # If it is a set, it gets the slots that `add` is called for.
        self.added: set[int] | None = None
        # True after a sign of life since `is_news` that `marks` does not show.
        self.unmarked_news = False
        self._due = bytearray()
        # Pages are taken from here on, round and round: a slow store or a page that waits holds up no other.
        self._next = 0

    def __len__(self) -> int:
        return len(self.marks) - self.marks.count(0) + self.due

    @property
    def due(self) -> int:
        """Return how many pages may be taken."""
        return self._due.count(1)

    def make_room(self, slots: int) -> None:
        """Make room for the marks of so many slots."""
        pages = -(-slots // self.slots_each)
        if pages > len(self.marks):
            for marks in (self.marks, self._due):
                marks.extend(bytes(pages - len(marks)))

    def add(self, slot: int) -> None:
        """Add the page of `slot`, whose node was heard."""
        self.make_room(slot + 1)
        self.marks[slot // self.slots_each] = HEARD
        if self.added is not None:
            self.added.add(slot)

    def add_freed(self, slot: int) -> None:
        """Add the page of `slot`, whose node is no more."""
        self.make_room(slot + 1)
        page = slot // self.slots_each
        self.marks[page] = self.marks[page] or NOTED

    def is_news(self) -> bool:
        """Return whether any node was heard since the last call."""
        found, self.unmarked_news = self.unmarked_news or HEARD in self.marks, False
        if found:
            self.marks[:] = self.marks.replace(bytes([HEARD]), bytes([NOTED]))
        return found

    def put_back(self, pages: Iterable[int]) -> None:
        """Make `pages` due, also those that were taken before."""
        for page in pages:
            self._due[page] = 1

    def flush(self) -> None:
        """Make all pages due."""
        self.unmarked_news |= HEARD in self.marks
        self.put_back(compress(count(), self.marks))
        self.marks[:] = bytes(len(self.marks))

    def take_heard(self) -> list[int]:
        """Remove all pages that gather, and return those on which a node was heard."""
        heard = [found.start() for found in _HEARD.finditer(self.marks)]
        self.marks[:] = bytes(len(self.marks))
        return heard

    def take(self, limit: int) -> list[range]:
        """Remove and return up to `limit` pages that are due, as runs of at most `RUN_PAGES`."""
        due, runs = self._due, list[range]()
        while limit > 0 and (first := self._find()) >= 0:
            stop = min(first + min(limit, RUN_PAGES), len(due))
            end = due.find(0, first, stop)
            self._next = stop if end < 0 else end
            runs.append(range(first, self._next))
            due[first : self._next] = bytes(len(runs[-1]))
            limit -= len(runs[-1])
        return runs

    def _find(self) -> int:
        """Return the next page that is due; -1 without any."""
        found = self._due.find(1, self._next)
        return found if found >= 0 else self._due.find(1, 0, self._next)

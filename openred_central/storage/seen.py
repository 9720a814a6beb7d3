"""Pages of signs of life in a database, and how they are laid over the records. Pure.

A record is written with the last sign of life of its node, and stays as it is when the node is heard again:
then its page of `Batch.pages` is written. Both rows have the number of their commit. A page holds for the
records of its slots whose number is not higher: a slot that was filled since has a younger record.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from ..directory.state.node import Record
from ..directory.state.pages import NO_SIGN_S, PAGE_SLOTS, PageRun, pack, unpack
from .store import Damage

# The first byte of each row.
FORMAT_VERSION: Final = 1

# Places in a row of `node`.
_SEEN_PLACES = tuple(Record._fields.index(name) for name in PageRun._fields[1:])
# The times of a slot that holds no sign of life.
_NO_TIMES: Final = (0.0, NO_SIGN_S, 0.0)


def rows_of(run: PageRun) -> list[tuple[int, bytes]]:
    """Return the number and the row of each page of `run`."""
    version = bytes([FORMAT_VERSION])
    return [(number, version + packed) for number, packed in zip(run.numbers, pack(run), strict=True)]


def page_in(number: int, row: bytes) -> PageRun:
    """Return a page from its row. Raises `Damage` for other bytes."""
    try:
        if row[:1] != bytes([FORMAT_VERSION]):
            found = row[:1].hex() or "none"
            raise ValueError(f"is of format {found}, this server knows {FORMAT_VERSION:02x}")
        return unpack(number, memoryview(row)[1:])
    except ValueError as error:
        raise Damage(f"page {number} of the signs of life {error}") from None


def pages_of(slots: Sequence[int]) -> tuple[int, int]:
    """Return the first and the last page of rising `slots`."""
    return slots[0] // PAGE_SLOTS, slots[-1] // PAGE_SLOTS


def lay_over(
    columns: list[Sequence[Any]],
    numbers: Sequence[int],
    rows: Iterable[tuple[int, int, bytes]],
    left_alone: frozenset[int],
) -> None:
    """Write the signs of life of the pages into the `columns` of records, written by commits with `numbers`.

    The columns are those of `Record`, in its order, by rising slots. `rows` are the pages of these slots, by
    rising numbers: each with its number, that of its commit, and its row. Nothing is written for the slots in
    `left_alone`. Raises `Damage` for a page that cannot be read.
    """
    slots = columns[0]
    pages = [(number, page_in(page, row)) for page, number, row in rows]
    if not pages:
        return
    seen = [list(columns[place]) for place in _SEEN_PLACES]
    for written, page in pages:
        start = bisect_left(slots, page.first_slot)
        stop = bisect_left(slots, page.first_slot + PAGE_SLOTS, start)
        whole = None
        if start < stop and not left_alone and written >= max(numbers[start:stop]):
            whole = _whole(page, slots[start], slots[stop - 1], stop - start)
        if whole is not None:
            for column, values in zip(seen, whole, strict=True):
                column[start:stop] = values
            continue
        for place in range(start, stop):
            slot = slots[place]
            if written >= numbers[place] and slot not in left_alone:
                times = _one(page, slot - page.first_slot)
                if times is not None:
                    for column, value in zip(seen, times, strict=True):
                        column[place] = value
    for place, column in zip(_SEEN_PLACES, seen, strict=True):
        columns[place] = column


def _whole(page: PageRun, first: int, last: int, count: int) -> list[array[float]] | None:
    """Return the times of all slots from `first` to `last`, if `count` is their number, and all are sound."""
    seen = [column[first - page.first_slot : last - page.first_slot + 1] for column in page[1:]]
    # A page may end before the last slots, lack a record that could not be served, or be damaged.
    is_whole = last - first + 1 == len(seen[0]) == count
    return seen if is_whole and min(seen[1]) >= 0 and math.isfinite(sum(map(sum, seen))) else None


def _one(page: PageRun, within: int) -> list[float] | None:
    """Return the times of one slot of `page`, if they are sound."""
    if within < len(page.last_seen_s) and page.last_seen_s[within] >= 0:
        times = [column[within] for column in page[1:]]
        if all(map(math.isfinite, times)):
            return times
    return None


def spared(run: PageRun, left_alone: frozenset[int], stored_of: Callable[[int], bytes | None]) -> PageRun:
    """Return `run` with the stored signs of life of the records in the slots of `left_alone`.

    `stored_of` returns the row of the page of a slot, if it holds for the record there. The last page gets
    longer if such a slot lies behind its end. Raises `Damage`, and what `stored_of` raises.
    """
    at, attended, gap = (array(column.typecode, column) for column in run[1:])
    for slot in sorted(left_alone.intersection(range(run.first_slot, run.numbers.stop * PAGE_SLOTS))):
        number, within = divmod(slot, PAGE_SLOTS)
        row = stored_of(slot)
        stored = None if row is None else page_in(number, row)
        has_it = stored is not None and within < len(stored.slots)
        times = [column[within] for column in stored[1:]] if stored and has_it else _NO_TIMES
        place = slot - run.first_slot
        for column, empty, value in zip((at, attended, gap), _NO_TIMES, times, strict=True):
            column.extend([empty] * (place + 1 - len(column)))
            column[place] = value
    return PageRun(run.number, at, attended, gap)

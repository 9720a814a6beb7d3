"""Parts of the records, each as one row of the database: packed by columns, with their signs of life. Pure.

A value for each field of each record would cost the client far more than it costs the database to pack them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, get_type_hints

import asyncpg

from ...directory.state.node import Record
from ...directory.state.pages import PAGE_SLOTS

# The slot before that of any record.
BEFORE_ALL: Final = -1 << 63

# Numbers take eight bytes each. Text is joined by NUL, which no text in PostgreSQL contains.
_INTEGERS: Final = "string_agg(int8send({}), '')"
_FLOATS: Final = "string_agg(float8send({}), '')"
_TEXTS: Final = "string_agg(textsend({}), '\\x00')"
_PACKINGS: Final = {int: _INTEGERS, float: _FLOATS, str: _TEXTS, bytes: _TEXTS}
_FORMATS: Final = {_INTEGERS: "q", _FLOATS: "d"}
# The number of the commit that wrote a record comes last.
_PACKED: Final = {
    **{name: _PACKINGS[kind] for name, kind in get_type_hints(Record).items()},
    "commit_number": _INTEGERS,
}
_SEEN: Final = f"""ARRAY(
    SELECT {{}} FROM openred.seen
    WHERE page BETWEEN min(part.slot) / {PAGE_SLOTS} AND max(part.slot) / {PAGE_SLOTS} ORDER BY page
)"""
_PAGES: Final = [_SEEN.format(name) for name in ("page", "commit_number", "signs")]

# The records behind a slot, up to a number of them. All is NULL or empty where there are none.
SELECT_PART: Final = f"""
SELECT {", ".join([*(packing.format(name) for name, packing in _PACKED.items()), *_PAGES])}
FROM (SELECT * FROM openred.node WHERE slot > $1 ORDER BY slot LIMIT $2) AS part
"""


class Part(NamedTuple):
    """Some records by columns, in the order of their slots; text is UTF-8.

    Beside these stand the numbers of the commits that wrote them, and the pages of their slots: each with its
    number, that of its commit, and its row.
    """

    columns: list[Sequence[Any]]
    commit_numbers: Sequence[int]
    pages: list[tuple[int, int, bytes]]


def part_in(row: asyncpg.Record) -> Part | None:
    """Return the part in a row of `SELECT_PART`; None without records."""
    *packed, pages, commits, signs = row
    if packed[0] is None:
        return None
    columns = list(map(_unpack, _PACKED.values(), packed))
    return Part(columns[:-1], columns[-1], list(zip(pages, commits, signs, strict=True)))


def _unpack(packing: str, packed: bytes) -> Sequence[Any]:
    if packing == _TEXTS:
        return packed.split(b"\0")
    return struct.unpack(f">{len(packed) // 8}{_FORMATS[packing]}", packed)

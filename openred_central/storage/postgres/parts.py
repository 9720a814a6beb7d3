"""Parts of the records, each as one row of the database: packed by columns. Pure.

A value for each field of each record would cost the client far more than it costs the database to pack them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, get_type_hints

import asyncpg

from ...directory.state.node import Record

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

# The records behind a slot, up to a number of them; all is NULL where there are none.
SELECT_PART: Final = f"""
SELECT {", ".join(packing.format(name) for name, packing in _PACKED.items())}
FROM (SELECT * FROM openred.node WHERE slot > $1 ORDER BY slot LIMIT $2) AS part
"""


def columns_in(row: asyncpg.Record) -> list[Sequence[Any]]:
    """Return the columns in a row of `SELECT_PART`, in their order; text is UTF-8. There are none in NULL."""
    if row[0] is None:
        return []
    return [
        struct.unpack(f">{len(packed) // 8}{_FORMATS[packing]}", packed)
        if packing in _FORMATS
        else packed.split(b"\0")
        for packing, packed in zip(_PACKED.values(), row, strict=True)
    ]

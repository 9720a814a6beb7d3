"""The journal of signs of life: each commit adds a packed row; a fold brings them into the records later.

A commit writes all its signs of life as one row of the journal, under its number. These numbers alone decide
which sign of life holds for a slot, never the times, which a slot's next node may have in any order:

1. The latest sign of life of a slot is the one with the highest number.
2. It holds for the record in its slot if its number is not lower than that of the commit that wrote the
   record. A slot that was freed has no record; one that was filled again has a younger one.

So a sign of life may be applied again at any time, and a fold may stop anywhere. It removes rows of the
journal only when all of them are in the records, and the oldest ones first: what is left is then always the
newest, and applying it once more changes nothing.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, starmap

from ...directory.state.node import Record, SignOfLife
from .faults import Damage
from .schema import PAGE_BYTES, RECORDS_PER_PAGE

FORMAT_VERSION = 1
# Little-endian, one after the other: slot, last_seen_at, last_seen_s, usual_gap_s.
_SIGN = struct.Struct("<qddd")

# When to fold: after so long in attended time, or so many signs of life that they would delay a start.
FOLD_INTERVAL_S = 60.0
FOLD_SIGNS = 200_000
# The steps of a fold, kept short because commits wait for them: signs of life, and rows of the journal.
STEP_SIGNS = 5_000
STEP_ROWS = 1_000
# A record may lie on a page of its own.
STEP_RECORDS = 1_000
# SQLite allows 32,766 parameters in a statement, and each sign of life has five.
STATEMENT_SIGNS = 2_500

INSERT_SIGNS = "INSERT INTO journal (commit_number, signs) VALUES (?, ?)"
# The latest sign of life of each slot, as far as the journal was read: in memory, in order of the slots.
CREATE_LATEST = """
CREATE TEMP TABLE latest (
    slot INTEGER PRIMARY KEY,
    commit_number INTEGER NOT NULL,
    last_seen_at REAL NOT NULL,
    last_seen_s REAL NOT NULL,
    usual_gap_s REAL NOT NULL
) STRICT
"""
# The second rule, for a row of `latest` and one of `node` in the same slot.
HOLDS = "latest.commit_number >= node.commit_number"
# Read back as the bytes that were given, not as text.
_READ_AS = {"profile": "CAST(node.profile AS BLOB)"}
_READ_LATEST_AS = _READ_AS | {
    name: f"coalesce(latest.{name}, node.{name})" for name in SignOfLife._fields[1:]
}
# After `Journal.catch_up`, where that left something in `latest`.
SELECT_RECORDS = f"""
SELECT {", ".join(_READ_LATEST_AS.get(name, f"node.{name}") for name in Record._fields)}
FROM node LEFT JOIN latest ON latest.slot = node.slot AND {HOLDS}
WHERE node.slot >= ? ORDER BY node.slot LIMIT ?
"""
# For the case that it left nothing there, which is faster.
SELECT_FOLDED_RECORDS = f"""
SELECT {", ".join(_READ_AS.get(name, name) for name in Record._fields)}
FROM node WHERE slot >= ? ORDER BY slot LIMIT ?
"""
_SELECT_PAST = "FROM journal WHERE commit_number > ? AND commit_number <= ? ORDER BY commit_number"
SELECT_SIGNS = f"SELECT commit_number, signs {_SELECT_PAST}"
SELECT_COUNTS = f"SELECT commit_number, length(signs) / {_SIGN.size} {_SELECT_PAST} LIMIT {STEP_ROWS}"
SELECT_LAST = "SELECT coalesce(max(commit_number), 0) FROM journal"
SELECT_TOTAL = f"SELECT coalesce(sum(length(signs) / {_SIGN.size}), 0) FROM journal"
SELECT_SLICE = (
    "SELECT max(slot), count(*) FROM (SELECT slot FROM latest WHERE slot > ? ORDER BY slot LIMIT ?)"
)
# The plus keeps SQLite from walking through all records of the slice: there are fewer signs of life.
FOLD_SLICE = f"""
UPDATE node SET
    last_seen_at = latest.last_seen_at, last_seen_s = latest.last_seen_s, usual_gap_s = latest.usual_gap_s
FROM latest
WHERE latest.slot > ? AND latest.slot <= ? AND node.slot = +latest.slot AND {HOLDS}
"""


# The journal may hold a number beyond that of the vitals, which no commit could be given any more.
SELECT_COMMIT_NUMBER = """
SELECT max(
    coalesce((SELECT max(commit_number) FROM vitals), 0),
    coalesce((SELECT max(commit_number) FROM journal), 0)
)
"""
# No count of commits comes so far.
COMMIT_NUMBER_MAX = 1 << 62


def last_commit_number(connection: sqlite3.Connection) -> int:
    """Return the number of the last commit, 0 where there is none. Raises `Damage` where none can follow."""
    number: int
    (number,) = connection.execute(SELECT_COMMIT_NUMBER).fetchone()
    if number > COMMIT_NUMBER_MAX:
        raise Damage(f"its last commit has the number {number}")
    return number


def pack(signs_of_life: Iterable[SignOfLife]) -> bytes:
    """Return the signs of life of a commit as a row of the journal holds them.

    Raises `struct.error` where a slot does not fit into 64 bits. Infinity and NaN are kept too.
    """
    return bytes([FORMAT_VERSION]) + b"".join(starmap(_SIGN.pack, signs_of_life))


def unpack(packed: bytes) -> Iterator[tuple[int, float, float, float]]:
    """Return the argument of `pack` for its result. Raises `ValueError` for other bytes."""
    if not packed or packed[0] != FORMAT_VERSION:
        raise ValueError(f"is of format {packed[:1].hex() or 'none'}, this server knows {FORMAT_VERSION:02x}")
    if (len(packed) - 1) % _SIGN.size:
        raise ValueError(f"has {len(packed)} bytes, which no row has")
    return _SIGN.iter_unpack(memoryview(packed)[1:])


class Journal:
    """The journal as seen through one `connection`: reading it, and folding it step by step.

    Raises errors of SQLite as they are, and `Damage` where a row of the journal cannot be read.
    """

    def __init__(self, connection: sqlite3.Connection, left_alone: frozenset[int] = frozenset()) -> None:
        self._connection = connection
        # Slots to which no sign of life is applied.
        self._left_alone = left_alone
        connection.execute(CREATE_LATEST)
        # `latest` holds rows up to this one; those of earlier folds are in the records already.
        self._read = 0
        self._folding: Iterator[int] | None = None
        (self._signs,) = connection.execute(SELECT_TOTAL).fetchone()
        self._began_s: float | None = None
        # Rows that a killed server left are folded first of all.
        self.fold_due = self._signs > 0

    def leave_alone(self, slots: frozenset[int]) -> None:
        """Apply no sign of life to the records in `slots`, not even those that were read already."""
        self._left_alone = slots
        self._connection.executemany("DELETE FROM latest WHERE slot = ?", ((slot,) for slot in slots))

    def committed(self, signs: int, attended_s: float) -> None:
        """Note a commit with so many signs of life at this attended time."""
        self._signs += signs
        if signs and self._began_s is None:
            self._began_s = attended_s
        if self._signs >= FOLD_SIGNS or (
            self._began_s is not None and attended_s - self._began_s >= FOLD_INTERVAL_S
        ):
            self.fold_due = True

    @property
    def folding(self) -> bool:
        return self._folding is not None

    @property
    def latest_any(self) -> bool:
        return self._connection.execute("SELECT 1 FROM latest LIMIT 1").fetchone() is not None

    def catch_up(self) -> None:
        """Read the whole journal: `latest` then holds all that the records lack."""
        (last,) = self._connection.execute(SELECT_LAST).fetchone()
        while self._read_some(last):
            pass

    def fold_some(self) -> int:
        """Do one step of a fold, or begin one. Return about how many pages the step wrote."""
        if self._folding is None:
            self._folding = self._fold()
        try:
            pages = next(self._folding, None)
        except BaseException:
            # The fold begins anew, which is always possible.
            self._folding, self.fold_due = None, True
            raise
        if pages is None:
            self._folding = None
            self.fold_due = self._signs >= FOLD_SIGNS
        return pages or 0

    def fold_all(self) -> None:
        """Fold the whole journal."""
        while self._folding is not None:
            self.fold_some()
        for _ in self._fold():
            pass

    def _fold(self) -> Iterator[int]:
        (last,) = self._connection.execute(SELECT_LAST).fetchone()
        # Signs of life from here on wait for the next fold.
        self._signs, self._began_s = 0, None
        while self._read_some(last):
            yield 0
        slot = -1
        while True:
            slot_end, records = self._connection.execute(SELECT_SLICE, (slot, STEP_RECORDS)).fetchone()
            if slot_end is None:
                break
            self._connection.execute(FOLD_SLICE, (slot, slot_end))
            yield min(records, (slot_end - slot) // RECORDS_PER_PAGE + 1)
            slot = slot_end
        # `catch_up` may have read on meanwhile, and not all of that was folded.
        self._connection.execute("DELETE FROM latest")
        self._read = last
        yield 0
        first = 0
        while (end := self._end_of_step(first, last)) is not None:
            self._connection.execute("DELETE FROM journal WHERE commit_number <= ?", (end,))
            yield STEP_SIGNS * _SIGN.size // PAGE_BYTES
            first = end

    def _end_of_step(self, past: int, last: int) -> int | None:
        """Return the last of the rows after `past`, up to `last`, for one step; None where there are none."""
        end, signs = None, 0
        with closing(self._connection.execute(SELECT_COUNTS, (past, last))) as rows:
            for number, count in rows:
                end = number
                signs += count
                if signs >= STEP_SIGNS:
                    break
        return end

    def _read_some(self, last: int) -> bool:
        """Take some rows up to `last` into `latest`, in their order. Return False where there are none."""
        end = self._end_of_step(self._read, last)
        if end is None:
            return False
        signs: list[tuple[float, ...]] = []
        for number, packed in self._connection.execute(SELECT_SIGNS, (self._read, end)).fetchall():
            try:
                signs += [(slot, number, at, s, gap_s) for slot, at, s, gap_s in unpack(packed)]
            except ValueError as error:
                raise Damage(f"row {number} of the journal {error}") from None
        if self._left_alone:
            signs = [sign for sign in signs if sign[0] not in self._left_alone]
        for first in range(0, len(signs), STATEMENT_SIGNS):
            part = signs[first : first + STATEMENT_SIGNS]
            # One statement runs without the interpreter's lock; the later of two rows of a slot stays.
            values = ", ".join(["(?, ?, ?, ?, ?)"] * len(part))
            try:
                self._connection.execute(f"REPLACE INTO latest VALUES {values}", [*chain.from_iterable(part)])
            except sqlite3.IntegrityError:
                raise Damage(f"a row of the journal up to {end} has a time that is not a number") from None
        self._read = end
        return True

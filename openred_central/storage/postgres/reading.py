"""All that a database held at one moment, as `Store` loads it: in one read-only transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import repeat
from typing import Any, Final, TypeVar, get_type_hints

import asyncpg

from ...directory.state.changes import Vitals
from ...directory.state.columns import RecordColumns
from ...directory.state.node import Record, Tombstone
from ..seen import lay_over, pages_of
from ..store import Damage, DamageError, StoreError
from .access import Sealer
from .connecting import Server
from .faults import fault
from .thread import LoopThread

Value = TypeVar("Value")

# Kept values that are read at once.
KEPT_ROWS: Final = 64
# Parts that are asked for at one time: the answer to one takes longer than what is done with it.
PARTS_AHEAD: Final = 3
CLOSE_TIMEOUT_S: Final = 1.0

SELECT_VITALS: Final = f"SELECT seq, {', '.join(Vitals._fields)} FROM openred.cluster"
SELECT_RECORDS: Final = f"SELECT {', '.join(Record._fields)}, commit_number FROM openred.node ORDER BY slot"
SELECT_PAGES: Final = (
    "SELECT page, commit_number, signs FROM openred.seen WHERE page BETWEEN $1 AND $2 ORDER BY page"
)
SELECT_TOMBSTONES: Final = (
    f"SELECT {', '.join(Tombstone._fields)} FROM openred.tombstone ORDER BY died_s, id_hash"
)
SELECT_KEPT: Final = "SELECT name, value FROM openred.kept ORDER BY name"
SELECT_SECRET: Final = "SELECT lineage, value FROM openred.cluster, openred.secret WHERE name = $1"
SELECT_REVOCATIONS: Final = "SELECT token_id, expires_at FROM openred.revocation ORDER BY token_id"
# Places of what is text in the database: in a record, and of that what a `Record` has as text.
_TEXTS: Final = [place for place, kind in enumerate(get_type_hints(Record).values()) if kind in (str, bytes)]
_PROFILE: Final = Record._fields.index("profile")


def sealed_name(lineage: str, name: str) -> str:
    """Return the name for which a secret of one directory is sealed: that of another one does not open."""
    return f"{lineage}/{name}"


def vitals_in(row: asyncpg.Record) -> Vitals | None:
    """Return the vitals in a row of `SELECT_VITALS`; None before the first commit."""
    seq, *vitals = row
    return Vitals(*vitals) if seq else None


@contextmanager
def unsealing(location: str, name: str) -> Iterator[None]:
    """Raise `StoreError` where the secret `name` cannot be unsealed in the block."""
    try:
        yield
    except ValueError as error:
        raise StoreError(
            f"cannot unseal {name!r} of {location}: {error}; give the secret file that the other instances "
            "have"
        ) from error


def unsealed(sealer: Sealer, location: str, lineage: str, name: str, sealed: bytes) -> bytes:
    """Return the secret `name`. Raises `StoreError` where it cannot be unsealed."""
    with unsealing(location, name):
        return sealer.unseal(sealed_name(lineage, name), sealed)


class Reading:
    """A connection of its own with a transaction, which `close` ends: the `Loads` of one moment."""

    def __init__(
        self, server: Server, thread: LoopThread, sealer: Sealer, left_alone: frozenset[int] = frozenset()
    ) -> None:
        self._server = server
        self._thread = thread
        self._sealer = sealer
        self._left_alone = left_alone
        # A load may still be under way when another one begins.
        self._turn = asyncio.Lock()
        self._connection = thread.run(self._begin())

    async def _begin(self) -> asyncpg.Connection[Any]:
        connection = await self._server.connect()
        try:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except Exception as error:
            connection.terminate()
            raise fault(f"read {self.location}", error) from error
        return connection

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the transaction and the connection. Raises nothing."""
        self._thread.run(self._end())

    async def _end(self) -> None:
        async with self._turn:
            with suppress(Exception):
                await self._connection.close(timeout=CLOSE_TIMEOUT_S)

    @property
    def location(self) -> str:
        return self._server.address.location

    def leave_alone(self, slots: Iterable[int]) -> None:
        self._left_alone = frozenset(slots)

    def load_vitals(self) -> Vitals | None:
        return vitals_in(self.rows(SELECT_VITALS)[0])

    def load_records(self, rows_max: int) -> Iterator[list[Record]]:
        for columns in self._load(rows_max):
            columns[_PROFILE] = list(map(str.encode, columns[_PROFILE]))
            # The columns stand in the order of the fields; `Record._make` would take much longer.
            yield list(map(tuple.__new__, repeat(Record), zip(*columns, strict=True)))

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        for columns in self._load(rows_max):
            for place in _TEXTS:
                columns[place] = list(map(str.encode, columns[place]))
            yield RecordColumns._make(columns)

    def _load(self, rows_max: int) -> Iterator[list[Sequence[Any]]]:
        """Yield records by columns, with what was heard since they were written."""
        cursor = self._run(self._open(SELECT_RECORDS))

        def begin() -> Future[tuple[list[asyncpg.Record], list[asyncpg.Record]]]:
            return self._thread.begin(self._records(cursor, rows_max))

        # The database works on these parts while the caller does on another one.
        coming = deque(begin() for _ in range(PARTS_AHEAD))
        while True:
            rows, pages = self._result(coming.popleft())
            if not rows:
                return
            coming.append(begin())
            columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
            try:
                lay_over(columns, columns.pop(), map(tuple, pages), self._left_alone)
            except Damage as error:
                raise DamageError(f"cannot read {self.location}: {error}; restore a backup") from error
            yield columns

    async def _records(
        self, cursor: asyncpg.cursor.Cursor[Any], rows_max: int
    ) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
        """Return the next records, and the pages of their slots."""
        async with self._turn:
            rows = await cursor.fetch(rows_max)
            if not rows:
                return [], []
            slots = [rows[0]["slot"], rows[-1]["slot"]]
            return rows, await self._connection.fetch(SELECT_PAGES, *pages_of(slots))

    def load_tombstones(self, rows_max: int) -> Iterator[list[Tombstone]]:
        for rows in self._parts(SELECT_TOMBSTONES, rows_max):
            yield list(map(Tombstone._make, rows))

    def load_kept(self) -> Iterator[tuple[str, bytes]]:
        for rows in self._parts(SELECT_KEPT, KEPT_ROWS):
            yield from map(tuple, rows)

    def load_secret(self, name: str) -> bytes | None:
        row = next(iter(self.rows(SELECT_SECRET, name)), None)
        return None if row is None else unsealed(self._sealer, self.location, row[0], name, row[1])

    def load_revocations(self) -> list[tuple[bytes, float]]:
        return [(token_id.encode(), expires_at) for token_id, expires_at in self.rows(SELECT_REVOCATIONS)]

    def rows(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """Return all rows that `statement` finds. Raises `StoreError`."""
        return self._run(self._fetch(statement, values))

    async def _fetch(self, statement: str, values: tuple[Any, ...]) -> list[asyncpg.Record]:
        async with self._turn:
            rows: list[asyncpg.Record] = await self._connection.fetch(statement, *values)
            return rows

    def _parts(self, statement: str, rows_max: int) -> Iterator[list[asyncpg.Record]]:
        """Yield the rows that `statement` finds, at most `rows_max` at once."""
        cursor = self._run(self._open(statement))
        while rows := self._run(self._next(cursor, rows_max)):
            yield rows

    async def _next(self, cursor: asyncpg.cursor.Cursor[Any], rows_max: int) -> list[asyncpg.Record]:
        async with self._turn:
            rows: list[asyncpg.Record] = await cursor.fetch(rows_max)
            return rows

    async def _open(self, statement: str) -> asyncpg.cursor.Cursor[asyncpg.Record]:
        async with self._turn:
            return await self._connection.cursor(statement)

    def _run(self, work: Coroutine[Any, Any, Value]) -> Value:
        return self._result(self._thread.begin(work))

    def _result(self, begun: Future[Value]) -> Value:
        try:
            return self._thread.result(begun)
        except StoreError:
            # It would become its own cause.
            raise
        except Exception as error:
            raise fault(f"read {self.location}", error) from error

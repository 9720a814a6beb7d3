"""All that a database held at one moment, as `Store` loads it: in one read-only transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import asyncpg

from ...directory.state.changes import Vitals
from ...directory.state.columns import RecordColumns, records_of
from ...directory.state.node import Record, Tombstone
from ..seen import lay_over
from ..store import Damage, DamageError, StoreError
from .access import Sealer
from .connecting import Server
from .faults import fault
from .parts import BEFORE_ALL, SELECT_PART, Part, part_in
from .thread import LoopThread

Value = TypeVar("Value")

# Kept values that are read at once.
KEPT_ROWS: Final = 64
# Parts that are asked for at one time: the answer to one takes longer than what is done with it.
PARTS_AHEAD: Final = 3
CLOSE_TIMEOUT_S: Final = 1.0

SELECT_VITALS: Final = f"SELECT seq, {', '.join(Vitals._fields)} FROM openred.cluster"
SELECT_TOMBSTONES: Final = (
    f"SELECT {', '.join(Tombstone._fields)} FROM openred.tombstone ORDER BY died_s, id_hash"
)
SELECT_KEPT: Final = "SELECT name, value FROM openred.kept ORDER BY name"
SELECT_SECRET: Final = "SELECT lineage, value FROM openred.cluster, openred.secret WHERE name = $1"
SELECT_REVOCATIONS: Final = "SELECT token_id, expires_at FROM openred.revocation ORDER BY token_id"


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
        return map(records_of, self.load_columns(rows_max))

    def load_columns(self, rows_max: int) -> Iterator[RecordColumns]:
        last_slot = BEFORE_ALL

        async def next_part() -> Part | None:
            nonlocal last_slot
            async with self._turn:
                part = part_in(await self._connection.fetchrow(SELECT_PART, last_slot, rows_max))
                if part is not None:
                    last_slot = part.columns[0][-1]
                return part

        # The database works on these parts while the caller does on another one.
        coming = deque(self._thread.begin(next_part()) for _ in range(PARTS_AHEAD))
        while (part := self._result(coming.popleft())) is not None:
            coming.append(self._thread.begin(next_part()))
            try:
                lay_over(part.columns, part.commit_numbers, part.pages, self._left_alone)
            except Damage as error:
                raise DamageError(f"cannot read {self.location}: {error}; restore a backup") from error
            yield RecordColumns._make(part.columns)

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

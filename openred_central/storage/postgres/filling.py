"""A whole directory, written into a database that holds none yet: in one transaction, or not at all.

The lease is taken and given back within the transaction, so nobody else leads meanwhile. For one loop.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from ..store import StoreError
from .access import Access
from .connecting import Server
from .faults import fault
from .leasing import LeaseRow
from .link import call_of

IS_EMPTY: Final = (
    "SELECT NOT EXISTS (SELECT FROM openred.node) AND NOT EXISTS (SELECT FROM openred.tombstone)"
    " AND NOT EXISTS (SELECT FROM openred.secret)"
)


class Filling:
    """One transaction with a connection of its own; `begin` comes first, `finish` or `close` last."""

    def __init__(self, server: Server, access: Access) -> None:
        self._location = server.address.location
        self._server = server
        self._access = access
        self._connection: asyncpg.Connection[Any] | None = None
        self._warnings: list[str] = []
        self._term = self._seq = self._tag = 0

    async def begin(self, seen: LeaseRow) -> None:
        """Take the lease as it was seen. Raises `StoreError` where it is not, or anything is there."""
        connection = self._connection = await self._server.connect()
        connection.add_log_listener(lambda _, message: self._warnings.append(str(message.message)))
        await self._value("BEGIN")
        self._term = seen.term + 1
        taking = (seen.lineage, seen.term, seen.renewals, self._term, self._access.run, "{}")
        position = await self._value(
            f"SELECT ARRAY[seq, tag] FROM {call_of('take_lease_1', 7)}", *taking, self._access.wall_s()
        )
        if position is None:
            raise StoreError(f"{self._location} is in use: an instance leads; stop all of them first")
        self._seq, self._tag = position
        if not await self._value(IS_EMPTY):
            raise StoreError(
                f"{self._location} is not an empty directory; make another database on the server, and name "
                "that one with --database"
            )

    async def write(self, function: str, *values: Any, is_commit: bool = False) -> None:
        """Call a fenced function with what it gets after the fence."""
        at, tag = (self._seq, self._tag), self._access.new_tag()
        following = (self._seq + is_commit, tag) if is_commit else (tag,)
        fenced = (self._term, self._access.run, *at, *following, self._access.wall_s(), *values)
        if not await self._value(f"SELECT {call_of(function, len(fenced))}", *fenced):
            raise StoreError(f"{self._location} refuses what its own lease allows")
        self._seq, self._tag = self._seq + is_commit, tag

    async def finish(self) -> None:
        """Give the lease back, and commit. Raises `StoreError`, also where the outcome is unknown."""
        await self.write("goodbye_1")
        try:
            await self._value("COMMIT")
        except StoreError as error:
            self._warnings.append(str(error))
        if self._warnings:
            raise StoreError(
                f"it is unknown whether {self._location} holds the import: {self._warnings[-1]}; "
                "`openred-central verify` tells"
            )

    async def close(self) -> None:
        """End the connection, and with it what was not committed."""
        if self._connection is not None:
            self._connection.terminate()

    async def _value(self, statement: str, *values: Any) -> Any:
        assert self._connection is not None
        try:
            return await self._connection.fetchval(statement, *values)
        except Exception as error:
            raise fault(f"write {self._location}", error) from error

"""One connection to the database, made when it is first needed and again after it broke. For one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import asyncpg

from .connecting import Server
from .faults import Interrupted, fault, is_settled

Value = TypeVar("Value")


@cache
def call_of(function: str, count: int) -> str:
    """Return the call of a function of the schema with so many values."""
    return f"openred.{function}({', '.join(f'${place}' for place in range(1, count + 1))})"


class Link:
    """A connection to the primary of `server`, with one statement at a time."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connection: asyncpg.Connection[Any] | None = None
        self._warnings: list[str] = []
        # A connection carries out one statement at a time.
        self._turn = asyncio.Lock()

    async def connected(self) -> asyncpg.Connection[Any]:
        """Return the connection, a new one where there is none. Raises `StoreError`; nothing was sent."""
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await self.server.connect()
            connection.add_log_listener(self._note)
        return connection

    def _note(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        if message.severity_en == "WARNING":
            self._warnings.append(str(message.message))

    async def write(self, statement: str, values: tuple[Any, ...], timeout_s: float) -> Any:
        """Carry out a statement that is a transaction of its own, and return its value.

        Raises `Interrupted` where nobody knows whether it was carried out for good. So it is after a warning:
        a commit that waited for a standby in vain is visible, and may be lost with the primary. Raises
        another `StoreError` where it was not.
        """
        async with self._turn:
            connection = await self.connected()
            self._warnings.clear()
            value = await self._call(lambda: connection.fetchval(statement, *values), timeout_s)
            # The listener is called on the next turn of the loop.
            await asyncio.sleep(0)
            warnings = self._warnings[:]
        if warnings:
            raise Interrupted(f"{self.server.address.location} warns: {warnings[0]}")
        return value

    async def read(self, statement: str, values: tuple[Any, ...], timeout_s: float) -> Any:
        """Return the first row that `statement` finds; None without any. Raises `StoreError`."""
        async with self._turn:
            connection = await self.connected()
            return await self._call(lambda: connection.fetchrow(statement, *values), timeout_s)

    async def _call(self, begin: Callable[[], Coroutine[Any, Any, Value]], timeout_s: float) -> Value:
        task = asyncio.get_running_loop().create_task(begin())
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
            if not done:
                # A request to cancel would end the wait for a standby, and make the commit visible.
                self.drop()
            return await task
        except asyncio.CancelledError:
            self.drop()
            await asyncio.gather(task, return_exceptions=True)
            raise
        except Exception as error:
            found = fault(f"use {self.server.address.location}", error)
            if is_settled(error):
                raise found from error
            self.drop()
            raise Interrupted(str(found)) from error

    def drop(self) -> None:
        """End the connection at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self, timeout_s: float) -> None:
        """End the connection in an orderly way. Raises nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.close(timeout=timeout_s)

"""The schema in the database: made where there is none, brought up to date, and checked.

Instances of the version before may be at work meanwhile (`storage/versions.py`).
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Any, Final

import asyncpg

from ..store import StoreError
from ..versions import SCHEMA_VERSION, SCHEMA_VERSION_MAX
from .connecting import Server
from .faults import fault

# A leader at work waits no longer for a lock of ours, nor behind one that we wait for.
_LOCK_TIMEOUT_MS: Final = 300
_ATTEMPTS: Final = 40
_PAUSE_S: Final = 0.5
# Longer than any leader goes without a renewal of its lease.
_WATCH_S: Final = 10.0

# Two servers that start at once make the schema one after the other: "ORed" in ASCII.
_BEGIN: Final = f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}; SELECT pg_advisory_xact_lock({0x4F526564})"
_SELECT_VERSION: Final = "SELECT schema_version FROM openred.cluster"
_SELECT_HOLDER: Final = "SELECT holder, renewals FROM openred.cluster"


async def prepare(server: Server) -> None:
    """Make the schema ready in the database of `server`, over an own connection. Raises `StoreError`."""
    location = server.address.location
    connection = await server.connect()
    try:
        encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            raise StoreError(
                f"{location} has the encoding {encoding}, allowed is UTF8; make a database with "
                "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            )
        version = await _version(connection)
        if version > SCHEMA_VERSION_MAX:
            raise StoreError(
                f"{location} has schema version {version}, this server works with {SCHEMA_VERSION} to "
                f"{SCHEMA_VERSION_MAX}; start a server of a later version, or choose another database"
            )
        if 0 < version < SCHEMA_VERSION - 1 and await _is_led(connection):
            raise StoreError(
                f"{location} has schema version {version} and instances at work that know none beyond "
                f"{version + 1}, this server makes {SCHEMA_VERSION}; upgrade by one version at a time, or "
                "stop all instances first"
            )
        if version < SCHEMA_VERSION:
            await _bring_up_to_date(connection)
    except StoreError:
        # It would become its own cause.
        raise
    except Exception as error:
        raise fault(f"prepare {location}", error) from error
    finally:
        connection.terminate()


async def _bring_up_to_date(connection: asyncpg.Connection[Any]) -> None:
    """Make the present schema, in one transaction, which holds up nobody for long."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await connection.execute(_BEGIN)
                if await _version(connection) < SCHEMA_VERSION:
                    await connection.execute(files(__package__).joinpath("schema.sql").read_text("utf-8"))
            return
        except asyncpg.LockNotAvailableError:
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(_PAUSE_S)


async def _is_led(connection: asyncpg.Connection[Any]) -> bool:
    """Return whether an instance is seen to lead."""
    first = await connection.fetchrow(_SELECT_HOLDER)
    if first is None or not first["holder"]:
        return False
    for _ in range(round(_WATCH_S / _PAUSE_S)):
        await asyncio.sleep(_PAUSE_S)
        if await connection.fetchrow(_SELECT_HOLDER) != first:
            return True
    return False


async def _version(connection: asyncpg.Connection[Any]) -> int:
    """Return the version of the schema; 0 where there is none."""
    if await connection.fetchval("SELECT to_regclass('openred.cluster')") is None:
        return 0
    version: int | None = await connection.fetchval(_SELECT_VERSION)
    return version or 0

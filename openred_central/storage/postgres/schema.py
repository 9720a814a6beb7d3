"""The schema in the database: made where there is none, brought up to date, and checked."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import asyncpg

from ..store import StoreError
from .connecting import Server
from .faults import fault

SCHEMA_VERSION: Final = 1
# Servers of the next version keep all that this one uses, so that one after the other can be replaced.
VERSION_MAX: Final = SCHEMA_VERSION + 1
# Two servers that start at once make the schema one after the other: "ORed" in ASCII.
_LOCK: Final = 0x4F526564

_SELECT_VERSION: Final = "SELECT schema_version FROM openred.cluster"


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
        if version < SCHEMA_VERSION:
            async with connection.transaction():
                await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
                if await _version(connection) < SCHEMA_VERSION:
                    await connection.execute(files(__package__).joinpath("schema.sql").read_text("utf-8"))
        elif version > VERSION_MAX:
            raise StoreError(
                f"{location} has schema version {version}, this server works with {SCHEMA_VERSION} to "
                f"{VERSION_MAX}; start a server of a later version, or choose another database"
            )
    except Exception as error:
        raise fault(f"prepare {location}", error) from error
    finally:
        connection.terminate()


async def _version(connection: asyncpg.Connection[Any]) -> int:
    """Return the version of the schema; 0 where there is none."""
    if await connection.fetchval("SELECT to_regclass('openred.cluster')") is None:
        return 0
    version: int | None = await connection.fetchval(_SELECT_VERSION)
    return version or 0

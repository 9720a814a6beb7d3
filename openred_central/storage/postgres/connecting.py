"""From the setting `database` to a connection to the primary.

A URL may name several servers. The one that was the primary last is tried first, then they are in their
order, each with its own time-out. Only a primary is taken: a standby tells nothing about who leads now.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import asyncpg

from ..store import PassingError, StoreError
from .address import Address
from .faults import fault

# A server has so long to answer until the next one is tried.
HOST_TIMEOUT_S: Final = 2.0
# A statement that takes longer is ended by the database; behind a pooler the client alone ends it.
STATEMENT_TIMEOUT_S: Final = 5.0
PASSWORD_BYTES_MAX: Final = 1_024

WHICH_SERVER: Final = "SELECT pg_is_in_recovery(), system_identifier FROM pg_control_system()"


class Server:
    """The database of a URL, to which `connect` leads.

    `password_file` is read at each connection, so that a password can be changed while the server runs.
    `is_pooled`: a pooler may serve each transaction by another session.
    """

    def __init__(self, address: Address, password_file: Path | None, *, is_pooled: bool) -> None:
        self.address = address
        self._password_file = password_file
        self._is_pooled = is_pooled
        # The identifier of the database system; a standby that was promoted has that of its primary.
        self._system: int | None = None
        # The host that was the primary last.
        self._last = ""

    async def connect(self) -> asyncpg.Connection[Any]:
        """Return a connection to the primary.

        Raises `StoreError` where no host of the URL is one, a `PassingError` where that may pass.
        """
        password = self._password()
        faults: list[StoreError] = []
        # A sort keeps the order of all others.
        for host in sorted(self.address.hosts, key=lambda host: host != self._last):
            try:
                connection = await self._connect(host, password)
            except Exception as error:  # noqa: BLE001 (one host of several)
                faults.append(fault(f"use {unquote(host)}", error))
            else:
                self._last = host
                return connection
        kind = PassingError if any(isinstance(each, PassingError) for each in faults) else StoreError
        raise kind(f"{self.address.location}: {'; '.join(map(str, faults))}")

    async def _connect(self, host: str, password: str | None) -> asyncpg.Connection[Any]:
        session = {
            "application_name": "openred-central",
            "default_transaction_isolation": "read committed",
            "statement_timeout": f"{STATEMENT_TIMEOUT_S:g}s",
        }
        connection = await asyncpg.connect(
            self.address.at(host),
            password=password,
            timeout=HOST_TIMEOUT_S,
            # A pooler takes neither settings of a session nor statements that are prepared for one.
            server_settings=None if self._is_pooled else session,
            statement_cache_size=0 if self._is_pooled else 100,
        )
        try:
            row = await connection.fetchrow(WHICH_SERVER, timeout=HOST_TIMEOUT_S)
            assert row is not None
            if row[0]:
                raise PassingError(f"{unquote(host)} is a standby")
            if self._system not in (None, row[1]):
                raise StoreError(
                    f"{unquote(host)} is another database system ({row[1]}) than before ({self._system}); "
                    "restart this server to go on with it"
                )
            self._system = row[1]
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _password(self) -> str | None:
        if self._password_file is None:
            return None
        try:
            content = self._password_file.read_bytes()[: PASSWORD_BYTES_MAX + 1]
            password = content.decode().rstrip("\r\n")
        except OSError as error:
            raise StoreError(
                f"cannot read {self._password_file}, which OPENRED_DATABASE_PASSWORD_FILE names: "
                f"{error.strerror}"
            ) from error
        except UnicodeDecodeError:
            raise StoreError(f"{self._password_file} is no text; a password is one line of UTF-8") from None
        if not password or len(content) > PASSWORD_BYTES_MAX or "\n" in password:
            raise StoreError(
                f"{self._password_file} has {len(content)} bytes of which no password can be made; "
                f"it is one line of at most {PASSWORD_BYTES_MAX} bytes"
            )
        return password

"""The composition root of a server that has a directory for itself: open the store, lead, close it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
import ssl
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import uvloop

from ..exit_codes import ExitCode
from ..listening import PassingStartError, StartError
from ..logs import configure
from ..settings.config import Configuration
from ..storage.copies.restoring import open_or_restore
from ..storage.private_files import NO_ROOM
from ..storage.sqlite.faults import result_code
from ..storage.store import PassingError, Store, StoreError
from ..tasks.notifier import Notifier
from .alone import Alone
from .assembly import Assembly
from .beginning import log_unusable
from .front import Front
from .lead import End, Lead
from .signals import ignore_signals, on_signal
from .vault import open_vault

log = logging.getLogger("openred.server")

# Causes that may pass by themselves: a port or a database that another process still holds, an address that
# comes up later, a full disk. Another start may succeed.
_PASSING_ERRORS: Final = NO_ROOM | {
    *(errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENOBUFS, errno.ETIMEDOUT),
    *(errno.EIO, errno.ESTALE, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENOMEM),
    *(errno.EMFILE, errno.ENFILE),
}
_PASSING_RESULTS: Final = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL),
}


def serve(
    configuration: Configuration,
    *,
    begin_anew: bool = False,
    make_front: Callable[[Assembly], Front] = Alone,
    make_instance: Callable[[Configuration], Process] | None = None,
) -> int:
    """Run the server until SIGTERM, SIGINT or another of `STOPPING`.

    `begin_anew` makes an empty database if it is missing although there are snapshots of it. `make_front`
    makes what serves the public listeners. `make_instance` makes an instance of a cluster instead.

    Return the exit code: `DONE`; `FAILED` if it could not save all changes, or if a later start may succeed;
    `CONFIG` if it cannot start until the operator fixes what the log names.
    """
    configure(configuration.log, configuration.log_level, sys.stderr, os.environ)
    server: Process | None = None
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            server = (
                make_instance(configuration)
                if make_instance
                else Server(configuration, begin_anew=begin_anew, make_front=make_front)
            )
            saved = runner.run(server.run())
    except (StartError, StoreError) as error:
        log.error("cannot %s: %s", "go on" if server and server.was_ready else "start", error)
        return exit_code(error)
    if saved:
        return ExitCode.DONE
    log.error("ended without saving all changes; the log lines above name what is lost")
    logging.shutdown()
    # An orderly exit would wait for ever for a commit that never returns.
    os._exit(ExitCode.FAILED)


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code for a start that ended with `error`, judged by it and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        if _passes(cause):
            return ExitCode.FAILED
        cause = cause.__cause__
    return ExitCode.CONFIG


def _passes(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return result_code(error) in _PASSING_RESULTS
    # TLS errors have numbers of their own.
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return error.errno in _PASSING_ERRORS
    return isinstance(error, PassingError | PassingStartError)


class Process(Protocol):
    """A server or an instance, as its process sees it."""

    @property
    def was_ready(self) -> bool:
        """Return whether it served."""

    async def run(self) -> bool:
        """Start, serve until a signal, stop. Return whether everything was saved.

        Raises `StartError` or `StoreError` if it cannot start, or cannot go on.
        """


class Server:
    """One server, from its start to its stop."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        begin_anew: bool = False,
        make_front: Callable[[Assembly], Front] = Alone,
    ) -> None:
        self._configuration = configuration
        self._begin_anew = begin_anew
        self._assembly = Assembly.here(configuration)
        self._clock = self._assembly.clock
        self._front = make_front(self._assembly)
        self._stop = asyncio.Event()
        self._notifier = Notifier(os.environ, os.getpid(), lambda: self._lead.status())
        self._lead = Lead(self._assembly, self._front, self._notifier, self._stop)

    @property
    def was_ready(self) -> bool:
        """Return whether it served."""
        return self._lead.was_ready

    async def run(self) -> bool:
        """Start, serve until a signal, stop. Return whether everything was saved.

        Raises `StartError` or `StoreError` if it cannot start.
        """
        on_signal(self._stop.set)
        try:
            return await self._run()
        finally:
            self._front.close()
            ignore_signals()

    async def _run(self) -> bool:
        configuration = self._configuration
        self._notifier.loading()
        store, (directory, attended), restored = open_or_restore(
            configuration.database,
            configuration.snapshot_folder,
            self._assembly.load,
            restore=configuration.restore == "auto",
            begin_anew=self._begin_anew,
            wall_s=self._clock.wall_s(),
        )
        log_unusable(directory.nodes.unserved, store.location)
        writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        vault = open_vault(configuration, self._clock, os.urandom, store, writer)
        end = End(writer_idle=True, all_saved=True)
        try:
            end = await self._lead.serve(directory, attended, restored, store, writer, vault)
        finally:
            vault.close()
            writer.shutdown(wait=end.writer_idle)
            if end.writer_idle:
                _close(store)
            self._notifier.close()
        return end.all_saved


def _close(store: Store) -> None:
    """Close `store`. A failure loses no data, and must not hide why the server could not start."""
    try:
        store.close()
    except StoreError as error:
        log.warning("no data is lost, but the next start has more to read: %s", error)

"""The composition root: every part is made here and given what it needs. Reads as the wiring diagram."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import uvloop

from . import __version__
from .api.admin.desk import Desk
from .api.admin.secret_file import SecretError
from .api.broadcast import Broadcast
from .api.event_feed import EventFeed
from .api.event_log import EventLog
from .api.limiting import Limits
from .api.openapi import documents
from .api.proving import Prover
from .api.routes import NAMES, install
from .api.service import Api
from .clock import AttendedTime, SystemClock
from .config import SETTINGS, Configuration
from .directory.directory import Directory
from .directory.expiry import ProbeRequest
from .directory.node import Transition
from .listening import StartError, listeners, tls
from .loading import load
from .logs import AccessLog, configure
from .micro_engine.engine import Engine
from .operators import Operators, make_desk
from .reporting.figures import LiveFigures, Parts, performance
from .reporting.metrics import metrics_text
from .security.authority import Authorities
from .security.claims import CLAIM_KEY, CLAIM_KEY_BYTES, Claims
from .security.replay import ReplayRings
from .security.revocations import RecentTokens, Revocations
from .security.sessions import SESSION_KEY_BYTES, Sessions
from .storage.restoring import Restored, database_path, open_or_restore, snapshots_of
from .storage.runs import RUN_BYTES, begin_run
from .storage.store import Store, StoreError
from .tasks.notifier import Notifier
from .tasks.prober import Prober, Submission, probe_refusal
from .tasks.revocation_saver import RevocationSaver, load_revocations
from .tasks.saver import Saver
from .tasks.scheduler import Scheduler
from .tasks.snapshotter import Snapshotter
from .tasks.stall_meter import StallMeter
from .transition_log import log_transitions
from .vault import Vault, keep_keys, open_vault

log = logging.getLogger("openred.server")

UNNAMED = "%s is not set: a request that was signed for another directory is not told from one for us"


def serve(configuration: Configuration) -> int:
    """Run the server until SIGTERM or SIGINT.

    Returns the exit code: 0, or 1 where it could not start or could not save its last changes.
    """
    configure(configuration.log, configuration.log_level, sys.stderr, os.environ)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            saved = runner.run(Server(configuration).run())
    except (StartError, StoreError) as error:
        log.error("cannot start: %s", error)
        return 1
    if saved:
        return 0
    log.error("ended without saving the last changes")
    logging.shutdown()
    # A commit that never returns would keep an orderly exit waiting for ever.
    os._exit(1)


class Server:
    """All parts of one server, and the order in which they start and stop."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._clock = SystemClock()
        self._random = random.Random(secrets.randbits(128))
        self._started_s = self._clock.monotonic_s()
        self._restored: Restored | None = None
        self._stop = asyncio.Event()
        self._notifier = Notifier(os.environ, os.getpid())

    async def run(self) -> bool:
        """Start, serve until a signal comes, stop. Returns whether everything was saved.

        Raises `StartError` or `StoreError` where it cannot start.
        """
        _on_signal(self._stop.set)
        configuration = self._configuration
        self._notifier.status("loading")
        store, (directory, attended), self._restored = open_or_restore(
            configuration.database,
            configuration.snapshot_folder,
            self._load,
            restore=configuration.restore == "auto",
            wall_s=self._clock.wall_s(),
        )
        writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        vault, saved = open_vault(configuration, self._clock, secrets.token_bytes), True
        try:
            saved = await self._serve(directory, attended, store, writer, vault)
        finally:
            vault.close()
            writer.shutdown(wait=saved)
            if saved:
                store.close()
            self._notifier.close()
        return saved

    async def _serve(
        self,
        directory: Directory,
        attended: AttendedTime,
        store: Store,
        writer: ThreadPoolExecutor,
        vault: Vault,
    ) -> bool:
        configuration = self._configuration
        begin_run(store, secrets.token_bytes(RUN_BYTES))
        # Another name for each run, under which nobody takes its events for those of an earlier one.
        feed = EventFeed(EventLog(secrets.token_hex(4)), directory.nodes.registry)
        saver = Saver(directory.saving, store, writer, attended.now, configuration.saver())
        status = partial(_status, directory, saver)
        prober = self._prober(directory, attended)
        parts = self._parts(directory, attended, saver, prober, feed)
        broadcast = Broadcast(
            feed, LiveFigures(parts), self._clock.wall_s, readers_max=configuration.events_subscribers_max
        )
        engine, scheduler, snapshotter = parts.engine, parts.scheduler, parts.snapshotter
        stalls = StallMeter(self._clock)
        api = self._api(parts, broadcast, store, writer, vault)
        install(engine, api)
        context = tls(configuration.tls_certificate, configuration.tls_key)
        operators = self._operators()
        await _start_operators(
            operators, make_desk(api, lambda: metrics_text(parts, broadcast, stalls), snapshotter)
        )
        addresses = await engine.start(self._listeners(), tls=context)
        # An operator's word that silence is to be believed.
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, lambda: directory.expiry.release_hold(attended.now())
        )
        tasks = [asyncio.create_task(part.run()) for part in (saver, scheduler, prober, broadcast, stalls)]
        tasks += [asyncio.create_task(part) for part in (self._notifier.run(status), keep_keys(vault))]
        if snapshotter:
            tasks.append(asyncio.create_task(snapshotter.run()))
        log.info("ready: %d nodes from %s, listening on %s", len(directory), store.location, _list(addresses))
        self._notifier.ready(status())
        if not configuration.authority:
            log.warning(UNNAMED, SETTINGS["authority"].variable)
        try:
            await _until(self._stop, tasks)
        finally:
            # No new connections, then what is in flight finishes, bounded by drain_timeout_s.
            # A second signal ends that wait.
            log.info("stopping")
            self._notifier.stopping()
            _on_signal(partial(_hurry, engine, operators))
            broadcast.stop()
            cut, _ = await asyncio.gather(engine.drain(), operators.drain())
            stalls.stop()
            # Time stops before the last flush, so that what is saved is the end.
            scheduler.stop()
            if snapshotter:
                snapshotter.stop()
            vault.keykeeper.stop()
            await prober.stop()
            await saver.stop()
            self._notifier.stop()
        await asyncio.gather(*tasks)
        log.info("stopped: %d nodes, %d connections were cut", len(directory), cut)
        return not saver.gave_up

    def _parts(
        self,
        directory: Directory,
        attended: AttendedTime,
        saver: Saver,
        prober: Prober,
        feed: EventFeed,
    ) -> Parts:
        configuration = self._configuration

        def tell(transitions: Sequence[Transition]) -> None:
            log_transitions(transitions)
            feed.offer(transitions)

        scheduler = Scheduler(
            directory,
            attended,
            tick_s=configuration.tick_s,
            store_reachable=lambda: not saver.failing,
            on_transitions=tell,
            ask=lambda request: _submit(prober, request),
        )
        return Parts(
            clock=self._clock,
            started_s=self._started_s,
            engine=self._engine(),
            directory=directory,
            attended=attended,
            saver=saver,
            scheduler=scheduler,
            snapshotter=self._snapshotter(),
            restored=self._restored,
        )

    def _api(
        self,
        parts: Parts,
        broadcast: Broadcast,
        store: Store,
        writer: ThreadPoolExecutor,
        vault: Vault,
    ) -> Api:
        limits = Limits(self._configuration.limits(), self._clock.monotonic_s, parts.directory.nodes.registry)
        revocations = self._revocations(store)
        return Api(
            directory=parts.directory,
            prover=self._prover(parts.directory, limits, store),
            limits=limits,
            rsa_bits_min=self._configuration.min_rsa_bits,
            mint=vault.keykeeper,
            recent_tokens=RecentTokens(),
            revocations=revocations,
            save_revocations=RevocationSaver(revocations, store, writer).save,
            entropy=secrets.token_bytes,
            now=parts.attended.now,
            saved=parts.saver.saved,
            store_state=lambda: parts.saver.state,
            store_durable=store.durable,
            random=self._random.random,
            figures=lambda: performance(parts),
            version=__version__,
            endpoints=NAMES,
            documents=documents(__version__),
            stopping=self._stop.is_set,
            broadcast=broadcast,
        )

    def _make_directory(self) -> Directory:
        configuration = self._configuration
        return Directory(
            configuration.directory(),
            configuration.lifecycle(),
            configuration.mass_silence(),
            self._random.random,
        )

    def _load(self, store: Store) -> tuple[Directory, AttendedTime]:
        directory = self._make_directory()
        return directory, load(directory, store, self._clock, tick_s=self._configuration.tick_s)

    def _prober(self, directory: Directory, attended: AttendedTime) -> Prober:
        allow_private = self._configuration.probe_allow_private
        return Prober(
            self._clock,
            lambda address, port: probe_refusal(address, port, allow_private),
            lambda slot, node_id, alive: directory.expiry.probed(
                slot, node_id, alive=alive, now=attended.now()
            ),
            self._configuration.prober(),
        )

    def _prover(self, directory: Directory, limits: Limits, store: Store) -> Prover:
        configuration = self._configuration
        return Prover(
            directory=directory,
            limits=limits,
            claims=Claims(self._claim_key(store)),
            # In memory only: a restart makes all sessions void, and nodes sign once more.
            sessions=Sessions(secrets.token_bytes(SESSION_KEY_BYTES)),
            rings=ReplayRings(),
            authorities=Authorities(configuration.authority),
            strict=configuration.auth == "strict",
            started_s=self._started_s,
        )

    def _revocations(self, store: Store) -> Revocations:
        try:
            return load_revocations(store, self._clock.wall_s())
        except ValueError as error:
            raise StartError(f"{store.location}: {error}; restore it from a snapshot") from None

    def _snapshotter(self) -> Snapshotter | None:
        """None where there is nothing to copy."""
        configuration = self._configuration
        database = database_path(configuration.database)
        if database is None:
            return None
        snapshots = snapshots_of(database, configuration.snapshot_folder)
        return Snapshotter(snapshots, self._clock, configuration.snapshotter())

    def _operators(self) -> Operators:
        configuration = self._configuration
        options, database = configuration.operators(), database_path(configuration.database)
        beside = database.with_name(f"{database.name}.admin-secret") if database is not None else None
        return Operators(
            options,
            options.secret_file or beside,
            secrets.token_bytes,
            limits=configuration.engine(),
            clock=self._clock,
            new_request_id=new_request_id,
        )

    def _engine(self) -> Engine:
        """The engine, and the access log where one is wanted."""
        share = self._configuration.access_log
        return Engine(
            limits=self._configuration.engine(),
            clock=self._clock,
            new_request_id=new_request_id,
            observe=AccessLog(share, self._random.random, new_request_id) if share else None,
        )

    def _listeners(self) -> list[socket.socket]:
        configuration = self._configuration
        return listeners(
            configuration.host,
            configuration.port,
            configuration.unix_socket,
            backlog=configuration.engine().backlog,
            environment=os.environ,
            process_id=os.getpid(),
        )

    def _claim_key(self, store: Store) -> bytes:
        key = store.load_secret(CLAIM_KEY)
        if key is None:
            key = secrets.token_bytes(CLAIM_KEY_BYTES)
            store.save_secret(CLAIM_KEY, key)
        return key


def new_request_id() -> str:
    """An id for a request that came without one: 64 random bits."""
    return secrets.token_hex(8)


def _on_signal(callback: Callable[[], object]) -> None:
    """Have `callback` called when somebody wants the server to stop."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, callback)


def _hurry(engine: Engine, operators: Operators) -> None:
    engine.hurry()
    operators.hurry()


async def _until(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the signal to stop; a task that ends before it takes the server down with its error."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()


async def _start_operators(operators: Operators, desk: Desk) -> None:
    """Have operators heard. Raises `StartError` where that cannot be."""
    try:
        addresses = await operators.start(desk)
    except OSError as error:
        raise StartError(
            f"operators cannot be heard: {error.strerror or error}; choose another OPENRED_ADMIN_PORT "
            "(0 for any that is free, off for none) or OPENRED_ADMIN_SOCKET"
        ) from error
    except SecretError as error:
        raise StartError(str(error)) from error
    if addresses:
        log.info("operators are heard on %s", _list(addresses))


def _submit(prober: Prober, request: ProbeRequest) -> Submission:
    return prober.submit(request.slot, request.node_id, request.address, request.port)


def _status(directory: Directory, saver: Saver) -> str:
    """The line that the service manager shows."""
    return f"{len(directory)} nodes, store {saver.state.value}"


def _list(addresses: Sequence[str]) -> str:
    return ", ".join(addresses)

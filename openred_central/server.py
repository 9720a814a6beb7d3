"""The composition root: every part is made here and given what it needs. Reads as the wiring diagram."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import signal
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from . import __version__
from .api.limiting import Limits
from .api.openapi import documents
from .api.proving import Prover
from .api.routes import NAMES, install
from .api.service import Api
from .api.times import rfc3339
from .clock import AttendedTime, SystemClock
from .config import SETTINGS, Configuration
from .directory.directory import Directory
from .directory.expiry import ProbeRequest
from .directory.node import Transition
from .loading import load
from .logs import AccessLog, configure
from .micro_engine.engine import Engine
from .micro_engine.sockets import inherited, listen_tcp, listen_unix, tls_context
from .security.authority import Authorities
from .security.claims import CLAIM_KEY, CLAIM_KEY_BYTES, Claims
from .security.replay import ReplayRings
from .security.revocations import RecentTokens, Revocations
from .security.root import RootRefused
from .security.sessions import SESSION_KEY_BYTES, Sessions
from .storage.key_files import KeyFileError
from .storage.restoring import Restored, database_path, open_or_restore, snapshots_of
from .storage.runs import RUN_BYTES, begin_run
from .storage.store import Store, StoreError
from .tasks.notifier import Notifier
from .tasks.prober import Prober, Submission, probe_refusal
from .tasks.revocation_saver import RevocationSaver, load_revocations
from .tasks.saver import Saver
from .tasks.scheduler import Scheduler
from .tasks.snapshotter import Snapshotter
from .vault import Vault

log = logging.getLogger("openred.server")

# Beyond so many in one tick they are told as counts: a million transitions are not a million lines.
TRANSITIONS_LOGGED_MAX = 50


UNNAMED = "%s is not set: a request that was signed for another directory is not told from one for us"


class StartError(Exception):
    """The server cannot start. The message is one line for the operator."""


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
        vault, saved = self._vault(), True
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
        saver = Saver(directory.saving, store, writer, attended.now, configuration.saver())
        status = partial(_status, directory, saver)
        prober = self._prober(directory, attended)
        scheduler = Scheduler(
            directory,
            attended,
            tick_s=configuration.tick_s,
            store_reachable=lambda: not saver.failing,
            on_transitions=log_transitions,
            ask=lambda request: _submit(prober, request),
        )
        snapshotter = self._snapshotter()
        engine = self._engine()
        limits = Limits(configuration.limits(), self._clock.monotonic_s, directory.nodes.registry)
        revocations = self._revocations(store)
        api = Api(
            directory=directory,
            prover=self._prover(directory, limits, store),
            limits=limits,
            rsa_bits_min=configuration.min_rsa_bits,
            mint=vault.keykeeper,
            recent_tokens=RecentTokens(),
            revocations=revocations,
            save_revocations=RevocationSaver(revocations, store, writer).save,
            entropy=secrets.token_bytes,
            now=attended.now,
            saved=saver.saved,
            store_state=lambda: saver.state,
            store_durable=store.durable,
            random=self._random.random,
            figures=lambda: self._figures(engine, saver, scheduler, attended, snapshotter),
            version=__version__,
            endpoints=NAMES,
            documents=documents(__version__),
            stopping=self._stop.is_set,
        )
        install(engine, api)
        tls = self._tls()
        addresses = await engine.start(self._listeners(), tls=tls)
        # An operator's word that silence is to be believed.
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, lambda: directory.expiry.release_hold(attended.now())
        )
        running = (saver.run(), scheduler.run(), prober.run(), self._notifier.run(status), _keep_keys(vault))
        tasks = [asyncio.create_task(part) for part in running]
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
            _on_signal(engine.hurry)
            cut = await engine.drain()
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

    def _vault(self) -> Vault:
        try:
            return Vault(self._configuration, self._clock, secrets.token_bytes)
        except KeyFileError as error:
            raise StartError(str(error)) from None

    def _revocations(self, store: Store) -> Revocations:
        try:
            return load_revocations(store, self._clock.wall_s())
        except ValueError as error:
            raise StartError(f"{store.location}: {error}; restore it from a snapshot") from None

    def _snapshotter(self) -> Snapshotter | None:
        """None where there is nothing to copy, or nobody wants it."""
        configuration = self._configuration
        database = database_path(configuration.database)
        if database is None or not configuration.snapshot_interval_s:
            return None
        snapshots = snapshots_of(database, configuration.snapshot_folder)
        return Snapshotter(snapshots, self._clock, configuration.snapshotter())

    def _engine(self) -> Engine:
        """The engine, and the access log where one is wanted."""
        share = self._configuration.access_log
        return Engine(
            limits=self._configuration.engine(),
            clock=self._clock,
            new_request_id=new_request_id,
            observe=AccessLog(share, self._random.random, new_request_id) if share else None,
        )

    def _claim_key(self, store: Store) -> bytes:
        key = store.load_secret(CLAIM_KEY)
        if key is None:
            key = secrets.token_bytes(CLAIM_KEY_BYTES)
            store.save_secret(CLAIM_KEY, key)
        return key

    def _listeners(self) -> list[socket.socket]:
        """What systemd passed, or else the address and Unix socket of the settings."""
        configuration = self._configuration
        listeners: list[socket.socket] = []
        try:
            listeners = inherited(os.environ, os.getpid())
            if listeners:
                return listeners
            backlog = configuration.engine().backlog
            listeners = listen_tcp(configuration.host, configuration.port, backlog=backlog)
            if configuration.unix_socket:
                listeners.append(listen_unix(Path(configuration.unix_socket), backlog=backlog))
        except OSError as error:
            for listener in listeners:
                listener.close()
            raise StartError(error.strerror or str(error)) from error
        return listeners

    def _tls(self) -> ssl.SSLContext | None:
        certificate, key = self._configuration.tls_certificate, self._configuration.tls_key
        if not certificate:
            return None
        try:
            return tls_context(Path(certificate), Path(key))
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"cannot use the certificate {certificate} with the key {key}: {error}"
            ) from error

    def _figures(
        self,
        engine: Engine,
        saver: Saver,
        scheduler: Scheduler,
        attended: AttendedTime,
        snapshotter: Snapshotter | None,
    ) -> dict[str, Any]:
        """What the parts around the directory count."""
        counted, saved = engine.stats, saver.stats
        return {
            "uptime_s": round(self._clock.monotonic_s() - self._started_s, 3),
            "requests": counted.requests,
            "responses": {f"{kind}xx": counted.responses[kind] for kind in range(2, 6)},
            "connections": {
                "open": engine.connections_open,
                "total": counted.connections_total,
                "refused": counted.connections_refused,
            },
            "bytes": {"in": counted.bytes_in, "out": counted.bytes_out},
            "store": {
                "state": saver.state.value,
                "batches": saved.batches,
                "rows": saved.rows,
                "commit_ms_mean": round(saved.commit_s_total / max(saved.batches, 1) * 1_000, 3),
                "commit_ms_max": round(saved.commit_s_max * 1_000, 3),
                "failures": saved.failures,
                "restored": _describe_restored(self._restored),
            },
            "snapshots": _describe_snapshots(snapshotter),
            "scheduler": {
                "ticks": scheduler.ticks,
                "late_ms_max": round(scheduler.late_s_max * 1_000, 3),
                "clock_jumps": [
                    {"at": rfc3339(jump.at_wall_s), "jump_s": jump.jump_s} for jump in attended.jumps
                ],
            },
        }


def new_request_id() -> str:
    """An id for a request that came without one: 64 random bits."""
    return secrets.token_hex(8)


def _describe_restored(restored: Restored | None) -> dict[str, Any] | None:
    """What the store was restored from at start, where it was damaged. Names without their folders."""
    if restored is None:
        return None
    return {
        "snapshot": restored.snapshot,
        "taken_at": rfc3339(restored.taken_at),
        "age_s": round(restored.age_s, 3),
        "set_aside": restored.set_aside.name,
    }


def _describe_snapshots(snapshotter: Snapshotter | None) -> dict[str, Any] | None:
    if snapshotter is None:
        return None
    taken = snapshotter.stats
    return {
        "state": "ok" if taken.last_error is None else "failing",
        "taken": taken.snapshots,
        "failures": taken.failures,
        "last": rfc3339(taken.last_at) if taken.last_at is not None else None,
        "last_took_s": round(taken.last_took_s, 3),
        "last_bytes": taken.last_bytes,
    }


def _on_signal(callback: Callable[[], object]) -> None:
    """Have `callback` called when somebody wants the server to stop."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, callback)


async def _keep_keys(vault: Vault) -> None:
    """Keep the directory's keys. Raises `StartError` where the server must not go on with what it found."""
    try:
        await vault.run()
    except (KeyFileError, RootRefused) as error:
        raise StartError(str(error)) from None


async def _until(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the signal to stop; a task that ends before it takes the server down with its error."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()


def _submit(prober: Prober, request: ProbeRequest) -> Submission:
    return prober.submit(request.slot, request.node_id, request.address, request.port)


def log_transitions(transitions: Sequence[Transition]) -> None:
    """One line for each transition, or for each kind of them where there are very many at once."""
    if len(transitions) <= TRANSITIONS_LOGGED_MAX:
        for change in transitions:
            log.info(
                "node %s: %s → %s (%s)",
                change.node_id,
                change.from_state.wire,
                change.to_state.wire,
                change.reason,
            )
        return
    kinds = Counter((change.from_state.wire, change.to_state.wire, change.reason) for change in transitions)
    for (from_state, to_state, reason), count in kinds.items():
        log.info("%d nodes: %s → %s (%s)", count, from_state, to_state, reason)


def _status(directory: Directory, saver: Saver) -> str:
    """The line that the service manager shows."""
    return f"{len(directory)} nodes, store {saver.state.value}"


def _list(addresses: Sequence[str]) -> str:
    return ", ".join(addresses)

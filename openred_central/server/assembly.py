"""The wiring diagram: each part of a server is made here, of the settings and of the parts that it needs.

In which order they start and stop stands in `server`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import __version__
from ..api.caller.limiting import Limits
from ..api.caller.proving import Prover
from ..api.dashboard import make_front_page
from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import EventFeed
from ..api.routes import NAMES
from ..api.service import Api, Documents, Moments
from ..api.wire.caching import Once
from ..clock import AttendedTime, Clock
from ..directory.directory import Directory
from ..directory.life.expiry import ProbeRequest
from ..limits.origins import Origins
from ..listening import Certificate, listeners
from ..logs import AccessLog
from ..micro_engine.engine import Engine
from ..micro_engine.wire.messages import Request
from ..reporting.figures import Parts, performance
from ..security.authority import Authorities
from ..security.replay import ReplayRings
from ..security.sessions import CLAIM_KEY, CLAIM_KEY_BYTES, SESSION_KEY_BYTES, Claims, Sessions
from ..security.tokens.revocations import RecentTokens, Revocations
from ..security.tokens.tokens import Mint
from ..settings.config import Configuration
from ..storage.copies.restoring import Restored, snapshots_of
from ..storage.loading import database_path, load
from ..storage.store import Store
from ..tasks.prober import Prober, Submission, probe_refusal
from ..tasks.revocation_saver import RevocationSaver, load_revocations
from ..tasks.saver import Saver
from ..tasks.scheduler import Scheduler, log_transitions
from ..tasks.snapshotter import Snapshotter
from .descriptors import make_room

if TYPE_CHECKING:
    from .operators import Operators

log = logging.getLogger("openred.server")

REQUEST_ID_BYTES = 8
# So many rows that cannot be served are told one by one.
UNSERVED_LOGGED_MAX = 50


@dataclass(frozen=True, slots=True)
class Assembly:
    """Makes the parts of one server as its `configuration` says.

    `random` returns floats in [0, 1), `entropy` so many random bytes; `started_s` is the monotonic time at
    which the server began to start.
    """

    configuration: Configuration
    clock: Clock
    random: Callable[[], float]
    entropy: Callable[[int], bytes]
    started_s: float

    def load(self, store: Store) -> tuple[Directory, AttendedTime]:
        """The directory that is in `store`, and its time. Raises `StoreError`."""
        configuration = self.configuration
        directory = Directory(
            configuration.directory(),
            configuration.lifecycle(),
            configuration.mass_silence(),
            self.random,
        )
        return directory, load(directory, store, self.clock, tick_s=configuration.tick_s)

    def saver(self, directory: Directory, attended: AttendedTime, store: Store, writer: Executor) -> Saver:
        """What brings changes of `directory` to `store`, by the one thread of `writer`."""
        return Saver(directory.saving, store, writer, attended.now, self.configuration.saver())

    def revocation_saver(self, store: Store, writer: Executor) -> RevocationSaver:
        """Return the part that saves revocations, with those in `store` taken in; tell of damaged ones."""
        revoked, damaged = load_revocations(store)
        _log_unusable(damaged, store.location)
        revocations = Revocations()
        revocations.restore(revoked, self.clock.monotonic_s())
        stop_timeout_s = self.configuration.saver().stop_timeout_s
        return RevocationSaver(revocations, store, writer, stop_timeout_s=stop_timeout_s)

    def prober(self, directory: Directory, attended: AttendedTime) -> Prober:
        """What asks nodes before their silence counts."""
        allow_private = self.configuration.probe_allow_private
        return Prober(
            self.clock,
            lambda address, port: probe_refusal(address, port, allow_private),
            lambda slot, node_id, alive: directory.expiry.probed(
                slot, node_id, alive=alive, now=attended.now()
            ),
            self.configuration.prober(),
        )

    def parts(
        self,
        directory: Directory,
        attended: AttendedTime,
        saver: Saver,
        prober: Prober,
        feed: EventFeed,
        restored: Restored | None,
        store: Store,
        run: bytes,
        certificate: Certificate | None,
    ) -> Parts:
        """The parts that count: those given, with engine, scheduler and snapshotter; `run` as in `Run`."""
        directory.nodes.transitions.observers += (log_transitions, feed.offer)
        scheduler = Scheduler(
            directory,
            attended,
            tick_s=self.configuration.tick_s,
            store_reachable=lambda: not saver.failing,
            ask=lambda request: _submit(prober, request),
        )
        return Parts(
            clock=self.clock,
            started_s=self.started_s,
            engine=self._engine(),
            directory=directory,
            attended=attended,
            saver=saver,
            scheduler=scheduler,
            snapshotter=self._snapshotter(store),
            restored=restored,
            store=store,
            run=run,
            certificate=certificate,
        )

    def api(
        self,
        parts: Parts,
        broadcast: Broadcast,
        store: Store,
        revocation_saver: RevocationSaver,
        mint: Mint,
        stopping: Callable[[], bool],
        time_s: Callable[[], float],
    ) -> Api:
        """Return what the endpoints need; `time_s` is as in `Moments`."""
        limits = Limits(self.configuration.limits(), self.clock.monotonic_s, parts.directory.nodes.registry)
        return Api(
            directory=parts.directory,
            prover=self._prover(parts.directory, limits, store),
            limits=limits,
            rsa_bits_min=self.configuration.min_rsa_bits,
            mint=mint,
            recent_tokens=RecentTokens(),
            revocations=revocation_saver.revocations,
            save_revocations=revocation_saver.save,
            entropy=self.entropy,
            now=parts.attended.now,
            moments=Moments(parts.attended.now, time_s, parts.directory.heartbeat_due_at),
            saved=parts.saver.saved,
            store_state=lambda: parts.saver.state,
            store_durable=store.durable,
            random=self.random,
            figures=lambda: performance(parts),
            version=__version__,
            endpoints=NAMES,
            documents=Once(_documents),
            front_page=Once(make_front_page),
            stopping=stopping,
            broadcast=broadcast,
        )

    def operators(self) -> Operators | None:
        """The operators' listeners; None where there are to be none."""
        configuration = self.configuration
        options = configuration.operators()
        if options.port is None and options.socket is None:
            return None
        # Here and not above: without operators a start is 3 ms shorter.
        from ..storage.keys.admin_secret import secret_file_beside
        from .operators import Operators

        beside = secret_file_beside(configuration.database)
        return Operators(
            options,
            options.secret_file or beside,
            self.entropy,
            limits=configuration.engine(),
            clock=self.clock,
            new_request_id=self._new_request_id,
        )

    def listeners(self) -> list[socket.socket]:
        """The sockets of the public listener. Raises `StartError`."""
        configuration = self.configuration
        return listeners(
            configuration.host,
            configuration.port,
            configuration.unix_socket,
            backlog=configuration.engine().backlog,
            environment=os.environ,
            process_id=os.getpid(),
        )

    def _engine(self) -> Engine:
        """The engine, and the access log where one is wanted."""
        share, new_request_id = self.configuration.access_log, self._new_request_id
        return Engine(
            limits=make_room(self.configuration.engine(), self.configuration.probes_max),
            clock=self.clock,
            new_request_id=new_request_id,
            observer=AccessLog(share, self.random, new_request_id, self._client()) if share else None,
            fast_path=self.configuration.fast_path,
        )

    def _client(self) -> Callable[[Request], str]:
        """Return the function that finds the address that a request counts as, for the log."""
        options = self.configuration.limits()
        origins = Origins(options.trusted_proxies, header=options.forwarded_header)
        return lambda request: origins.of(request.peer, request.headers.get).address

    def _snapshotter(self, store: Store) -> Snapshotter | None:
        """None where there is nothing to copy."""
        configuration = self.configuration
        database = database_path(configuration.database)
        if database is None:
            return None
        snapshots = snapshots_of(database, configuration.snapshot_folder)
        return Snapshotter(snapshots, self.clock, configuration.snapshotter(), store.find_loss)

    def _prover(self, directory: Directory, limits: Limits, store: Store) -> Prover:
        configuration = self.configuration
        return Prover(
            directory=directory,
            limits=limits,
            claims=Claims(self._claim_key(store, directory)),
            # In memory only: a restart makes all sessions void, and nodes sign once more.
            sessions=Sessions(self.entropy(SESSION_KEY_BYTES)),
            rings=ReplayRings(),
            authorities=Authorities(configuration.authority),
            strict=configuration.auth == "strict",
            started_s=self.started_s,
            steady_ahead_s=self.clock.wall_s() - self.clock.monotonic_s(),
        )

    def _claim_key(self, store: Store, directory: Directory) -> bytes:
        """The key of claims, a new one where there is none that can be used."""
        key = store.load_secret(CLAIM_KEY)
        if key is not None and len(key) == CLAIM_KEY_BYTES:
            return key
        if key is not None or len(directory):
            found = "missing" if key is None else f"damaged, with {len(key)} of {CLAIM_KEY_BYTES} bytes"
            log.error(
                "the key of claims in %s is %s: a new one was made, and claims from before are void; "
                "to have them back, restore a snapshot that holds the former key",
                store.location,
                found,
            )
        key = self.entropy(CLAIM_KEY_BYTES)
        store.save_secret(CLAIM_KEY, key)
        return key

    def _new_request_id(self) -> str:
        """An id for a request that came without one."""
        return self.entropy(REQUEST_ID_BYTES).hex()


def _documents() -> Documents:
    # Here and not above: it imports what no other answer needs, 6 ms.
    from ..api.description.openapi import documents

    return documents(__version__)


def log_unserved(directory: Directory, location: str) -> None:
    """Tell of each row of the store at `location` that cannot be served; of very many, how many there are."""
    _log_unusable(directory.nodes.unserved, location)


def _log_unusable(unserved: Sequence[object], location: str) -> None:
    for row in unserved[:UNSERVED_LOGGED_MAX]:
        log.error("unusable row in %s, where it stays as it is: %s", location, row)
    more = len(unserved) - UNSERVED_LOGGED_MAX
    if more > 0:
        log.error("%d more rows are unusable; `openred-central verify` names them all", more)


def _submit(prober: Prober, request: ProbeRequest) -> Submission:
    return prober.submit(request.slot, request.node_id, request.address, request.port)

"""The wiring of a server: make each part from the settings and the parts that it needs.

`server` has the order in which they start and stop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import resource
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import __version__
from ..api.caller.limiting import Limits
from ..api.caller.proving import Prover
from ..api.dashboard import make_front_page
from ..api.description.openapi import documents
from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import EventFeed
from ..api.feed.watching import Watching
from ..api.routes import NAMES
from ..api.service import Api, Moments
from ..api.wire.caching import Once
from ..clock import AttendedTime, Clock, SystemClock
from ..directory.directory import Directory
from ..directory.state.changes import Batch
from ..limits.origins import Origins
from ..listening import Certificate, listeners
from ..logs import AccessLog
from ..micro_engine.engine import Engine
from ..micro_engine.limits import EngineLimits
from ..micro_engine.wire.messages import Request
from ..reporting.figures import Parts, performance
from ..security.authority import Authorities
from ..security.replay import ReplayRings
from ..security.sessions import Claims, Sessions
from ..security.tokens.revocations import RecentTokens, Revocations
from ..security.tokens.tokens import Mint
from ..settings.config import Configuration
from ..storage.copies.restoring import Restored, snapshots_of
from ..storage.keys.admin_secret import secret_file_beside
from ..storage.loading import database_path, load
from ..storage.store import Loads, Store
from ..tasks.analyst import Analyst
from ..tasks.blockkeeper import Blockkeeper
from ..tasks.forecaster import Forecaster
from ..tasks.periodic import PeriodicTask
from ..tasks.prober import Prober, probe_refusal
from ..tasks.saver import RevocationSaver, Saver
from ..tasks.scheduler import Scheduler, log_darkness, log_transitions
from ..tasks.snapshotter import Snapshotter
from .beginning import Begun, begin
from .front import Front
from .operators import Operators

if TYPE_CHECKING:
    from ..micro_engine.places import Places

log = logging.getLogger("openred.server")

REQUEST_ID_BYTES = 8
# Descriptors beside those of connections and probes: of operators, of rejected connections that are still
# open, of the database, snapshots, keys, listeners, the log and the event loop.
DESCRIPTORS_BESIDE: Final = 256


class Assembly(NamedTuple):
    """The maker of the parts of one server.

    `random` returns floats in [0, 1), `entropy` returns so many random bytes. `started_s` is the monotonic
    time at which the start began; proofs that were made before `proofs_from_s` are refused.
    """

    configuration: Configuration
    clock: Clock
    random: Callable[[], float]
    entropy: Callable[[int], bytes]
    started_s: float
    proofs_from_s: float

    @classmethod
    def here(cls, configuration: Configuration) -> Assembly:
        """Return the maker of a server that starts now, with the clock and the randomness of this machine."""
        clock = SystemClock()
        return cls(
            configuration,
            clock,
            random=random.Random(os.urandom(16)).random,
            entropy=os.urandom,
            started_s=clock.monotonic_s(),
            proofs_from_s=clock.monotonic_s(),
        )

    def directory(self) -> Directory:
        """Return an empty directory."""
        configuration = self.configuration
        return Directory(
            configuration.directory(), configuration.lifecycle(), configuration.mass_silence(), self.random
        )

    def load(self, store: Loads) -> tuple[Directory, AttendedTime]:
        """Load the directory and its attended time from `store`. Raises `StoreError`."""
        configuration, directory = self.configuration, self.directory()
        attended = load(directory, store, self.clock, tick_s=configuration.tick_s)
        lowered = directory.nodes.lowered_patience()
        if lowered is not None:
            log.warning(
                "OPENRED_PATIENCE_FACTOR_MAX was lowered from %g to %g: %d nodes have an earlier deadline "
                "than they were told",
                lowered[0],
                configuration.patience_factor_max,
                lowered[1],
            )
        return directory, attended

    def begin(self, store: Store, nodes: int) -> Begun:
        """Begin a run on `store`, which holds so many nodes. It may take long. Raises `StoreError`."""
        return begin(store, self.entropy, nodes, is_shared=self.configuration.is_shared)

    def saver(
        self,
        directory: Directory,
        attended: AttendedTime,
        store: Store,
        writer: Executor,
        on_committed: Callable[[Batch], None] | None,
    ) -> Saver:
        """Return the task that saves changes of `directory` in `store`, with the thread of `writer`."""
        options = self.configuration.saver()
        return Saver(directory.saving, store, writer, attended.now, options, on_committed)

    def revocation_saver(
        self, store: Store, writer: Executor, revoked: Mapping[str, float]
    ) -> RevocationSaver:
        """Return the part that saves revocations in `store`, which has those that are `revoked`."""
        revocations = Revocations()
        revocations.restore(revoked, self.clock.monotonic_s())
        stop_timeout_s = self.configuration.saver().stop_timeout_s
        return RevocationSaver(
            revocations, store, writer, self.clock.monotonic_s, stop_timeout_s=stop_timeout_s
        )

    def prober(self, directory: Directory, attended: AttendedTime) -> Prober:
        """Return the task that probes silent nodes; the life cycle in `directory` takes the results."""

        def take_result(slot: int, node_id: str, alive: bool | None) -> None:
            directory.expiry.probed(slot, node_id, alive=alive, now=attended.now())

        return Prober(
            self.clock,
            partial(probe_refusal, allow_private=self.configuration.probe_allow_private),
            take_result,
            self.configuration.prober(),
        )

    def keepers(self, parts: Parts) -> dict[str, PeriodicTask]:
        """Return, by name, the tasks for blocks, figures, snapshots and habits, as far as there are any."""
        directory, keepers = parts.directory, dict[str, PeriodicTask]()
        keepers["analyst"] = Analyst(directory.analytics, parts.attended)
        keepers["blockkeeper"] = Blockkeeper(directory, parts.attended.now)
        if parts.snapshotter is not None:
            keepers["snapshotter"] = parts.snapshotter
        if directory.visiting is not None:
            keepers["forecaster"] = Forecaster(directory.visiting, parts.attended)
        return keepers

    def parts(
        self,
        front: Front,
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
        """Make scheduler and snapshotter, and return all parts that have figures.

        `run` is as in `Run`.
        """
        directory.nodes.transitions.observers += (log_transitions, feed.offer)
        if directory.watch is not None:
            directory.watch.observers += (log_darkness, feed.offer_network)
        scheduler = Scheduler(
            directory,
            attended,
            tick_s=self.configuration.tick_s,
            store_reachable=lambda: not saver.failing,
            submit_probe=prober.submit,
            horizon_s=front.horizon_s,
        )
        return Parts(
            clock=self.clock,
            started_s=self.started_s,
            directory=directory,
            attended=attended,
            saver=saver,
            scheduler=scheduler,
            snapshotter=self._snapshotter(store),
            restored=restored,
            store=store,
            run=run,
            served=front.served,
            certificate=certificate,
        )

    def api(
        self,
        parts: Parts,
        front: Front,
        broadcast: Broadcast,
        begun: Begun,
        revocation_saver: RevocationSaver,
        mint: Mint,
        stopping: Callable[[], bool],
        time_s: Callable[[], float],
    ) -> Api:
        """Return what the endpoints need; `time_s` is as in `Moments`."""
        limits = Limits(front.limits, self.clock.monotonic_s, parts.directory.nodes.registry)
        api = Api(
            directory=parts.directory,
            prover=self._prover(parts.directory, limits, begun),
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
            store_durable=parts.store.durable,
            random=self.random,
            figures=lambda: performance(parts),
            version=__version__,
            endpoints=NAMES,
            documents=Once(partial(documents, __version__)),
            front_page=Once(make_front_page),
            stopping=stopping,
            broadcast=broadcast,
            watching=self.watching(parts.directory, parts.attended, broadcast),
            fast_path=self.configuration.fast_path,
            forecast_public=self.configuration.forecast_public == "all",
            near=self.configuration.near or None,
        )
        return front.promising(api)

    def watching(self, directory: Directory, attended: AttendedTime, broadcast: Broadcast) -> Watching:
        """Return the watched nodes; their subscribers take places of `broadcast`."""
        watching = Watching(directory, attended.now, waits_max=self.configuration.waits_max)
        broadcast.others = watching.watchers
        return watching

    def operators(self) -> Operators | None:
        """Return the operators' listeners, None if the settings turn them off."""
        configuration = self.configuration
        options = configuration.operators()
        if options.port is None and options.socket is None:
            return None
        beside = secret_file_beside(configuration.database)
        return Operators(
            options,
            options.secret_file or beside,
            self.entropy,
            limits=configuration.engine(),
            clock=self.clock,
            new_request_id=self.new_request_id,
        )

    def listeners(self) -> list[socket.socket]:
        """Open the sockets of the public listener. Raises `StartError`."""
        configuration = self.configuration
        return listeners(
            configuration.host,
            configuration.port,
            configuration.unix_socket,
            backlog=configuration.engine().backlog,
            environment=os.environ,
            process_id=os.getpid(),
        )

    def engine(self) -> Engine:
        """Return the engine of a server of one process."""
        return self.public_engine(self.configuration.engine(), self.configuration.probes_max)

    def public_engine(self, limits: EngineLimits, probes_max: int, places: Places | None = None) -> Engine:
        """Return an engine, with an access log if the settings turn it on."""
        share, new_request_id = self.configuration.access_log, self.new_request_id
        return Engine(
            limits=make_room(limits, probes_max),
            clock=self.clock,
            new_request_id=new_request_id,
            observer=AccessLog(share, self.random, new_request_id, self.client()) if share else None,
            fast_path=self.configuration.fast_path,
            places=places,
        )

    def client(self) -> Callable[[Request], str]:
        """Return the function that finds the client address of a request."""
        options = self.configuration.limits()
        origins = Origins(options.trusted_proxies, header=options.forwarded_header)
        return lambda request: origins.of(request.peer, request.headers.get).address

    def _snapshotter(self, store: Store) -> Snapshotter | None:
        """Return the task that takes snapshots, None if there is no file to copy."""
        configuration = self.configuration
        database = database_path(configuration.database)
        if database is None:
            return None
        snapshots = snapshots_of(database, configuration.snapshot_folder)
        return Snapshotter(snapshots, self.clock, configuration.snapshotter(), store.find_loss)

    def _prover(self, directory: Directory, limits: Limits, begun: Begun) -> Prover:
        configuration = self.configuration
        return Prover(
            directory=directory,
            limits=limits,
            claims=Claims(begun.claim_key),
            sessions=Sessions(begun.session_key),
            rings=ReplayRings(),
            authorities=Authorities(configuration.authority),
            strict=configuration.auth == "strict",
            started_s=self.proofs_from_s,
            steady_ahead_s=self.clock.wall_s() - self.clock.monotonic_s(),
            renews=lambda: directory.may_change(),
        )

    def new_request_id(self) -> str:
        """Return an id for a request without one."""
        return self.entropy(REQUEST_ID_BYTES).hex()


def descriptors_needed(connections_max: int, probes_max: int) -> int:
    """Return how many descriptors a server with so many connections and probes needs."""
    return connections_max + probes_max + DESCRIPTORS_BESIDE


def room(descriptors_max: int, connections_max: int, probes_max: int) -> int:
    """Return how many connections fit into `descriptors_max` descriptors, at least one."""
    left = descriptors_max - descriptors_needed(0, probes_max)
    # If the others need nearly all descriptors, connections get a quarter.
    return max(1, min(connections_max, max(left, descriptors_max // 4)))


def make_room(limits: EngineLimits, probes_max: int) -> EngineLimits:
    """Raise the limit of open descriptors as far as `limits` need and the system permits.

    Return `limits`. If the system permits less, log that and return limits with fewer connections.
    """
    wanted = descriptors_needed(limits.connections_max, probes_max)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _finite(soft) < min(wanted, _finite(hard)):
        # Some systems refuse this; then the present limit counts.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, _finite(hard)), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections_max = room(_finite(soft), limits.connections_max, probes_max)
    if connections_max == limits.connections_max:
        return limits
    log.warning(
        "the system allows %d open files, and %d connections need %d: no more than %d connections are "
        "accepted; raise the limit (LimitNOFILE of the unit, ulimit -n) or lower OPENRED_CONNECTIONS_MAX",
        soft,
        limits.connections_max,
        wanted,
        connections_max,
    )
    return replace(
        limits,
        connections_max=connections_max,
        connections_per_address_max=min(limits.connections_per_address_max, connections_max),
    )


def _finite(limit: int) -> int:
    """Return `limit`, or a number larger than any need if there is no limit."""
    return 2**31 if limit == resource.RLIM_INFINITY else limit

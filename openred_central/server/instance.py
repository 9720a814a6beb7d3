"""One instance of a cluster: a process that follows or leads, and changes its role without a restart.

A follower answers from its copy of the directory. The leader is a server on the shared database, which feeds
the others. Each new role loads the directory anew, from the leader or from the database, while the former
copy still answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple

from .. import __version__
from ..api.caller.limiting import Handler
from ..api.endpoint import Endpoint
from ..api.feed.event_log import EventLog, FollowingFeed
from ..api.handing_on import handing_on
from ..api.routes import install
from ..api.service import Api
from ..api.wire.cluster import ClusterFigures, InstanceFigures
from ..clock import AttendedTime
from ..cluster.forwarding import Forwarder
from ..cluster.leadership import Leadership
from ..cluster.lease import Role, lease_times
from ..cluster.link import LINK_PROTOCOL, Kind, Link, LinkBroken, read_json
from ..cluster.listening import ClusterListener
from ..cluster.replica import Replica
from ..cluster.ways import HTTP_PROTOCOL, InstanceWay
from ..directory.carrying import later_signs
from ..directory.directory import Directory
from ..directory.following import Following
from ..directory.merging import Merger
from ..listening import StartError
from ..reporting.metrics import follower_metrics_text
from ..reporting.traffic import of_worker, read_traffic
from ..security.cluster_credentials import ClusterCredentials
from ..settings.config import Configuration
from ..storage.postgres.leasing import LeaseRow, RolledBack
from ..storage.store import NotLeading, PassingError, StoreError
from ..tasks.notifier import Notifier
from ..tasks.periodic import in_thread
from ..tasks.stall_meter import StallMeter
from .assembly import Assembly, log_unserved
from .follower import Follower
from .lead import Lead
from .leader_front import LeaderFront
from .operators import Operators, follower_desk, start_operators
from .public import Public
from .sharing import key_secrets, shared_store
from .signals import ignore_signals, on_signal
from .vault import open_vault

log = logging.getLogger("openred.cluster")

# Signs of life wait half as long here as they do with the leader.
FLUSHES_PER_INTERVAL: Final = 2
# The leader is tried again after so long, and answers a new link within so long.
RETRY_S: Final = 0.1
LINK_TIMEOUT_S: Final = 2.0
# Without a word of a leader, time runs on here for two of these.
TICK_S: Final = 1.0


class Standing(NamedTuple):
    """The copy of the directory that answers at present, and its clock."""

    directory: Directory
    attended: AttendedTime


class _NoLeader:
    """The leader, as the endpoints see it between two roles."""

    run = ""
    seq = 0
    waiting = 0

    def __init__(self, forwarder: Forwarder) -> None:
        self.answer = forwarder.answer

    async def reached(self, seq: int, timeout_s: float) -> bool:
        return False


class Instance:
    """One instance, from its start to its stop."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._assembly = Assembly.here(configuration)
        self._clock = self._assembly.clock
        self._stop = asyncio.Event()
        # The role, the leader, or the wish to stop may be another.
        self._changed = asyncio.Event()
        self._notifier = Notifier(os.environ, os.getpid(), lambda: self._status())
        self._public = Public(self._assembly)
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._standing: Standing | None = None
        self._following: Following | None = None
        self._front: LeaderFront | None = None
        self._replica: Replica | None = None
        self._told: dict[str, Any] = {}
        self._operators: Operators | None = None
        self._went_back = False
        self._failure: StoreError | None = None
        self.was_ready = False
        self._all_saved = True

    async def run(self) -> bool:
        """Start, serve until a signal, stop. Return whether everything was saved.

        Raises `StartError` or `StoreError` if it cannot start.
        """
        self._catch_signals()
        self._notifier.loading()
        configuration = self._configuration
        secrets = key_secrets(configuration)
        credentials = ClusterCredentials(secrets[0], secrets[1:])
        self._link_context = credentials.client_context(LINK_PROTOCOL)
        self._http_context = credentials.client_context(HTTP_PROTOCOL)
        self._forwarder = Forwarder(
            None, self._assembly.client(), self._assembly.new_request_id, self._clock.monotonic_s
        )
        self._listener = ClusterListener(credentials, self._serve_link, self._clock.monotonic_s)
        self._store = await in_thread(self._loader, shared_store, self._assembly, secrets)
        try:
            addresses = self._listen()
            self._own_way = self._way(addresses[0])
            self._who = {
                "name": configuration.instance or socket.gethostname().lower(),
                "url": configuration.cluster_url or addresses[0],
                "version": __version__,
            }
            self._leadership = Leadership(
                self._store,
                self._clock,
                lease_times(configuration.lease_s),
                may_lead=configuration.may_lead,
                leader=self._who,
                is_behind=lambda seq: self._following is not None and self._following.seq < seq,
                changed=self._changed.set,
                rolled_back=self._rolled_back,
            )
            await self._live()
        finally:
            await self._end()
        if self._failure is not None:
            raise self._failure
        return self._all_saved

    def _listen(self) -> list[str]:
        configuration = self._configuration
        try:
            return self._listener.start(configuration.cluster_host, configuration.cluster_port)
        except OSError as error:
            raise StartError(
                f"cannot listen for other instances: {error.strerror or error}; choose another "
                "OPENRED_CLUSTER_HOST or OPENRED_CLUSTER_PORT"
            ) from error

    async def _live(self) -> None:
        """Follow and lead, until the process stops."""
        watching = asyncio.create_task(self._leadership.run())
        notifying = asyncio.create_task(self._notifier.run())
        try:
            while not self._stop.is_set():
                if watching.done():
                    watching.result()
                await (self._follow() if self._leadership.role is Role.FOLLOWER else self._lead())
        finally:
            watching.cancel()
            notifying.cancel()
            await asyncio.gather(watching, notifying, return_exceptions=True)
            with contextlib.suppress(StoreError):
                await self._leadership.goodbye()

    async def _end(self) -> None:
        self._notifier.ending()
        ignore_signals()
        self._forwarder.close()
        await self._listener.close()
        await self._public.engine.drain()
        with contextlib.suppress(StoreError):
            await in_thread(self._loader, self._store.close)
        self._loader.shutdown(wait=False)
        self._notifier.close()

    def _catch_signals(self) -> None:
        def stop() -> None:
            self._stop.set()
            self._changed.set()

        on_signal(stop)
        on_signal(self._public.renew_tls, [signal.SIGHUP])

    async def _until(self, done: Callable[[], bool]) -> None:
        """Wait until `done`, or this process is to stop."""
        while not (self._stop.is_set() or done()):
            self._changed.clear()
            await self._changed.wait()

    @property
    def _follows(self) -> bool:
        return self._leadership.role is Role.FOLLOWER and not self._stop.is_set()

    def _way(self, url: str) -> InstanceWay:
        host, _, port = url.rpartition(":")
        return InstanceWay(host.strip("[]"), int(port), self._http_context)

    def _leader(self) -> LeaseRow | None:
        """Return the row of another instance that leads; None while none does."""
        row = self._leadership.row
        return row if row is not None and row.holder not in ("", self._store.run) else None

    def _status(self) -> str:
        return self._leadership.role.value

    def _cluster(self) -> ClusterFigures:
        """Return the figures of the cluster, as this instance knows it."""
        leadership, now_s, front = self._leadership, self._clock.elapsed_s(), self._front
        row, role = leadership.row, leadership.role
        name, leads = self._who["name"], role in (Role.LEADER, Role.WITHOUT_LEASE)
        confirmed_s = max(0.0, now_s - self._store.confirmed_s) if leads else None
        others = front.instances() if front is not None else ()
        return ClusterFigures(
            instance=name,
            role=_wire(role),
            term=row.term if row else 0,
            leader=str(row.leader.get("name")) if row and row.holder else None,
            seq=front.seq if front is not None else self._following.seq if self._following else 0,
            behind_s=self._replica.behind_s if self._replica and not leads else 0.0,
            confirmed_s=confirmed_s,
            instances=(InstanceFigures(name, _wire(role), 0.0), *others) if leads else (),
        )

    # The role of a follower.

    async def _follow(self) -> None:
        """Follow others that lead, one after another, until this instance leads."""
        said = ""
        while self._follows:
            leader = self._leader()
            if leader is None:
                self._forwarder.retarget(None)
                await self._until(lambda: not self._follows or self._leader() is not None)
                continue
            try:
                await self._follow_one(leader)
            except (LinkBroken, TimeoutError) as error:
                line = f"{leader.leader.get('name')} leads, and cannot be followed: {error or 'no answer'}"
                if line != said:
                    log.warning("%s", line)
                said = line
                await asyncio.sleep(RETRY_S)
        self._forwarder.retarget(None)
        operators, self._operators = self._operators, None
        if operators is not None:
            await operators.drain()

    async def _follow_one(self, leader: LeaseRow) -> None:
        """Follow `leader` until another instance leads or this one stops. Raise `LinkBroken`."""
        way = self._way(str(leader.leader["url"]))
        link = await Link.to(way.host, way.port, self._link_context, LINK_TIMEOUT_S)

        def is_over() -> bool:
            present = self._leader()
            return not self._follows or present is None or present.holder != leader.holder

        ending = asyncio.create_task(self._until(is_over))
        following = asyncio.create_task(self._follow_over(link, way))
        try:
            await asyncio.wait([ending, following], return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            elif self._stop.is_set():
                await self._leave(link)
        finally:
            ending.cancel()
            following.cancel()
            await asyncio.gather(ending, following, return_exceptions=True)
            link.abort()

    async def _follow_over(self, link: Link, way: InstanceWay) -> None:
        """Follow the leader at the other end of `link`, until cancelled. Raise `LinkBroken`."""
        link.tell(Kind.JOIN, self._who)
        async with asyncio.timeout(LINK_TIMEOUT_S):
            hello = read_json(*await link.receive())
        self._told = hello["told"]
        if self._following is None:
            attended = AttendedTime(self._clock, attended_s=self._told["attended_s"], tick_s=TICK_S)
            following = Following(self._assembly.directory())
        else:
            assert self._standing is not None
            following, attended = self._following, self._standing.attended
        feed = FollowingFeed(EventLog(hello["events"]))
        replica = Replica(
            link,
            following,
            attended,
            self._clock,
            flush_s=self._configuration.flush_interval_s / FLUSHES_PER_INTERVAL,
            ticked=self._take_told,
            events=feed.receive,
            renew=lambda: None,
        )
        self._replica = replica
        await replica.load()
        if self._following is None:
            self._carry_to_follower(following)
            self._standing, self._following = Standing(following.directory, attended), following
        feed.tick(self._clock.wall_s())
        await self._serve_as_follower(hello, replica, following.directory, attended, feed, way)

    async def _serve_as_follower(
        self,
        hello: dict[str, Any],
        replica: Replica,
        directory: Directory,
        attended: AttendedTime,
        feed: FollowingFeed,
        way: InstanceWay,
    ) -> None:
        follower = Follower(
            *(self._assembly, hello, replica, directory, attended, feed),
            told=lambda: self._told,
            started_s=self._clock.monotonic_s(),
            steady_ahead_s=self._clock.wall_s() - self._clock.monotonic_s(),
            subscribers_max=self._configuration.events_subscribers_max,
            stopping=self._stop.is_set,
            cluster=self._cluster,
        )
        since_s = attended.now().attended_s
        self._forwarder.retarget(way)
        addresses = await self._public.serve(lambda: follower.install(self._public.engine, self._forwarder))
        self._announce(f"follows, {len(directory)} nodes", addresses)
        stalls = StallMeter(self._clock)
        await self._serve_operators(follower, replica, stalls)
        replica.ready(since_s)
        works = (replica.run, replica.deliver, follower.broadcast.run, stalls.run)
        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(work())
        except* LinkBroken as errors:
            raise errors.exceptions[0] from None
        finally:
            follower.broadcast.stop()

    async def _serve_operators(self, follower: Follower, replica: Replica, stalls: StallMeter) -> None:
        """Serve operators as a follower. Raises `StartError`."""
        api = follower.api

        def metrics() -> bytes:
            traffic = read_traffic(self._public.engine, follower.broadcast, stalls, api.limits.refusals)
            return follower_metrics_text(
                api.directory,
                of_worker(traffic, self._forwarder.outcomes, replica.lag),
                self._clock.monotonic_s() - self._assembly.started_s,
                self._public.certificate,
                self._cluster(),
            )

        desk = follower_desk(api, metrics)
        if self._operators is None:
            self._operators = self._assembly.operators()
            await start_operators(self._operators, desk)
        else:
            self._operators.exchange(desk)

    async def _leave(self, link: Link) -> None:
        """Answer what is in flight, and hand over the last signs of life."""
        cut = await self._public.engine.drain()
        with contextlib.suppress(LinkBroken):
            if self._replica is not None:
                await self._replica.flush()
                self._replica.drained(cut)
            await link.close()

    def _carry_to_follower(self, following: Following) -> None:
        if self._standing is not None:
            later = later_signs(self._standing.directory.nodes.registry, following.directory.nodes.registry)
            following.take_signs(later)
            for slot in later.slots:
                following.directory.nodes.changes.heard.add(slot)

    def _take_told(self, told: dict[str, Any]) -> None:
        self._told = told
        if self._replica is not None:
            self._replica.report({"seq": self._replica.seq})

    # The role of the leader.

    async def _lead(self) -> None:
        """Load the directory from the database, and lead until another instance does or this one stops."""
        try:
            await self._lead_term()
        except NotLeading as error:
            log.warning("another instance leads: %s", error)
        except PassingError as error:
            if not self.was_ready:
                raise
            log.warning("cannot lead now: %s", error)
            await asyncio.sleep(RETRY_S)
        finally:
            self._front = None
            self._catch_signals()

    async def _lead_term(self) -> None:
        assembly = Assembly.here(self._configuration)
        directory, attended = await in_thread(self._loader, assembly.load, self._store)
        self._go_on(attended)
        log_unserved(directory, self._store.location)
        row, term = self._leadership.row, self._leadership.term
        if row is None or term is None:
            return
        front = LeaderFront(
            assembly,
            self._public,
            self._listener,
            self._leadership,
            run=row.lineage.replace("-", ""),
            seq=self._store.seq,
            stopping=self._stop.is_set,
            answering=partial(self._answer_as_leader, term),
            cluster=self._cluster,
            resume=self._between_roles,
        )
        await in_thread(self._loader, self._store.seal_again)
        writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        vault = open_vault(self._configuration, self._clock, os.urandom, self._store, writer)
        stop = asyncio.Event()
        lead = Lead(assembly, front, Notifier({}, os.getpid(), str), stop)
        self._carry_to_leader(directory, attended)
        self._standing, self._following, self._front = Standing(directory, attended), None, front
        watching = [asyncio.create_task(each) for each in (self._end_term(lead, stop), self._repair(lead))]
        try:
            end = await lead.serve(directory, attended, None, self._store, writer, vault)
            self._all_saved = end.all_saved
        finally:
            for task in watching:
                task.cancel()
            front.close()
            vault.close()
            writer.shutdown(wait=False)

    def _go_on(self, attended: AttendedTime) -> None:
        """Let time go on from the latest that any leader is known to have told."""
        told_s = self._leadership.attended_s
        if self._standing is not None:
            told_s = max(told_s, self._standing.attended.now().attended_s)
        if told_s > attended.now().attended_s:
            attended.follow(told_s, attending=True)

    def _answer_as_leader(self, term: int) -> None:
        self._leadership.caught_up(term)
        # Requests that wait for a leader find this one.
        self._forwarder.retarget(self._own_way)

    async def _end_term(self, lead: Lead, stop: asyncio.Event) -> None:
        await self._until(lambda: self._leadership.role is Role.FOLLOWER)
        if self._stop.is_set():
            stop.set()
        else:
            lead.abandon()

    async def _repair(self, lead: Lead) -> None:
        """Write again what the database has lost, each time that it went back, until cancelled."""
        while True:
            await self._until(lambda: self._went_back)
            if self._stop.is_set():
                return
            self._went_back = False
            try:
                await lead.write_again(self._store, self._loader)
            except StoreError as error:
                log.warning("cannot read what the database has lost: %s", error)
                self._went_back = True
                await asyncio.sleep(RETRY_S)

    def _carry_to_leader(self, directory: Directory, attended: AttendedTime) -> None:
        if self._standing is not None:
            nodes = directory.nodes
            later = later_signs(self._standing.directory.nodes.registry, nodes.registry)
            Merger(directory).merge(later, nodes.changes.last, attended.now())

    async def _serve_link(self, link: Link) -> None:
        if self._front is not None:
            await self._front.serve_link(link)

    def _between_roles(self, api: Api) -> Callable[[], None]:
        """Return what serves the endpoints of a former leader until it follows."""
        leader = _NoLeader(self._forwarder)

        def wrap(endpoint: Endpoint, handler: Handler) -> Handler:
            return handing_on(endpoint, api, handler, leader)

        return lambda: install(self._public.engine, api, wrap)

    def _rolled_back(self, error: RolledBack) -> None:
        """Have written again what a database that went back has lost, or end this process."""
        if error.common_s is None:
            self._failure = StoreError(
                f"{error}, which this instance never saw: it writes nothing there; if that database is the "
                "right one, `openred-central cluster accept-database` takes it as it is"
            )
            self._stop.set()
        self._went_back = True
        self._changed.set()

    def _announce(self, does: str, addresses: list[str]) -> None:
        log.info("ready: %s, listening on %s", does, ", ".join(addresses))
        if not self.was_ready:
            self.was_ready = True
            self._notifier.ready()


def _wire(role: Role) -> str:
    """Return the word for `role` in answers."""
    return role.name.lower()

"""The public listeners of an instance that leads its cluster, and its port for the other instances."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from ..api.admin.admission import ClusterDesk
from ..api.caller.limiting import Handler
from ..api.confirming import confirming, strict
from ..api.endpoint import Endpoint
from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import EventFeed
from ..api.handing_on import numbering
from ..api.routes import install
from ..api.service import Api
from ..api.wire.cluster import FOLLOWER, MISSING, ClusterFigures, InstanceFigures
from ..clock import AttendedTime
from ..cluster.followers import Followers
from ..cluster.hub import Member
from ..cluster.leadership import Leadership
from ..cluster.link import Kind, Link, LinkBroken, read_json
from ..cluster.listening import ClusterListener
from ..directory.directory import CLUSTER, Directory
from ..directory.state.changes import Batch
from ..directory.state.kept import UNUSABLE
from ..directory.state.signs import SignColumns
from ..listening import Certificate
from ..micro_engine.engine import Engine
from ..micro_engine.limits import EngineLimits
from ..reporting.traffic import Served, Sums, Traffic, read_served, read_traffic
from ..tasks.stall_meter import StallMeter
from .assembly import Assembly
from .feeding import Feeding
from .front import Figures, Work
from .public import Public

log = logging.getLogger("openred.cluster")

# An instance that connects says who it is within so long.
JOIN_TIMEOUT_S: Final = 3.0
JOIN_BYTES_MAX: Final = 4_096
# An answer waits so long for a word of the database.
CONFIRM_TIMEOUT_S: Final = 3.0
INSTANCES_MAX: Final = 64
# One is in use; others wait for late answers.
CONNECTIONS_PER_INSTANCE: Final = 8
# An answer waits so long for other instances to know what it reports.
SPREAD_TIMEOUT_S: Final = 1.0
# Before the names of followers, in the log.
PREFIX: Final = "instance "
# The name under which the store keeps what is known of the followers.
FOLLOWERS: Final = f"{CLUSTER}/followers"


class LeaderFront:
    """A `Front` for one term. `seq` is the number of the last commit before it, `run` names the numbers.

    `who` describes this instance, and names its run. Other instances reach this one by `listener`.
    `answering` is called once it answers there; `resume` returns what serves `public` after this term;
    `cluster` returns the figures of the cluster.
    """

    workers: Sums | None = None

    def __init__(
        self,
        assembly: Assembly,
        public: Public,
        listener: ClusterListener,
        leadership: Leadership,
        *,
        who: Mapping[str, str],
        run: str,
        seq: int,
        stopping: Callable[[], bool],
        answering: Callable[[], None],
        cluster: Callable[[], ClusterFigures],
        resume: Callable[[Api], Callable[[], None]],
        cluster_desk: ClusterDesk,
    ) -> None:
        self._assembly = assembly
        self._clock = assembly.clock
        self._public = public
        self._listener = listener
        self._leadership = leadership
        self._who = who
        self._run = run
        self._first_seq = seq
        self._stopping = stopping
        self._answering = answering
        self._cluster = cluster
        self._resume = resume
        self.cluster_desk: ClusterDesk | None = cluster_desk
        self.limits = assembly.configuration.limits()
        # All that follow, with what they said of themselves.
        self._members: dict[Member, Mapping[str, str]] = {}
        self._is_attached = False
        self._ended = asyncio.Event()
        limits = EngineLimits(
            body_bytes_max=assembly.configuration.engine().body_bytes_max,
            connections_max=CONNECTIONS_PER_INSTANCE * INSTANCES_MAX,
            drain_timeout_s=assembly.configuration.drain_timeout_s,
        )
        self._engine = Engine(
            limits=limits,
            clock=self._clock,
            new_request_id=assembly.new_request_id,
            fast_path=False,
        )

    def lead(self, directory: Directory, attended: AttendedTime) -> None:
        directory.may_change = self._leadership.may_change
        self._attended = attended
        self._feeding = Feeding(
            directory,
            attended,
            self._run,
            seq=self._first_seq,
            more=lambda: {
                "settings": self._assembly.configuration.of_leader(),
                "first_seq": self._first_seq,
            },
            # Instances have no figures for the leader: each tells its own.
            reported=lambda *_: None,
        )
        self._followers = Followers(
            *(self._who["run"], self._who["name"]),
            missing_s_max=self._assembly.configuration.cluster_missing_s,
            changed=lambda: directory.nodes.kept.note(FOLLOWERS, self._followers.packed),
        )
        if (packed := directory.kept_for_others.get(FOLLOWERS)) is not None:
            try:
                self._followers.restore(packed, attended.now().attended_s)
            except UNUSABLE as error:
                log.warning("it is not known which instances followed the former leader: %s", error)
        directory.nodes.kept.note(FOLLOWERS, self._followers.packed)
        directory.expiry.may_bury = lambda: self._followers.may_bury(attended.now().attended_s)

    def on_committed(self, batch: Batch) -> None:
        self._feeding.hub.committed(batch)

    def horizon_s(self) -> float:
        now_s = self._attended.now().attended_s
        for member in self._members:
            self._heard(member, now_s)
        return self._followers.horizon_s(now_s)

    def _heard(self, member: Member, now_s: float) -> None:
        if member.through_s is None:
            return
        if self._followers.heard(self._members[member]["run"], member.through_s, now_s):
            log.warning(
                "several that live are %s: give each a name of its own by OPENRED_INSTANCE", member.name
            )

    def forget(self, name: str) -> bool:
        return self._followers.forget(name)

    def promising(self, api: Api) -> Api:
        return replace(strict(api), cluster=self._cluster, spread=self._spread)

    @property
    def seq(self) -> int:
        """The number of the last commit."""
        return self._feeding.leading.seq

    def merge(self, signs: SignColumns) -> None:
        """Take signs of life that this process heard in its former role."""
        self._feeding.take(signs)

    def instances(self) -> tuple[InstanceFigures, ...]:
        """Return the instances that follow, and those that are missing."""
        now = self._attended.now()
        following = [
            InstanceFigures(who["name"], FOLLOWER, now.monotonic_s - member.heard_s, who["version"])
            for member, who in self._members.items()
        ]
        missing = [
            InstanceFigures(absent.name, MISSING, now.attended_s - absent.since_s)
            for absent in self._followers.missing(now.attended_s)
        ]
        return (*following, *missing)

    def served(self) -> Served:
        return read_served(self._public.engine)

    def attach(
        self, api: Api, feed: EventFeed, broadcast: Broadcast, stalls: StallMeter, figures: Figures
    ) -> None:
        self._api, self._is_attached = api, True
        self._feeding.attach(api, feed, broadcast, figures)
        self._traffic = partial(read_traffic, self._public.engine, broadcast, stalls, api.limits.refusals)
        install(self._engine, api, self._wrap)

    def traffic(self) -> Traffic:
        return self._traffic()

    async def start(self, certificate: Certificate | None, stop: asyncio.Event) -> list[str]:
        addresses = await self._public.serve(lambda: install(self._public.engine, self._api, self._wrap))
        # Without listeners of its own: it has time-outs, and drains.
        await self._engine.start([])
        self._listener.answer_by(self._engine)
        self._answering()
        return addresses

    async def _spread(self) -> dict[str, bool]:
        """Wait until the others know all changes so far; tell whether all do that may still act on others."""
        known = await self._feeding.hub.known_to_all(SPREAD_TIMEOUT_S)
        linked = self._followers.all_linked(self._attended.now().attended_s)
        return {"everywhere": known and linked}

    def works(self) -> Sequence[Work]:
        return [("instances", self._tell)]

    async def serve_link(self, link: Link) -> None:
        """Take in an instance that follows, and feed it until its link ends."""
        if not self._is_attached:
            # It was quicker than this instance with its parts, and comes again.
            return
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                kind, content = await link.receive(JOIN_BYTES_MAX)
            if kind is not Kind.JOIN:
                raise LinkBroken(f"an instance began with {kind.name}, expected is JOIN")
            told = read_json(kind, content)
            who = {key: str(told[key]) for key in ("name", "run", "url", "version")}
        except (LinkBroken, TimeoutError, KeyError, TypeError) as error:
            log.warning("an instance was not taken in: %s", error or "it did not say who it is")
            return
        through_s = self._followers.joined(who["run"], who["name"])
        member = Member(PREFIX + who["name"], link, self._attended.now(), through_s)
        self._members[member] = who
        log.info(
            "%s follows, from %s: version %s, link version %d",
            *(member.name, who["url"], who["version"], link.version),
        )
        try:
            await self._feeding.hub.serve(member)
        finally:
            self._part(member)
            log.info("%s does not follow any more", member.name)

    def _part(self, member: Member) -> None:
        self._heard(member, self._attended.now().attended_s)
        run = self._members.pop(member)["run"]
        # Unless it has another link already.
        if all(other["run"] != run for other in self._members.values()):
            self._followers.parted(run, has_drained=member.has_drained)

    async def _tell(self) -> None:
        """Tell the others the time, until the end of this term."""
        telling = asyncio.create_task(self._feeding.hub.run())
        ending = asyncio.create_task(self._ended.wait())
        await asyncio.wait([telling, ending], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if telling.done():
            telling.result()
        telling.cancel()

    async def drain(self) -> int:
        """Answer what is in flight. The public engine goes on as a follower's, unless the process stops."""
        self._ended.set()
        self._listener.answer_by(None)
        if self._stopping():
            cut = await self._public.engine.drain()
            self._followers.end()
        else:
            cut = 0
            await self._public.serve(self._resume(self._api))
            # Nobody knows what becomes of requests of others that are still in a handler.
            self._engine.hurry()
        return cut + await self._engine.drain()

    def hurry(self) -> None:
        self._public.engine.hurry()
        self._engine.hurry()

    def renew_tls(self, context: ssl.SSLContext) -> None:
        self._public.engine.renew_tls(context)

    def close(self) -> None:
        for member in list(self._members):
            member.link.abort()

    def _wrap(self, endpoint: Endpoint, handler: Handler) -> Handler:
        api, leading = self._api, self._feeding.leading
        confirmed = confirming(
            endpoint,
            api,
            handler,
            lambda came_s: self._leadership.confirmed(came_s, CONFIRM_TIMEOUT_S),
            self._clock.elapsed_s,
        )
        return numbering(endpoint, api, confirmed, self._run, lambda: leading.seq)

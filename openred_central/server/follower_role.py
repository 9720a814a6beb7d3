"""The role of an instance that follows: its link to the leader, its copy of the directory, its operators."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..api.feed.event_log import EventLog, FollowingFeed
from ..api.wire.cluster import ClusterFigures
from ..clock import AttendedTime
from ..cluster.followers import GRACE_S
from ..cluster.link import SILENT_S_MAX, Kind, Link, LinkBroken, read_json
from ..cluster.replica import Replica
from ..directory.carrying import later_signs
from ..directory.following import Following
from ..reporting.metrics import follower_metrics_text
from ..reporting.traffic import of_worker, read_traffic
from ..storage.postgres.leasing import LeaseRow
from ..tasks.stall_meter import StallMeter
from .follower import Follower
from .membership import Membership, Standing, run_of
from .operators import follower_desk, start_operators

log = logging.getLogger("openred.cluster")

# Signs of life wait half as long here as they do with the leader, and never so long that it misses this one.
FLUSHES_PER_INTERVAL: Final = 2
FLUSH_S_MAX: Final = GRACE_S / 5
# The leader is tried again after so long, and answers a new link within so long.
RETRY_S: Final = 0.1
LINK_TIMEOUT_S: Final = 2.0
# Without a word of the leader, time runs on here for two of these: as long as that leader waits with all that
# happens by time, for what was heard here.
TICK_S: Final = GRACE_S / 2
WATCH_S: Final = 1.0


class FollowerRole:
    """One instance while it follows. `announce` reports that it serves, how, and at which addresses."""

    def __init__(self, membership: Membership, announce: Callable[[str, Sequence[str]], None]) -> None:
        self._membership = membership
        self._announce = announce
        self._assembly = membership.assembly
        self._clock = membership.assembly.clock
        self._public = membership.public
        self._forwarder = membership.forwarder
        self._replica: Replica | None = None
        # The name of the one that is followed.
        self._leader: str | None = None

    async def run(self) -> None:
        """Follow others that lead, one after another, until this instance leads or stops."""
        membership, said, holder = self._membership, "", ""
        while membership.follows:
            leader = membership.leader()
            if leader is None:
                self._forwarder.retarget(None)
                holder = ""
                await membership.until(lambda: not membership.follows or membership.leader() is not None)
                continue
            try:
                if leader.holder != holder:
                    # Before its copy is here: requests that were sent to the former one end, others go here.
                    self._forwarder.retarget(membership.way_to(leader))
                    holder = leader.holder
                await self._follow(leader)
            except (LinkBroken, TimeoutError) as error:
                line = f"{leader.leader.get('name')} leads, and cannot be followed: {error or 'no answer'}"
                if line != said:
                    log.warning("%s", line)
                said = line
                # It may have given the lease back.
                membership.leadership.step()
                await self._until_over(leader, RETRY_S)
        self._forwarder.retarget(None)

    async def _follow(self, leader: LeaseRow) -> None:
        """Follow `leader` until another instance leads or this one stops. Raise `LinkBroken`."""
        membership, self._leader = self._membership, str(leader.leader.get("name"))
        way = membership.way_to(leader)
        link = await Link.to(way.host, way.port, membership.link_context, LINK_TIMEOUT_S)
        ending = asyncio.create_task(self._until_over(leader))
        following = asyncio.create_task(self._follow_over(link, leader.lineage))
        try:
            await asyncio.wait([ending, following], return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            elif membership.stop.is_set():
                await self._leave(link)
        finally:
            ending.cancel()
            following.cancel()
            await asyncio.gather(ending, following, return_exceptions=True)
            link.abort()

    async def _until_over(self, leader: LeaseRow, timeout_s: float | None = None) -> None:
        """Wait until `leader` is not to be followed any more, and no longer than `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._membership.until(lambda: not self._membership.is_led_by(leader.holder))

    async def _follow_over(self, link: Link, lineage: str) -> None:
        """Follow the leader of `lineage` at the other end of `link`, until cancelled. Raise `LinkBroken`."""
        link.tell(Kind.JOIN, self._membership.who)
        async with asyncio.timeout(LINK_TIMEOUT_S):
            hello = read_json(*await link.receive())
        if hello["run"] != run_of(lineage):
            raise LinkBroken("it leads another directory, and this one would be lost here")
        self._membership.told = hello["told"]
        self._membership.compare_settings(str(self._leader), hello.get("settings", {}))
        standing = self._membership.standing
        if standing is None or standing.following is None or self._has_gone_back(hello, standing.following):
            # A leader's copy cannot follow: it may hold what was never stored. A new one shows what is lost.
            standing = self._begin()
        self._membership.followed = hello["events"]
        feed = FollowingFeed(EventLog(hello["events"]))
        replica = self._replica = Replica(
            link,
            _following(standing),
            standing.attended,
            self._clock,
            flush_s=delivery_s(self._assembly.configuration.flush_interval_s),
            ticked=self._take_told,
            events=feed.receive,
            renew=lambda: None,
        )
        await replica.load()
        self._carry_into(standing)
        feed.tick(self._clock.wall_s())
        await self._serve(hello, replica, standing, feed)

    def _has_gone_back(self, hello: dict[str, Any], following: Following) -> bool:
        """Return whether a term has begun before a commit that is here."""
        first_seq: int = hello.get("first_seq", following.seq)
        return hello["events"] != self._membership.followed and first_seq < following.seq

    def _begin(self) -> Standing:
        attended = AttendedTime(self._clock, attended_s=self._membership.told["attended_s"], tick_s=TICK_S)
        directory = self._assembly.directory()
        return Standing(directory, attended, Following(directory))

    def _carry_into(self, standing: Standing) -> None:
        """Let the copy of `standing` answer, with the signs of life that only the former one has."""
        former = self._membership.stand(standing)
        if former is not None and former is not standing:
            nodes = standing.directory.nodes
            later = later_signs(former.directory.nodes.registry, nodes.registry)
            _following(standing).take_signs(later)
            for slot in later.slots:
                nodes.changes.heard.add(slot)

    async def _serve(
        self,
        hello: dict[str, Any],
        replica: Replica,
        standing: Standing,
        feed: FollowingFeed,
    ) -> None:
        membership, now_s = self._membership, self._clock.monotonic_s()
        follower = Follower(
            *(self._assembly, hello, replica, standing.directory, standing.attended, feed),
            told=lambda: membership.told,
            started_s=now_s,
            steady_ahead_s=self._clock.wall_s() - now_s,
            subscribers_max=self._assembly.configuration.events_subscribers_max,
            stopping=membership.stop.is_set,
            cluster=self._figures,
        )
        since_s = standing.attended.now().attended_s
        addresses = await self._public.serve(lambda: follower.install(self._public.engine, self._forwarder))
        self._announce(f"follows, {len(standing.directory)} nodes", addresses)
        stalls = StallMeter(self._clock)
        await self._serve_operators(follower, replica, stalls)
        replica.ready(since_s)
        try:
            async with asyncio.TaskGroup() as group:
                streams = (follower.broadcast.run, follower.api.watching.run)
                for work in (replica.run, replica.deliver, *streams, stalls.run):
                    group.create_task(work())
                group.create_task(_until_silent(replica))
        except* LinkBroken as errors:
            raise errors.exceptions[0] from None
        finally:
            follower.api.end_streams()

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
                self._figures(),
            )

        desk = follower_desk(api, metrics, self._membership.desk)
        membership = self._membership
        if membership.operators is None:
            membership.operators = self._assembly.operators()
            await start_operators(membership.operators, desk)
        else:
            membership.operators.exchange(desk)

    async def _leave(self, link: Link) -> None:
        """Answer what is in flight, and hand over the last signs of life."""
        cut = await self._public.engine.drain()
        with contextlib.suppress(LinkBroken):
            if self._replica is not None:
                await self._replica.flush()
                self._replica.drained(cut)
            await link.close()

    def _take_told(self, told: dict[str, Any]) -> None:
        self._membership.told = told

    def _figures(self) -> ClusterFigures:
        own, replica = self._membership.own_figures(), self._replica
        if replica is None:
            return own
        # The leader is heard, although this instance may not reach the database.
        leader = self._leader if replica.is_current else own.leader
        return own._replace(leader=leader, seq=replica.seq, behind_s=replica.behind_s)


async def _until_silent(replica: Replica) -> None:
    """Raise `LinkBroken` once the leader is not heard any more: a network may lose it without a word."""
    while True:
        await asyncio.sleep(SILENT_S_MAX)
        # After a pause of this process, what waits in the socket is read first.
        await asyncio.sleep(WATCH_S)
        if replica.behind_s > SILENT_S_MAX:
            raise LinkBroken(f"the leader said nothing for {SILENT_S_MAX:g} s")


def _following(standing: Standing) -> Following:
    assert standing.following is not None
    return standing.following


def delivery_s(flush_interval_s: float) -> float:
    """Return how often signs of life go to the leader, by how often that one stores them."""
    return min(flush_interval_s / FLUSHES_PER_INTERVAL, FLUSH_S_MAX)

"""The endpoints of a follower: its copy of the directory answers, or the leader does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

from .. import __version__
from ..api.caller.limiting import Limits
from ..api.caller.proving import Prover
from ..api.dashboard import make_front_page
from ..api.description.openapi import documents
from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import FollowingFeed
from ..api.handing_on import handing_on
from ..api.routes import NAMES, install
from ..api.service import Api, Moments
from ..api.wire.caching import Once
from ..api.wire.cluster import ClusterFigures
from ..clock import AttendedTime
from ..cluster.forwarding import Forwarder
from ..cluster.replica import Replica
from ..directory.directory import Directory
from ..errors import InternalBug
from ..micro_engine.engine import Engine
from ..security.authority import Authorities
from ..security.sessions import Sessions
from ..storage.loading import MEMORY
from ..storage.store import StoreState
from .assembly import Assembly


class _AtTheLeader:
    """A stand-in for a part that the leader alone has: no forgotten path may use it here."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a follower has no {name}: that is for the leader")

    def __call__(self, *arguments: object, **named: object) -> NoReturn:
        raise InternalBug("a follower asked for what is for the leader")


AT_THE_LEADER: Final[Any] = _AtTheLeader()


class _Seat:
    """The leader, as the endpoints of a follower see it (`handing_on.Leader`)."""

    def __init__(self, run: str, replica: Replica, forwarder: Forwarder) -> None:
        self.run = run
        self._replica = replica
        self.reached = replica.reached
        self.answer = forwarder.answer

    @property
    def seq(self) -> int:
        return self._replica.seq

    @property
    def waiting(self) -> int:
        return self._replica.waiting


class Follower:
    """The handlers of a follower, from `replica`, whose leader said `hello` at the beginning.

    `told` returns the last word of the leader. `started_s` and `steady_ahead_s` are as in `Prover`;
    `subscribers_max` is the limit of subscribers here, `stopping` returns whether this process stops,
    `cluster` the figures of its cluster.
    """

    def __init__(
        self,
        assembly: Assembly,
        hello: dict[str, Any],
        replica: Replica,
        directory: Directory,
        attended: AttendedTime,
        feed: FollowingFeed,
        *,
        told: Callable[[], dict[str, Any]],
        started_s: float,
        steady_ahead_s: float,
        subscribers_max: int,
        stopping: Callable[[], bool],
        cluster: Callable[[], ClusterFigures | None] = lambda: None,
    ) -> None:
        self._run = hello["run"]
        self._replica = replica
        self.broadcast = Broadcast(
            feed,
            lambda: told()["figures"],
            assembly.clock.wall_s,
            subscribers_max=subscribers_max,
        )
        self.broadcast.history.restore(hello["history"])
        configuration, clock = assembly.configuration, assembly.clock
        limits = Limits(configuration.limits(), clock.monotonic_s, directory.nodes.registry)
        prover = Prover(
            directory=directory,
            limits=limits,
            claims=AT_THE_LEADER,
            sessions=Sessions(bytes.fromhex(hello["session_key"])),
            rings=AT_THE_LEADER,
            authorities=Authorities(configuration.authority),
            strict=configuration.auth == "strict",
            started_s=started_s,
            steady_ahead_s=steady_ahead_s,
            renews=lambda: replica.is_current,
        )
        self.api = Api(
            directory=directory,
            prover=prover,
            limits=limits,
            rsa_bits_min=configuration.min_rsa_bits,
            mint=AT_THE_LEADER,
            recent_tokens=AT_THE_LEADER,
            revocations=AT_THE_LEADER,
            save_revocations=AT_THE_LEADER,
            entropy=os.urandom,
            now=attended.now,
            moments=Moments(attended.now, asyncio.get_running_loop().time, directory.heartbeat_due_at),
            saved=AT_THE_LEADER,
            store_state=lambda: StoreState(told()["store"]) if replica.is_current else StoreState.DETACHED,
            store_durable=configuration.database != MEMORY,
            random=assembly.random,
            figures=AT_THE_LEADER,
            version=__version__,
            endpoints=NAMES,
            documents=Once(partial(documents, __version__)),
            front_page=Once(make_front_page),
            stopping=stopping,
            broadcast=self.broadcast,
            watching=assembly.watching(directory, attended, self.broadcast),
            fast_path=configuration.fast_path,
            forecast_public=configuration.forecast_public == "all",
            near=configuration.near or None,
            cluster=cluster,
        )

    def install(self, engine: Engine, forwarder: Forwarder) -> None:
        """Let `engine` serve every endpoint; what is for the leader goes by `forwarder`."""
        seat = _Seat(self._run, self._replica, forwarder)
        install(engine, self.api, lambda endpoint, handler: handing_on(endpoint, self.api, handler, seat))

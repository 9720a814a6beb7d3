"""Shared by the endpoints: the directory, the time, and waiting for durability."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from ..clock import Now
from ..directory.directory import Directory
from ..errors import CallerError
from ..security.tokens.revocations import RecentTokens, Revocations
from ..security.tokens.tokens import Mint
from ..storage.store import StoreState
from ..wording import rfc3339
from .caller.limiting import Limits
from .caller.proving import Prover
from .feed.broadcast import Broadcast
from .feed.watching import Watching
from .wire.caching import Recent, StaticDocument
from .wire.cluster import ClusterFigures

# Answers of ``GET /analytics``: each is made at most once in so long, and so many are kept.
ANALYSES_KEPT_S: Final = 60.0
ANALYSES_MAX: Final = 8


class Documents(NamedTuple):
    """The description of the API: `openapi` for programs, `reference` for people."""

    openapi: StaticDocument
    reference: StaticDocument


class Moment(NamedTuple):
    """One moment: `now`, and the times that an active node is sent for a sign of life, as JSON.

    `times` are the members ``last_heartbeat`` and ``next_heartbeat_due``, the end of the tolerance of a node
    that is neither held nor away.
    """

    now: Now
    times: str


class Moments:
    """The current moment, computed once a millisecond for all heartbeats in it.

    `time_s` returns another value for each millisecond, as `AbstractEventLoop.time` of uvloop does; `due_at`
    is `Directory.heartbeat_due_at`.
    """

    def __init__(
        self, now: Callable[[], Now], time_s: Callable[[], float], due_at: Callable[[Now], float]
    ) -> None:
        self._now = now
        self._time_s_of = time_s
        self._due_at = due_at
        self._time_s = time_s()
        self._moment = self._compute()

    def current(self) -> Moment:
        """Return the moment of this millisecond."""
        time_s = self._time_s_of()
        if time_s != self._time_s:
            self._time_s = time_s
            self._moment = self._compute()
        return self._moment

    def _compute(self) -> Moment:
        now = self._now()
        return Moment(now, heartbeat_times(now.wall_s, self._due_at(now)))


def heartbeat_times(heard_at: float, due_at: float) -> str:
    """Return the wall times of a sign of life and of the end of the tolerance, as members of JSON."""
    return f'"last_heartbeat":"{rfc3339(heard_at)}","next_heartbeat_due":"{rfc3339(due_at)}"'


async def _alone() -> Mapping[str, bool]:
    return {}


@dataclass(frozen=True, eq=False)
class Api:
    """The endpoints' view of the server.

    `prover` checks proofs, `limits` charges callers; `rsa_bits_min` is the least size of a node's RSA key.
    `mint` signs tokens; `recent_tokens` and `revocations` remember them; `save_revocations` waits until
    revocations are stored and returns whether they are. `entropy` returns random bytes, `random` floats in
    [0, 1). `now` reads the clocks, `moments` does so once a millisecond. `saved` waits until the change of a
    number is stored and returns whether it is; `store_state` is the state of the store, `store_durable`
    whether its content survives a restart. `figures` returns figures of other parts for ``GET /stats``;
    `endpoints` are methods and paths; `documents` describe them; `stopping` returns whether the server is
    stopping; `broadcast` serves subscribers, `watching` those of single nodes; `front_page` is the dashboard.
    The one discovery that walks over very many nodes holds `walks`; `analyses` are the recent answers of
    ``GET /analytics``. With `forecast_public`, all are told when a node usually is there. `fast_path` allows
    prepared and plain ways beside the ordinary ones. `near` is the region whose nodes come first if a
    discovery names none. `cluster` returns its figures, None if this server is in no cluster. `spread` waits
    until other instances know all changes, and returns whether they do, as members of an answer.
    """

    directory: Directory
    prover: Prover
    limits: Limits
    rsa_bits_min: int
    mint: Mint
    recent_tokens: RecentTokens
    revocations: Revocations
    save_revocations: Callable[[], Awaitable[bool]]
    entropy: Callable[[int], bytes]
    now: Callable[[], Now]
    moments: Moments
    saved: Callable[[int], Awaitable[bool]]
    store_state: Callable[[], StoreState]
    store_durable: bool
    random: Callable[[], float]
    figures: Callable[[], Mapping[str, Any]]
    version: str
    endpoints: tuple[str, ...]
    documents: Callable[[], Awaitable[Documents]]
    front_page: Callable[[], Awaitable[StaticDocument]]
    stopping: Callable[[], bool]
    broadcast: Broadcast
    watching: Watching
    fast_path: bool = True
    forecast_public: bool = False
    near: str | None = None
    cluster: Callable[[], ClusterFigures | None] = lambda: None
    spread: Callable[[], Awaitable[Mapping[str, bool]]] = field(default=_alone)
    walks: asyncio.Lock = field(default_factory=asyncio.Lock)
    analyses: Recent[Hashable] = field(default_factory=partial(Recent, ANALYSES_KEPT_S, ANALYSES_MAX))

    def status(self, status: int, *, durable: bool) -> int:
        """Return `status`, or 202 for a change that is accepted and will be on disk later."""
        return status if durable or not self.store_durable else 202

    def end_streams(self) -> None:
        """End all streams of events, and all requests that wait for a change."""
        self.broadcast.stop()
        self.watching.stop()

    def require_store(self) -> None:
        """Raise `CallerError` 503 ``store_unavailable`` while nothing can be made durable.

        Call it before a change that a crash must not undo: a lost departure would bring a node back.
        """
        if self.store_state() is StoreState.DETACHED:
            raise CallerError(
                503,
                "store_unavailable",
                "The directory cannot write to its store now, so it cannot make this change durable.",
                suggestion="Try again in a minute; reads and heartbeats still work.",
                headers=(("Retry-After", "60"),),
            )

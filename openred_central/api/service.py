"""What the endpoints share: the directory, the time, and how to wait until something is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..clock import Now
from ..directory.directory import Directory
from ..errors import CallerError
from ..security.tokens.minting import Mint
from ..security.tokens.revocations import RecentTokens, Revocations
from ..storage.sqlite.state import StoreState
from .caller.limiting import Limits
from .caller.proving import Prover
from .feed.broadcast import Broadcast
from .front_page import make_front_page
from .wire.caching import Once, Page
from .wire.moments import Moments

# The advised pace is spread by this much to either side, so that nodes do not beat in step.
ADVICE_SPREAD = 0.1
# Two heartbeats have to fit into the tolerance, whatever an operator advises.
HEARTBEATS_PER_TOLERANCE = 2
# Advice is in whole seconds, except where a life is watched in seconds.
WHOLE_ADVICE_S_MIN = 10.0


class Documents(NamedTuple):
    """The description of the API: `openapi` for programs, `reference` for people."""

    openapi: Page
    reference: Page


@dataclass(frozen=True, slots=True)
class Api:
    """The endpoints' view of the server.

    `prover` knows who is who, `limits` who asks too often; `rsa_bits_min` is the least size of a node's RSA
    key; `mint` signs tokens, `recent_tokens` and `revocations` are what is remembered of them,
    `save_revocations` waits until the latter are stored and returns whether they are; `entropy` gives so many
    random bytes; `now` tells the time, `moments` the time of signs of life; `saved` waits until a change, by
    its number, is stored and returns whether it is; `store_state` tells how the store keeps up,
    `store_durable` whether what it takes survives; `random` returns floats in [0, 1); `figures` gives what
    other parts count, for ``GET /stats``; `endpoints` are the methods and paths served, `documents` tell of
    them at length; `stopping` tells whether the server is on its way out; `broadcast` tells what happens to
    all who listen; `front_page` is the dashboard; `walks` is held by the one discovery that looks through
    very many nodes.
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
    stopping: Callable[[], bool]
    broadcast: Broadcast
    front_page: Callable[[], Awaitable[Page]] = field(default_factory=lambda: Once(make_front_page))
    walks: asyncio.Lock = field(default_factory=asyncio.Lock)
    _usual_advice_s: float = field(init=False)

    def __post_init__(self) -> None:
        directory = self.directory
        pace_s_max = directory.lifecycle.heartbeat_tolerance_s / HEARTBEATS_PER_TOLERANCE
        usual_s = min(directory.options.heartbeat_advice_s, pace_s_max / (1 + ADVICE_SPREAD))
        object.__setattr__(self, "_usual_advice_s", usual_s)

    def heartbeat_advice_s(self) -> float:
        """The pace in seconds that a node is advised this time."""
        advice_s = self._usual_advice_s * (1 + ADVICE_SPREAD * (2 * self.random() - 1))
        return round(advice_s) if advice_s >= WHOLE_ADVICE_S_MIN else max(0.001, round(advice_s, 3))

    def status(self, status: int, *, durable: bool) -> int:
        """`status`, or 202 where a change is accepted and not yet on disk, as it will be."""
        return status if durable or not self.store_durable else 202

    def require_store(self) -> None:
        """Raise `CallerError` 503 ``store_unavailable`` where nothing can be made durable at present.

        For what must not be undone by a crash: a departure that is forgotten would bring a node back.
        """
        if self.store_state() is StoreState.DETACHED:
            raise CallerError(
                503,
                "store_unavailable",
                "The directory cannot write to its store at present, so it cannot promise to remember this.",
                suggestion="Try again in a minute; reading and heartbeats go on.",
                headers=(("Retry-After", "60"),),
            )

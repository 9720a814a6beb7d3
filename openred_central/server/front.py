"""The part of a server that serves the public listeners, as the other parts see it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from ..api.admin.admission import ClusterDesk
from ..api.caller.limiting import LimitOptions
from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import EventFeed
from ..api.service import Api
from ..clock import AttendedTime
from ..directory.directory import Directory
from ..directory.state.changes import Batch
from ..listening import Certificate
from ..reporting.traffic import Served, Sums, Traffic
from ..tasks.stall_meter import StallMeter

# The name of a background task, and the task.
Work = tuple[str, Callable[[], Awaitable[None]]]
Figures = Callable[[], Mapping[str, Any]]


class Front(Protocol):
    """The server of the public listeners: this process, as `Alone`, or workers that it leads, as `Crew`.

    `limits` are those of callers whose requests reach this process. `workers` has the figures of the workers,
    `on_committed` is as in `Saver`; `cluster_desk` is for operators of a cluster.
    """

    limits: LimitOptions
    workers: Sums | None
    cluster_desk: ClusterDesk | None

    @property
    def on_committed(self) -> Callable[[Batch], None] | None: ...

    def lead(self, directory: Directory, attended: AttendedTime) -> None:
        """Take the directory before it changes."""

    def horizon_s(self) -> float:
        """Return up to when all signs of life are here, in attended seconds."""

    def forget(self, name: str) -> bool:
        """Wait no more for an instance that is away; return whether one of that name was."""

    def promising(self, api: Api) -> Api:
        """Return `api` with the promises that this front can keep."""

    def served(self) -> Served:
        """Return the figures of the public engines."""

    def attach(
        self, api: Api, feed: EventFeed, broadcast: Broadcast, stalls: StallMeter, figures: Figures
    ) -> None:
        """Take what the endpoints need; `figures` are those of the event of that name."""

    async def start(self, certificate: Certificate | None, stop: asyncio.Event) -> list[str]:
        """Serve, and return the addresses. A start that takes long ends with `stop`. Raises `StartError`."""

    def traffic(self) -> Traffic:
        """Return the figures of all requests."""

    def works(self) -> Sequence[Work]:
        """Return the background tasks."""

    async def drain(self) -> int:
        """Answer the requests in flight, and stop. Return how many connections were cut."""

    def hurry(self) -> None:
        """Wait no longer for requests in flight."""

    def renew_tls(self, context: ssl.SSLContext) -> None:
        """Serve new connections with another certificate."""

    def close(self) -> None:
        """Release what is left after `drain`, or after a failed start."""

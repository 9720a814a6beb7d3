"""The public listeners of a server of one process."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable, Sequence
from functools import partial

from ..api.admin.admission import ClusterDesk
from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import EventFeed
from ..api.routes import install
from ..api.service import Api
from ..clock import AttendedTime
from ..directory.directory import Directory
from ..directory.state.changes import Batch
from ..listening import Certificate
from ..reporting.traffic import Served, Sums, Traffic, read_served, read_traffic
from ..tasks.stall_meter import StallMeter
from .assembly import Assembly
from .front import Figures, Work


class Alone:
    """A `Front` of one process, which does it all."""

    workers: Sums | None = None
    cluster_desk: ClusterDesk | None = None
    on_committed: Callable[[Batch], None] | None = None

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self.engine = assembly.engine()
        self.limits = assembly.configuration.limits()

    def lead(self, directory: Directory, attended: AttendedTime) -> None: ...

    def horizon_s(self) -> float:
        return math.inf

    def forget(self, name: str) -> bool:
        return False

    def promising(self, api: Api) -> Api:
        return api

    def served(self) -> Served:
        return read_served(self.engine)

    def attach(
        self, api: Api, feed: EventFeed, broadcast: Broadcast, stalls: StallMeter, figures: Figures
    ) -> None:
        install(self.engine, api)
        self._traffic = partial(read_traffic, self.engine, broadcast, stalls, api.limits.refusals)

    def traffic(self) -> Traffic:
        return self._traffic()

    async def start(self, certificate: Certificate | None, stop: asyncio.Event) -> list[str]:
        context = certificate.context if certificate else None
        return await self.engine.start(self._assembly.listeners(), tls=context)

    def works(self) -> Sequence[Work]:
        return ()

    async def drain(self) -> int:
        return await self.engine.drain()

    def hurry(self) -> None:
        self.engine.hurry()

    def renew_tls(self, context: ssl.SSLContext) -> None:
        self.engine.renew_tls(context)

    def close(self) -> None: ...

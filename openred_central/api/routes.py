"""The table of public endpoints. Each is declared in the module of its handler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..micro_engine.engine import Engine
from . import (
    analysing,
    dashboard,
    discovering,
    events,
    granting,
    heartbeating,
    nodes,
    registering,
    status,
    vouching,
)
from .caller.blocking import unblocked
from .caller.limiting import Handler
from .endpoint import Endpoint
from .service import Api

# Enough for every registration: a key of 4 KiB, metadata of 4 KiB, services and endpoints.
RECORD_BYTES_MAX = 64 * 1024

ENDPOINTS: tuple[Endpoint, ...] = (
    *(dashboard.ROOT, dashboard.DASHBOARD),
    *(registering.REGISTER, heartbeating.HEARTBEAT, discovering.DISCOVER),
    *(nodes.GET_NODE, nodes.DELETE_NODE, registering.CHANGE_KEY, nodes.LOOKUP),
    *(granting.GRANT, vouching.VERIFY, vouching.REVOKE, vouching.KEYS),
    *(status.STATS, analysing.ANALYTICS, events.EVENTS),
    *(status.LIVE, status.READY, status.HEALTH, status.LEADS),
    *(status.OPENAPI, status.REFERENCE),
)

# Supervisors are answered from any network: they would restart a server that seems dead.
HEALTH_CHECKS = (status.LIVE, status.READY, status.HEALTH, status.LEADS)
NAMES = tuple(endpoint.label for endpoint in ENDPOINTS)


# Takes an endpoint and its handler, and returns the handler that serves it.
Wrap = Callable[[Endpoint, Handler], Handler]


def install(engine: Engine, api: Api, wrap: Wrap = lambda _, handler: handler) -> None:
    """Let `engine` serve every endpoint, each by what `wrap` makes of its handler."""
    for endpoint in ENDPOINTS:
        handler: Handler = partial(endpoint.handler, api)
        if endpoint.limit is not None:
            handler = api.limits.limited(endpoint.limit, handler)
        if endpoint not in HEALTH_CHECKS:
            handler = unblocked(handler, api.directory.blocking.blocks, api.limits)
        handler = wrap(endpoint, handler)
        options: dict[str, Any] = {}
        if endpoint.body:
            options |= {"body": "json", "body_bytes_max": RECORD_BYTES_MAX}
        if endpoint.prepare is not None:
            options["prepare"] = partial(endpoint.prepare, api)
        for path in (endpoint.path, *endpoint.aliases):
            engine.route(path, [endpoint.method], **options)(handler)

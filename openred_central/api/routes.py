"""The table of endpoints: which coroutine answers which method and path."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from ..micro_engine.engine import Engine
from ..micro_engine.messages import Response, StreamingResponse
from . import discovering, events, heartbeating, nodes, registering, status
from .service import Api

# No registration or heartbeat needs more: a key of 4 KiB, metadata of 4 KiB, services and endpoints.
RECORD_BYTES_MAX = 64 * 1024


class Endpoint(NamedTuple):
    """One row: `aliases` are older paths that lead to the same place."""

    method: str
    path: str
    handler: Callable[..., Coroutine[Any, Any, Response | StreamingResponse]]
    aliases: tuple[str, ...] = ()
    body_bytes_max: int | None = None


ENDPOINTS = (
    Endpoint("GET", "/", status.welcome),
    Endpoint("POST", "/register", registering.register, ("/api/v3/nodes/register",), RECORD_BYTES_MAX),
    Endpoint("POST", "/heartbeat/{node_id}", heartbeating.heartbeat, (), RECORD_BYTES_MAX),
    Endpoint("GET", "/discover", discovering.discover, ("/api/v3/nodes/discover",)),
    Endpoint("GET", "/nodes/{node_id}", nodes.get_node),
    Endpoint("DELETE", "/nodes/{node_id}", nodes.delete_node),
    Endpoint("POST", "/lookup", nodes.lookup, (), RECORD_BYTES_MAX),
    Endpoint("GET", "/stats", status.stats),
    Endpoint("GET", "/events", events.events),
    Endpoint("GET", "/health/live", status.live),
    Endpoint("GET", "/health/ready", status.ready),
    Endpoint("GET", "/health", status.ready, ("/api/v3/health",)),
)

NAMES = tuple(f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS)


def install(engine: Engine, api: Api) -> None:
    """Let `engine` serve every endpoint."""
    for endpoint in ENDPOINTS:
        handler = partial(endpoint.handler, api)
        for path in (endpoint.path, *endpoint.aliases):
            engine.route(path, [endpoint.method], body_bytes_max=endpoint.body_bytes_max)(handler)

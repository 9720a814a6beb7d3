"""The table of endpoints: which coroutine answers which method and path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..micro_engine.engine import Engine
from ..micro_engine.router import Answer, BodyKind
from ..micro_engine.wire.messages import Request, Response
from . import (
    dashboard,
    discovering,
    documenting,
    events,
    fast_heartbeat,
    heartbeating,
    nodes,
    registering,
    status,
)
from .caller.limiting import Handler
from .service import Api

# No registration or heartbeat needs more: a key of 4 KiB, metadata of 4 KiB, services and endpoints.
RECORD_BYTES_MAX = 64 * 1024


class Endpoint(NamedTuple):
    """One row.

    `aliases` are older paths that lead to the same place, `limit` is the policy by address, `body` and
    `prepare` as in `Router.add`.
    """

    method: str
    path: str
    handler: Handler
    aliases: tuple[str, ...] = ()
    body_bytes_max: int | None = None
    limit: str | None = None
    body: BodyKind | None = None
    prepare: Callable[[Api, Request], Answer | None] | None = None


# What a directory may never be asked for is imported when it is: a start is 5 ms shorter, and 0.5 MB smaller.


async def _change_key(api: Api, request: Request, node_id: str) -> Response:
    from .changing_keys import change_key

    return await change_key(api, request, node_id)


async def _grant(api: Api, request: Request) -> Response:
    from .granting import grant

    return await grant(api, request)


async def _verify(api: Api, request: Request) -> Response:
    from .vouching import verify

    return await verify(api, request)


async def _revoke(api: Api, request: Request) -> Response:
    from .vouching import revoke

    return await revoke(api, request)


async def _keys(api: Api, request: Request) -> Response:
    from .vouching import keys

    return await keys(api, request)


ENDPOINTS = (
    Endpoint("GET", "/", dashboard.root),
    Endpoint("GET", "/dashboard", dashboard.dashboard),
    Endpoint(
        "POST", "/register", registering.register, ("/api/v3/nodes/register",), RECORD_BYTES_MAX, "register"
    ),
    Endpoint(
        "POST",
        "/heartbeat/{node_id}",
        heartbeating.heartbeat,
        (),
        RECORD_BYTES_MAX,
        prepare=fast_heartbeat.prepare,
    ),
    Endpoint("GET", "/discover", discovering.discover, ("/api/v3/nodes/discover",), limit="discover"),
    Endpoint("GET", "/nodes/{node_id}", nodes.get_node, limit="discover"),
    Endpoint("DELETE", "/nodes/{node_id}", nodes.delete_node, (), RECORD_BYTES_MAX, body="json"),
    Endpoint("POST", "/nodes/{node_id}/key", _change_key, (), RECORD_BYTES_MAX),
    Endpoint("POST", "/lookup", nodes.lookup, (), RECORD_BYTES_MAX, "discover"),
    Endpoint("POST", "/security/token", _grant, ("/api/v3/tokens/request",), RECORD_BYTES_MAX),
    Endpoint("POST", "/security/verify", _verify, (), RECORD_BYTES_MAX),
    Endpoint("POST", "/security/revoke", _revoke, (), RECORD_BYTES_MAX),
    Endpoint("GET", "/security/keys", _keys),
    Endpoint("GET", "/stats", status.stats),
    Endpoint("GET", "/events", events.events),
    Endpoint("GET", "/health/live", status.live),
    Endpoint("GET", "/health/ready", status.ready),
    Endpoint("GET", "/health", status.ready, ("/api/v3/health",)),
    Endpoint("GET", "/openapi.json", documenting.openapi),
    Endpoint("GET", "/docs", documenting.reference),
)

NAMES = tuple(f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS)


def install(engine: Engine, api: Api) -> None:
    """Let `engine` serve every endpoint."""
    for endpoint in ENDPOINTS:
        handler: Handler = partial(endpoint.handler, api)
        if endpoint.limit is not None:
            handler = api.limits.limited(endpoint.limit, handler)
        for path in (endpoint.path, *endpoint.aliases):
            route = engine.route(
                path,
                [endpoint.method],
                body=endpoint.body,
                body_bytes_max=endpoint.body_bytes_max,
                prepare=None if endpoint.prepare is None else partial(endpoint.prepare, api),
            )
            route(handler)

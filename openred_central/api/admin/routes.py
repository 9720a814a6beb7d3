"""The table of the operators' endpoints, none of which the public listener answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from ...micro_engine.engine import Engine
from ...micro_engine.wire.messages import Request, Response
from . import acting, listing
from .admission import Admission
from .desk import Desk


class AdminEndpoint(NamedTuple):
    """One row: `action` is what the audit log calls it."""

    method: str
    path: str
    handler: Callable[..., Coroutine[Any, Any, Response]]
    action: str


METRICS = AdminEndpoint("GET", "/metrics", acting.metrics, "metrics")
ADMIN_ENDPOINTS = (
    AdminEndpoint("GET", "/admin/nodes", listing.list_nodes, "list nodes"),
    AdminEndpoint("GET", "/admin/nodes/{node_id}", listing.get_node, "look at node"),
    AdminEndpoint("POST", "/admin/nodes/{node_id}/wake", acting.wake_node, "wake node"),
    AdminEndpoint("POST", "/admin/nodes/{node_id}/hold", acting.hold_node, "hold node"),
    AdminEndpoint("POST", "/admin/nodes/{node_id}/release", acting.release_node, "release node"),
    AdminEndpoint("POST", "/admin/nodes/{node_id}/purge", acting.purge_node, "purge node"),
    AdminEndpoint("POST", "/admin/snapshot", acting.snapshot, "take snapshot"),
    AdminEndpoint("POST", "/admin/mass-silence/release", acting.release_mass_silence, "release mass silence"),
    AdminEndpoint("POST", "/admin/keys/rotate", acting.rotate_keys, "rotate keys"),
    AdminEndpoint("POST", "/admin/keys/{key_id}/revoke", acting.revoke_key, "revoke key"),
)


def install(engine: Engine, desk: Desk, admission: Admission) -> None:
    """Let `engine` serve every endpoint to those whom `admission` lets in."""
    for endpoint in ADMIN_ENDPOINTS:
        # Nothing of it is for pages in a browser, and no body is looked at.
        engine.route(endpoint.path, [endpoint.method], body="none", cors=False)(
            _admitted(endpoint, desk, admission)
        )

    async def metrics(request: Request) -> Response:
        # Asked for every few seconds, and no action: it is not audited.
        admission.check_host(request)
        if not admission.metrics_open:
            admission.require(request)
        return await METRICS.handler(desk, request)

    engine.route(METRICS.path, [METRICS.method], cors=False)(metrics)


def _admitted(
    endpoint: AdminEndpoint, desk: Desk, admission: Admission
) -> Callable[..., Coroutine[Any, Any, Response]]:
    """The handler of `endpoint` for those who are admitted, audited."""
    if "{" in endpoint.path:

        async def about_one(request: Request, name: str) -> Response:
            return await admission.audited(
                request, endpoint.action, name, lambda: endpoint.handler(desk, request, name)
            )

        return about_one

    async def about_server(request: Request) -> Response:
        return await admission.audited(
            request, endpoint.action, None, lambda: endpoint.handler(desk, request)
        )

    return about_server

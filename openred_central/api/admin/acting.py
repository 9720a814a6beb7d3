"""``POST /admin/...`` and ``GET /metrics``: what operators do to nodes and to the server."""

from __future__ import annotations

from ...micro_engine.wire.messages import Request, Response
from .desk import AdminEndpoint, Desk

# The text format of Prometheus.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(desk: Desk, request: Request) -> Response:
    """Answer 200 with every figure, for Prometheus."""
    return Response(desk.metrics(), content_type=METRICS_TYPE)


METRICS = AdminEndpoint("GET", "/metrics", metrics, "metrics")


async def wake_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 once a sign of life of the node is noted."""
    return await _changed(desk, node_id, "woken", desk.api.directory.wake(node_id, desk.api.now()))


WAKE_NODE = AdminEndpoint("POST", "/admin/nodes/{node_id}/wake", wake_node, "wake node")


async def hold_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 once the node is held: silence no longer changes its state."""
    return await _changed(desk, node_id, "held", desk.api.directory.hold(node_id, desk.api.now()))


HOLD_NODE = AdminEndpoint("POST", "/admin/nodes/{node_id}/hold", hold_node, "hold node")


async def release_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 once the node is no longer held."""
    return await _changed(desk, node_id, "released", desk.api.directory.release(node_id, desk.api.now()))


RELEASE_NODE = AdminEndpoint("POST", "/admin/nodes/{node_id}/release", release_node, "release node")


async def purge_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 once the node is erased; a tombstone keeps its name, as after `mode=forget`."""
    desk.api.require_store()
    return await _changed(desk, node_id, "purged", desk.api.directory.forget(node_id, desk.api.now()))


PURGE_NODE = AdminEndpoint("POST", "/admin/nodes/{node_id}/purge", purge_node, "purge node")


async def snapshot(desk: Desk, request: Request) -> Response:
    """Answer 200 once a snapshot is taken and verified; requests are served meanwhile."""
    return Response.json({"status": "taken", **await desk.snapshot()})


SNAPSHOT = AdminEndpoint("POST", "/admin/snapshot", snapshot, "take snapshot")


async def release_mass_silence(desk: Desk, request: Request) -> Response:
    """Answer 200; transitions that mass silence held go on."""
    api = desk.api
    released = api.directory.expiry.release_hold(api.now())
    return Response.json({"status": "released" if released else "not_held"})


RELEASE_MASS_SILENCE = AdminEndpoint(
    "POST", "/admin/mass-silence/release", release_mass_silence, "release mass silence"
)


async def rotate_keys(desk: Desk, request: Request) -> Response:
    """Answer 200: another key signs tokens once peers have known it for an hour."""
    await desk.rotate_keys()
    return Response.json(
        {"status": "rotating", "message": "Another key signs tokens once peers have known it for an hour."}
    )


ROTATE_KEYS = AdminEndpoint("POST", "/admin/keys/rotate", rotate_keys, "rotate keys")


async def revoke_key(desk: Desk, request: Request, key_id: str) -> Response:
    """Answer 200: a stolen key is void, at peers once they have fetched the key set."""
    await desk.revoke_key(key_id)
    return Response.json(
        {
            "status": "revoked",
            "kid": key_id,
            "message": "Its signatures are void here, and at peers that have fetched the key set.",
        }
    )


REVOKE_KEY = AdminEndpoint("POST", "/admin/keys/{key_id}/revoke", revoke_key, "revoke key")


async def _changed(desk: Desk, node_id: str, status: str, change: int) -> Response:
    """Wait until a change is stored, and answer with the state of the node."""
    api = desk.api
    durable = await api.saved(change)
    slot = api.directory.nodes.registry.slot_of(node_id)
    state = "dead" if slot is None else api.directory.nodes.registry.state(slot).wire
    document = {"status": status, "node_id": node_id, "state": state, "durable": durable}
    return Response.json(document, status=api.status(200, durable=durable))

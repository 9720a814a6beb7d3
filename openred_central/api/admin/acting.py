"""``POST /admin/...``: what operators do to nodes and to the server."""

from __future__ import annotations

from ...micro_engine.wire.messages import Request, Response
from .desk import Desk
from .exposition import CONTENT_TYPE


async def metrics(desk: Desk, request: Request) -> Response:
    """Answer 200 with every figure, for Prometheus."""
    return Response(desk.metrics(), content_type=CONTENT_TYPE)


async def wake_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 once a node counts as heard."""
    return await _changed(desk, node_id, "woken", desk.api.directory.wake(node_id, desk.api.now()))


async def hold_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 once silence does not move a node on any more."""
    return await _changed(desk, node_id, "held", desk.api.directory.hold(node_id, desk.api.now()))


async def release_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 once a node is not held any more."""
    return await _changed(desk, node_id, "released", desk.api.directory.release(node_id, desk.api.now()))


async def purge_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 once a node is erased; a tombstone keeps its name, as where it had itself forgotten."""
    desk.api.require_store()
    return await _changed(desk, node_id, "purged", desk.api.directory.forget(node_id, desk.api.now()))


async def snapshot(desk: Desk, request: Request) -> Response:
    """Answer 200 once a snapshot is taken and verified; the server goes on meanwhile."""
    return Response.json({"status": "taken", **await desk.snapshot()})


async def release_mass_silence(desk: Desk, request: Request) -> Response:
    """Answer 200: if transitions were held for mass silence, they go on."""
    api = desk.api
    released = api.directory.expiry.release_hold(api.now())
    return Response.json({"status": "released" if released else "not_held"})


async def rotate_keys(desk: Desk, request: Request) -> Response:
    """Answer 200: another key signs tokens as soon as peers have known it for an hour."""
    await desk.rotate_keys()
    return Response.json(
        {"status": "rotating", "message": "Another key signs tokens once peers have known it for an hour."}
    )


async def revoke_key(desk: Desk, request: Request, key_id: str) -> Response:
    """Answer 200: a key that was stolen counts no more, once peers have fetched the key set."""
    await desk.revoke_key(key_id)
    return Response.json(
        {
            "status": "revoked",
            "kid": key_id,
            "message": "What it signed counts no more here, nor for peers that have fetched the key set.",
        }
    )


async def _changed(desk: Desk, node_id: str, status: str, change: int) -> Response:
    """Wait until a change is stored, and tell what became of the node."""
    api = desk.api
    durable = await api.saved(change)
    slot = api.directory.nodes.registry.slot_of(node_id)
    state = "dead" if slot is None else api.directory.nodes.registry.state(slot).wire
    document = {"status": status, "node_id": node_id, "state": state, "durable": durable}
    return Response.json(document, status=api.status(200, durable=durable))

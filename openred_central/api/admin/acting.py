"""``POST /admin/...`` and ``GET /metrics``: what operators do to nodes and to the server."""

from __future__ import annotations

from collections.abc import Callable

from ...clock import Now
from ...directory.directory import Directory
from ...errors import CallerError
from ...micro_engine.wire.messages import Request, Response
from .admission import AdminEndpoint, Desk

# The text format of Prometheus.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(desk: Desk, request: Request) -> Response:
    """Answer 200 with every figure, for Prometheus."""
    return Response(desk.metrics(), content_type=METRICS_TYPE)


METRICS = AdminEndpoint("GET", "/metrics", metrics, "metrics")


def _on_node(
    verb: str, status: str, act: Callable[[Directory, str, Now], int], *, erases: bool = False
) -> AdminEndpoint:
    """Return the endpoint that does `act` to a node and answers 200 with its state once that is stored."""

    async def handler(desk: Desk, request: Request, node_id: str) -> Response:
        api = desk.api
        if erases:
            api.require_store()
        durable = await api.saved(act(api.directory, node_id, api.now()))
        slot = api.directory.nodes.registry.slot_of(node_id)
        state = "dead" if slot is None else api.directory.nodes.registry.state(slot).wire
        document = {"status": status, "node_id": node_id, "state": state, "durable": durable}
        return Response.json(document, status=api.status(200, durable=durable))

    return AdminEndpoint("POST", f"/admin/nodes/{{node_id}}/{verb}", handler, f"{verb} node")


WAKE_NODE = _on_node("wake", "woken", Directory.wake)
HOLD_NODE = _on_node("hold", "held", Directory.hold)
RELEASE_NODE = _on_node("release", "released", Directory.release)
# A tombstone keeps the name, as after `mode=forget`.
PURGE_NODE = _on_node("purge", "purged", Directory.forget, erases=True)


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


async def forget_instance(desk: Desk, request: Request, name: str) -> Response:
    """Answer 200: no burial waits any more for an instance that is away and does not come back."""
    if not desk.forget_instance(name):
        raise CallerError(
            404,
            "instance_not_found",
            f"No instance named {name!r} is away.",
            suggestion="`openred-central cluster status` lists those that are missing.",
        )
    return Response.json(
        {
            "status": "forgotten",
            "instance": name,
            "message": f"Nobody waits for {name} any more; what it alone has heard does not count.",
        }
    )


FORGET_INSTANCE = AdminEndpoint("POST", "/admin/instances/{name}/forget", forget_instance, "forget instance")

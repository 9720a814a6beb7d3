"""``GET`` and ``DELETE /nodes/{node_id}``, ``POST /lookup``: single nodes by their ids."""

from __future__ import annotations

from typing import Any

import orjson

from ..clock import Now
from ..directory.state.node import DISCOVERABLE
from ..errors import CallerError
from ..micro_engine.wire.messages import Request, Response
from .service import Api
from .wire import values
from .wire.describing import descriptions, explain
from .wire.fields import Field, Fields

MODE = Field(
    "mode",
    values.departure,
    "`leave` hides the node and keeps its identity; `forget` erases it. It leaves by default.",
)
NODE_IDS = Field("node_ids", values.node_ids, "The nodes that are asked for.", required=True)
DEPARTURE_FIELDS: tuple[Field[Any], ...] = (MODE,)
LOOKUP_FIELDS: tuple[Field[Any], ...] = (NODE_IDS,)


async def get_node(api: Api, request: Request, node_id: str) -> Response:
    """Answer 200 with all of a node, explained."""
    now = api.now()
    slot = api.directory.nodes.registry.slot_of(node_id)
    if slot is None or not _shows_itself(api, request, slot, now):
        slot = api.directory.visible_slot(node_id)
    return Response.json(explain(api.directory, slot, now))


async def delete_node(api: Api, request: Request, node_id: str) -> Response:
    """Answer 200 once the departure is durable: ``mode`` is ``leave`` (the default) or ``forget``.

    It stands in the query, or in the body, which a signature covers. The answer is 202 where the store failed
    just now; a departure that is known to fail is not begun with.
    """
    mode, ignored = _read_mode(request)
    now = api.now()
    slot = api.directory.slot(node_id, now)
    api.prover.require(request, slot, now)
    api.require_store()
    if mode == values.FORGET:
        change = api.directory.forget(node_id, now)
        status, state = "forgotten", "dead"
        message = "The node is erased; a hash of its id and the fingerprint of its key keep its name."
    else:
        change = api.directory.leave(node_id, now)
        status, state = "left", "coma"
        message = "The node is hidden and its identity kept; a heartbeat brings it back."
    durable = await api.saved(change)
    document: dict[str, Any] = {
        "status": status,
        "node_id": node_id,
        "state": state,
        "durable": durable,
        "message": message,
    }
    if ignored:
        document["ignored"] = ignored
    return Response.json(document, status=api.status(200, durable=durable))


def _read_mode(request: Request) -> tuple[str, list[str]]:
    """Return the mode, and the parameters of the query that are ignored."""
    fields = Fields.of_query(request.query, DEPARTURE_FIELDS)
    asked, ignored = fields.take(MODE), fields.ignored
    fields.finish()
    if not request.body:
        return asked or values.LEAVE, ignored
    fields = Fields.of_body(request.json())
    mode = fields.take(MODE, asked or values.LEAVE)
    if asked not in (None, mode):
        fields.reject(MODE.name, "differs from that of the query; say it once")
    fields.finish()
    return mode, ignored


async def lookup(api: Api, request: Request) -> Response:
    """Answer 200 with up to 100 nodes at once, in the order asked for, and the ids that are missing."""
    fields = Fields.of_body(request.json())
    node_ids = fields.take(NODE_IDS, list[str]())
    fields.finish()
    now, found, missing = api.now(), list[int](), list[str]()
    for node_id in node_ids:
        slot = api.directory.nodes.registry.slot_of(node_id)
        if slot is None or not api.directory.nodes.registry.flags(slot) & DISCOVERABLE:
            missing.append(node_id)
        else:
            found.append(slot)
    nodes = descriptions(api.directory, found, now)
    return Response(b'{"nodes":[%b],"missing":%b}' % (b",".join(nodes), orjson.dumps(missing)))


def _shows_itself(api: Api, request: Request, slot: int, now: Now) -> bool:
    """Whether the node in `slot`, which hides from others, asks for itself; a void proof shows nothing."""
    if api.directory.nodes.registry.flags(slot) & DISCOVERABLE:
        return False
    try:
        return bool(api.prover.shown(request, slot, now))
    except CallerError:
        return False

"""``GET`` and ``DELETE /nodes/{node_id}``, ``POST /lookup``: single nodes by their ids."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from ..directory.state.node import is_visible
from ..micro_engine.wire.messages import Request, Response
from .caller.proving import PROOF_FIELDS
from .endpoint import (
    CACHED,
    CLAIM,
    LIMITED,
    PENDING,
    PROOF,
    SIGNATURE,
    UNCHANGED,
    Endpoint,
    Reply,
    Where,
)
from .service import Api
from .wire import values
from .wire.caching import NOT_MODIFIED, has_already, not_modified
from .wire.describing import descriptions, explain, node_tag
from .wire.fields import Field, Fields
from .wire.preferring import APPLIED, PREFER, wait_preferred_s
from .wire.schemas import DURABLE, EXPLAINED_NODE, IGNORED, NODE, NODE_ID, TEXT, listing, thing

MODE = Field(
    "mode",
    values.departure,
    "`leave`, the default, hides the node and keeps its identity; `forget` erases it.",
)
NODE_IDS = Field("node_ids", values.node_ids, "The ids of the nodes to look up.", required=True)
FOUND = thing("Found", {"nodes": listing(NODE), "missing": listing(NODE_ID)})
DEPARTED = thing(
    "Departed",
    {
        "status": {"enum": ["left", "forgotten"]},
        "node_id": TEXT,
        "state": {"enum": ["coma", "dead"]},
        "durable": DURABLE,
        "message": TEXT,
        "ignored": IGNORED,
    },
    optional=("ignored",),
)


async def get_node(api: Api, request: Request, node_id: str) -> Response:
    answer = _explained(api, request, node_id)
    wait_s = wait_preferred_s(request)
    # A proof is judged once, and a signature holds only once.
    if answer.status != NOT_MODIFIED or not wait_s or request.headers.has_any(PROOF_FIELDS):
        return answer
    wait = api.watching.wait(node_id)
    if wait is None:
        return answer
    # A client that leaves gives up its place.
    request.on_input_end = wait.end
    # An answer takes memory, and waits for a long time.
    del answer
    ends_s = asyncio.get_running_loop().time() + wait_s
    try:
        while await wait.until(ends_s):
            answer = _explained(api, request, node_id)
            if answer.status != NOT_MODIFIED:
                break
        else:
            answer = _explained(api, request, node_id)
    finally:
        api.watching.leave(wait)
    answer.headers = (*answer.headers, (APPLIED, f"wait={wait_s}"))
    return answer


def _explained(api: Api, request: Request, node_id: str) -> Response:
    """Return the node, or 304 if the caller has it. Raise `CallerError` 404 unless the caller may see it."""
    now = api.now()
    registry = api.directory.nodes.registry
    slot = registry.slot_of(node_id)
    is_node = slot is not None and api.prover.is_node(request, slot, now)
    if slot is None or not (is_node or is_visible(registry.flags[slot])):
        raise api.directory.not_found(node_id)
    api.directory.blocking.refuse_slot(slot)
    private = is_node or api.forecast_public
    tag = node_tag(api.directory, slot, now, private=private)
    headers = (("ETag", f"W/{tag}"), ("Cache-Control", "no-cache, private" if private else "no-cache"))
    if has_already(request, tag):
        return not_modified(headers)
    return Response.json(explain(api.directory, slot, now, private=private), headers=headers)


GET_NODE = Endpoint(
    "GET",
    "/nodes/{node_id}",
    get_node,
    name="getNode",
    tag="Nodes",
    summary="Look at one node, explained",
    description="Why the node is in its state, what is expected of it, and every deadline ahead. The node "
    "itself is told more: hours and absences are personal, and so is why a deadline is later than usual. A "
    "node that is not discoverable is shown to itself alone; others get the answer for an unknown node, as "
    "for a dead one. The entity tag changes with the record, and when the node is late or no longer late; "
    "times alone do not change it. With `If-None-Match` and `Prefer: wait=60`, and without a proof, the "
    "answer waits until the tag changes, up to 60 seconds, and says so in `Preference-Applied`.",
    headers={PREFER.capitalize(): "`wait=60`: the seconds for which the caller would wait for a change."},
    caches=True,
    replies={
        200: Reply("The node.", EXPLAINED_NODE, headers=(*LIMITED, *CACHED, APPLIED)),
        304: UNCHANGED,
    },
    problems=("node_not_found", "rate_limited"),
    proofs=(None, SIGNATURE, CLAIM),
    limit="discover",
    where=Where.ANYWHERE,
)


async def delete_node(api: Api, request: Request, node_id: str) -> Response:
    mode, ignored = _read_mode(request)
    now = api.now()
    slot = api.directory.open_slot(node_id, now)
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


DELETE_NODE = Endpoint(
    "DELETE",
    "/nodes/{node_id}",
    delete_node,
    name="deleteNode",
    tag="Nodes",
    summary="Leave, or be forgotten",
    description="The mode is in the query, or in the body, which a signature covers. The answer comes once "
    "the departure is durable.",
    query=(MODE,),
    body=(MODE,),
    body_required=False,
    replies={200: Reply("The node is gone.", DEPARTED), 202: Reply(PENDING, DEPARTED)},
    problems=(*PROOF, "store_unavailable"),
    proofs=(SIGNATURE, CLAIM),
)


def _read_mode(request: Request) -> tuple[str, list[str]]:
    """Return the mode, and the ignored parameters of the query."""
    fields = Fields.of_query(request.query, (MODE,))
    asked, ignored = fields.take(MODE), fields.ignored
    fields.finish()
    if not request.body:
        return asked or values.LEAVE, ignored
    fields = Fields.of_body(request.json())
    mode = fields.take(MODE, asked or values.LEAVE)
    if asked not in (None, mode):
        fields.reject(MODE.name, "differs from the query; send it once")
    fields.finish()
    return mode, ignored


async def lookup(api: Api, request: Request) -> Response:
    fields = Fields.of_body(request.json())
    node_ids = fields.take(NODE_IDS, list[str]())
    fields.finish()
    now, found, missing = api.now(), list[int](), list[str]()
    for node_id in node_ids:
        slot = api.directory.nodes.registry.slot_of(node_id)
        if slot is None or not is_visible(api.directory.nodes.registry.flags[slot]):
            missing.append(node_id)
        else:
            found.append(slot)
    nodes = descriptions(api.directory, found, now)
    return Response(b'{"nodes":[%b],"missing":%b}' % (",".join(nodes).encode(), orjson.dumps(missing)))


LOOKUP = Endpoint(
    "POST",
    "/lookup",
    lookup,
    name="lookup",
    tag="Nodes",
    summary="Look up many nodes by their ids",
    description="Nodes come in the order asked for; hidden nodes count as missing.",
    body=(NODE_IDS,),
    example_body={"node_ids": ["alice", "bob"]},
    replies={200: Reply("The nodes found, and the ids of the missing ones.", FOUND)},
    limit="discover",
    where=Where.ANYWHERE,
)

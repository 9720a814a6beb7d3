"""``GET /admin/nodes`` and ``/admin/nodes/{node_id}``: all nodes, also hidden ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from ...clock import Now
from ...directory.directory import Directory
from ...directory.lifecycle import LIVE_STATES
from ...directory.state.node import BLOCKED, DISCOVERABLE, HELD, LEFT
from ...directory.state.registry import Registry
from ...micro_engine.wire.messages import Request, Response
from ...wording import rfc3339
from ..status import dark_figures
from ..wire import values
from ..wire.describing import describe, explain
from ..wire.fields import Field, Fields
from .admission import AdminEndpoint, Desk
from .blocking import shown

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
# One answer looks at this many slots at most, one turn of the loop at one piece of them.
SLOTS_PER_ANSWER_MAX = 50_000
SLOTS_PER_PIECE = 2_000
ROWS_PER_PIECE = 50

CURSOR = Field("cursor", values.whole_number(0, 1 << 32), "The slot to continue from.")
LIMIT = Field("limit", values.whole_number(1, LIMIT_MAX), "The largest number of nodes to return.")
STATE = Field("state", values.states, "Only nodes in these states.")
REGION = Field("region", values.region_query, "Only nodes of this region; empty: only those of none.")
SERVICES = Field("services", values.service_query, "Only nodes that offer all of these.")
SEARCH = Field("search", values.part_of_id, "Only nodes whose id holds this, in any case of letters.")
FIELDS: tuple[Field[Any], ...] = (CURSOR, LIMIT, STATE, REGION, SERVICES, SEARCH)
# So many regions and services are counted by name, the largest first.
COUNTED_MAX = 100


async def list_dark(desk: Desk, request: Request) -> Response:
    """Answer 200 with the networks and regions that are dark, also those too small to be shown to all."""
    watch = desk.api.directory.watch
    watched = watch.watched if watch is not None else 0
    return Response.json({"dark": dark_figures(desk.api.directory, lambda _: True), "watched": watched})


LIST_DARK = AdminEndpoint("GET", "/admin/networks", list_dark, "list dark networks")


async def list_nodes(desk: Desk, request: Request) -> Response:
    """Answer 200 with some nodes in the order of their slots, and ``next`` to continue from, null at the end.

    A node keeps its slot while it lives, so a node that stays registered is listed exactly once. An answer
    may hold fewer nodes than asked for, or none, and still not be the last.
    """
    fields = Fields.of_query(request.query, FIELDS)
    slot, limit = fields.take(CURSOR, 0), fields.take(LIMIT, LIMIT_DEFAULT)
    directory, now = desk.api.directory, desk.api.now()
    registry = directory.nodes.registry
    is_wanted = _wish(registry, fields)
    fields.finish()
    rows: list[dict[str, Any]] = []
    ends = slot + SLOTS_PER_ANSWER_MAX
    pause_rows, pause_slot = ROWS_PER_PIECE, slot + SLOTS_PER_PIECE
    while len(rows) < limit and slot < min(ends, registry.slots_count):
        if len(rows) >= pause_rows or slot >= pause_slot:
            pause_rows, pause_slot = len(rows) + ROWS_PER_PIECE, slot + SLOTS_PER_PIECE
            await asyncio.sleep(0)
            continue
        if not registry.is_free(slot) and is_wanted(slot):
            rows.append(row(directory, slot, now))
        slot += 1
    following = str(slot) if slot < registry.slots_count else None
    answer = {"nodes": rows, "next": following, "nodes_total": len(registry)}
    return Response.json({**answer, "ignored": fields.ignored} if fields.ignored else answer)


def _wish(registry: Registry, fields: Fields) -> Callable[[int], bool]:
    """Return whether the node in a slot is one of those that the fields ask for."""
    states = fields.take(STATE) or LIVE_STATES
    names, region = fields.take(SERVICES, frozenset[str]()), fields.take(REGION)
    part = fields.take(SEARCH, "").lower()

    def is_wanted(slot: int) -> bool:
        offered = registry.service_set(slot)
        return (
            registry.state(slot) in states
            and names <= offered.names
            and region in (None, offered.region)
            and part in registry.node_id(slot).lower()
        )

    return is_wanted


LIST_NODES = AdminEndpoint("GET", "/admin/nodes", list_nodes, "list nodes")


async def count_nodes(desk: Desk, request: Request) -> Response:
    """Answer 200 with the number of nodes by state, region and service, hidden ones included.

    The region of nodes that name none is null.
    """
    registry = desk.api.directory.nodes.registry
    regions, services = Counter[str](), Counter[str]()
    for number, offered in enumerate(registry.sets.in_use()):
        if number % SLOTS_PER_PIECE == 0:
            await asyncio.sleep(0)
        regions[offered.region] += offered.nodes
        for name in offered.listed:
            services[name] += offered.nodes
    return Response.json(
        {
            "nodes": len(registry),
            "by_state": {state.wire: registry.state_counts[state] for state in LIVE_STATES},
            "regions": [[name or None, nodes] for name, nodes in regions.most_common(COUNTED_MAX)],
            "services": services.most_common(COUNTED_MAX),
        }
    )


COUNT_NODES = AdminEndpoint("GET", "/admin/counts", count_nodes, "count nodes")


async def get_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 with everything about a node, explained, also if it is hidden, and with its block."""
    directory, now = desk.api.directory, desk.api.now()
    slot = directory.slot(node_id, now)
    block = directory.blocking.of_record(directory.nodes.registry.record(slot))
    marks = {**_marks(directory, slot), "block": None if block is None else shown(block)}
    return Response.json({**explain(directory, slot, now, private=True), **marks})


GET_NODE = AdminEndpoint("GET", "/admin/nodes/{node_id}", get_node, "look at node")


def row(directory: Directory, slot: int, now: Now) -> dict[str, Any]:
    """Return the node in `slot` as a listing shows it."""
    registry = directory.nodes.registry
    record_ends_s = directory.nodes.deadline_s(slot)
    held = registry.flags[slot] & HELD
    return {
        **describe(directory, slot, now),
        **_marks(directory, slot),
        "registered_at": rfc3339(registry.registered_at[slot]),
        "state_ends_at": None if held else rfc3339(now.wall_s + record_ends_s - now.attended_s),
    }


def _marks(directory: Directory, slot: int) -> dict[str, bool]:
    flags = directory.nodes.registry.flags[slot]
    return {
        "discoverable": bool(flags & DISCOVERABLE),
        "left": bool(flags & LEFT),
        "held": bool(flags & HELD),
        "blocked": bool(flags & BLOCKED),
    }

"""``GET /admin/nodes`` and ``/admin/nodes/{node_id}``: all nodes, also those that nobody else may see."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from ...clock import Now
from ...directory.directory import Directory
from ...directory.lifecycle import LIVE_STATES, State
from ...directory.state.node import DISCOVERABLE, HELD, LEFT
from ...micro_engine.wire.messages import Request, Response
from ..wire import values
from ..wire.describing import describe, explain
from ..wire.fields import Field, Fields, Wrong
from ..wire.times import rfc3339
from .desk import Desk

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
# One answer looks at no more slots than this, however few of them are wanted: a few milliseconds of work,
# of which no turn of the loop does more than a piece.
SLOTS_PER_ANSWER_MAX = 50_000
SLOTS_PER_PIECE = 2_000
ROWS_PER_PIECE = 50
_CURSOR_MAX = 1 << 32


def _number(value: str, minimum: int, maximum: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 10 and minimum <= int(value) <= maximum):
        raise Wrong(f"has to be a whole number from {minimum} to {maximum}")
    return int(value)


CURSOR = Field("cursor", lambda value: _number(value, 0, _CURSOR_MAX), "The slot to go on from.")
LIMIT = Field("limit", lambda value: _number(value, 1, LIMIT_MAX), "So many nodes at most.")
STATE = Field("state", values.states, "Only nodes in these states.")
FIELDS: tuple[Field[Any], ...] = (CURSOR, LIMIT, STATE)


class Page(NamedTuple):
    """The nodes to list: those in `states` in the slots from `cursor` on, at most `limit` of them.

    `ignored` names the parameters that are not known here.
    """

    cursor: int
    limit: int
    states: frozenset[State]
    ignored: list[str]


async def list_nodes(desk: Desk, request: Request) -> Response:
    """Answer 200 with some nodes, in the order of their slots, and where to go on: ``next``, null at the end.

    A node keeps its slot for as long as it lives: one that is registered all the time is listed exactly once.
    An answer may hold fewer nodes than asked for, or none, and still not be the last.
    """
    page = read_page(request.query)
    directory, now = desk.api.directory, desk.api.now()
    registry = directory.nodes.registry
    rows: list[dict[str, Any]] = []
    slot, ends = page.cursor, page.cursor + SLOTS_PER_ANSWER_MAX
    pause_rows, pause_slot = ROWS_PER_PIECE, page.cursor + SLOTS_PER_PIECE
    while len(rows) < page.limit and slot < min(ends, registry.slots_count):
        if len(rows) >= pause_rows or slot >= pause_slot:
            pause_rows, pause_slot = len(rows) + ROWS_PER_PIECE, slot + SLOTS_PER_PIECE
            await asyncio.sleep(0)
            continue
        if not registry.is_free(slot) and registry.state(slot) in page.states:
            rows.append(row(directory, slot, now))
        slot += 1
    following = str(slot) if slot < registry.slots_count else None
    told = {"nodes": rows, "next": following, "nodes_total": len(registry)}
    return Response.json({**told, "ignored": page.ignored} if page.ignored else told)


async def get_node(desk: Desk, request: Request, node_id: str) -> Response:
    """Answer 200 with all of a node, explained, whether it may be discovered or not."""
    directory, now = desk.api.directory, desk.api.now()
    slot = directory.slot(node_id, now)
    return Response.json({**explain(directory, slot, now), **_marks(directory, slot)})


def row(directory: Directory, slot: int, now: Now) -> dict[str, Any]:
    """The node in `slot` as a listing shows it."""
    registry = directory.nodes.registry
    record_ends_s = directory.nodes.deadline_s(slot)
    held = registry.flags(slot) & HELD
    return {
        **describe(directory, slot, now),
        **_marks(directory, slot),
        "registered_at": rfc3339(registry.registered_at(slot)),
        "state_ends_at": None if held else rfc3339(now.wall_s + record_ends_s - now.attended_s),
    }


def read_page(text: str) -> Page:
    """The query of a request. Raises `CallerError` 400 ``bad_request``."""
    fields = Fields.of_query(text, FIELDS)
    page = Page(
        fields.take(CURSOR, 0),
        fields.take(LIMIT, LIMIT_DEFAULT),
        fields.take(STATE, frozenset[State]()) or frozenset(LIVE_STATES),
        fields.ignored,
    )
    fields.finish()
    return page


def _marks(directory: Directory, slot: int) -> dict[str, bool]:
    flags = directory.nodes.registry.flags(slot)
    return {
        "discoverable": bool(flags & DISCOVERABLE),
        "left": bool(flags & LEFT),
        "held": bool(flags & HELD),
    }

"""``/admin/blocks``: ids, keys and networks that operators keep out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Any

from ...directory.state.blocks import REASON_CHARACTERS_MAX, Block, Kind
from ...encoding import KEY_ID
from ...errors import CallerError
from ...limits.networks import parse_network
from ...micro_engine.wire.messages import Request, Response
from ...wording import rfc3339
from ..wire import values
from ..wire.fields import Field, Fields, Wrong
from .admission import AdminEndpoint, Desk

# A hundred years.
LIFETIME_S_MAX = 100 * 365 * 86_400
LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000


def _reason(value: Any) -> str:
    if not (isinstance(value, str) and value.isprintable() and len(value) <= REASON_CHARACTERS_MAX):
        raise Wrong(f"has to be at most {REASON_CHARACTERS_MAX} printable characters")
    return value


REASON = Field("reason", _reason, "The reason, which blocked callers are told.")
LIFETIME_S = Field(
    "lifetime_s",
    values.whole_number(1, LIFETIME_S_MAX),
    "The seconds after which the block ends; without it never.",
)
CURSOR = Field("cursor", values.whole_number(0, 1 << 32), "How many blocks to pass over.")
LIMIT = Field("limit", values.whole_number(1, LIMIT_MAX), "The largest number of blocks to return.")


async def block(desk: Desk, request: Request, kind: str, subject: str) -> Response:
    """Answer 200 once a block is stored, and all nodes that it covers are hidden."""
    fields, api = Fields.of_query(request.query, (REASON, LIFETIME_S)), desk.api
    reason, lifetime_s = fields.take(REASON, ""), fields.take(LIFETIME_S)
    fields.finish()
    known, subject = _subject(kind, subject)
    api.directory.require_lead()
    api.require_store()
    wall_s = api.now().wall_s
    ends_at = None if lifetime_s is None else wall_s + lifetime_s
    made = Block(known, subject, reason, wall_s, ends_at)
    api.directory.blocking.add(made)
    return await _judged(desk, "blocked", made, fields.ignored)


BLOCK = AdminEndpoint("POST", "/admin/blocks/{kind}/{subject}", block, "block")


async def unblock(desk: Desk, request: Request, kind: str, subject: str) -> Response:
    """Answer 200 once a block is gone, and the nodes that no other one covers are themselves again."""
    known, subject = _subject(kind, subject)
    api = desk.api
    api.directory.require_lead()
    api.require_store()
    return await _judged(desk, "unblocked", api.directory.blocking.remove(known, subject))


UNBLOCK = AdminEndpoint("DELETE", "/admin/blocks/{kind}/{subject}", unblock, "unblock")


async def list_blocks(desk: Desk, request: Request) -> Response:
    """Answer 200 with some blocks, oldest first, and ``next`` to continue from, null at the end."""
    fields = Fields.of_query(request.query, (CURSOR, LIMIT))
    cursor, limit = fields.take(CURSOR, 0), fields.take(LIMIT, LIMIT_DEFAULT)
    fields.finish()
    blocks = desk.api.directory.blocking.blocks
    end = cursor + limit
    return Response.json(
        {
            "blocks": list(map(shown, islice(blocks, cursor, end))),
            "next": str(end) if end < len(blocks) else None,
            "blocks_total": len(blocks),
            **({"ignored": fields.ignored} if fields.ignored else {}),
        }
    )


LIST_BLOCKS = AdminEndpoint("GET", "/admin/blocks", list_blocks, "list blocks")


async def _judged(desk: Desk, status: str, changed: Block, ignored: Sequence[str] = ()) -> Response:
    """Answer once the change of a block has reached all records and the store."""
    api, nodes = desk.api, 0
    for judged in api.directory.blocking.judging(changed):
        nodes = judged
        await asyncio.sleep(0)
    durable = await api.saved(api.directory.saving.last_change)
    document = {"status": status, **shown(changed), "nodes": nodes, "durable": durable}
    document |= await api.spread()
    document |= {"ignored": ignored} if ignored else {}
    return Response.json(document, status=api.status(200, durable=durable))


def shown(block: Block) -> dict[str, Any]:
    """Return a block as answers show it."""
    return {
        "kind": block.kind.value,
        "subject": block.subject,
        "reason": block.reason,
        "made_at": rfc3339(block.made_at),
        "ends_at": None if block.ends_at is None else rfc3339(block.ends_at),
    }


def _subject(kind: str, subject: str) -> tuple[Kind, str]:
    """Return kind and subject in the usual form. Raise `CallerError` 400 ``bad_request``."""
    try:
        if kind == Kind.ID:
            return Kind.ID, values.node_id(subject)
        if kind == Kind.KEY and KEY_ID.fullmatch(subject):
            return Kind.KEY, subject
        if kind == Kind.NETWORK:
            return Kind.NETWORK, str(parse_network(subject))
        fault = "a fingerprint has 43 of A-Z a-z 0-9 _ -" if kind == Kind.KEY else "there is no such kind"
    except (Wrong, ValueError) as error:
        fault = str(error)
    raise CallerError(
        400,
        "bad_request",
        f"{kind} {subject!r} cannot be blocked: {fault}.",
        suggestion="Name an `id`, the fingerprint of a `key`, or a `network` in CIDR notation whose slash is "
        "written %2F.",
    )

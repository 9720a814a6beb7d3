"""``POST /nodes/{node_id}/key``: another key for the same node."""

from __future__ import annotations

from typing import Any

from ..micro_engine.wire.messages import Request, Response
from ..security.node_keys import InvalidKey, load_node_key
from .caller.proving import BY_KEY
from .registering import invalid_key
from .service import Api
from .wire import values
from .wire.fields import Field, Fields

PUBLIC_KEY = Field("public_key", values.public_key, "The new key of the node.", required=True)
NEXT_KEY = Field(
    "next_key", values.next_key, "Commits the node to the key after this one, by its id; left out, to none."
)
FIELDS: tuple[Field[Any], ...] = (PUBLIC_KEY, NEXT_KEY)


async def change_key(api: Api, request: Request, node_id: str) -> Response:
    """Answer 200 once the new key is durable; what the former one was granted is void from then on.

    The body names ``public_key``, and may name ``next_key``. It is 202 where the store failed just now.
    """
    fields, now = Fields.of_body(request.json()), api.now()
    given = fields.take(PUBLIC_KEY, "")
    next_key = fields.take(NEXT_KEY, "")
    fields.finish()
    try:
        key = load_node_key(given, rsa_bits_min=api.rsa_bits_min)
    except InvalidKey as error:
        raise invalid_key(error) from None
    slot = api.directory.slot(node_id, now)
    api.prover.for_key_change(request, slot, key, now)
    # A former key that a crash brought back would be a hole.
    api.require_store()
    change = api.directory.change_key(slot, key.text, next_key)
    record = api.directory.nodes.registry.record(slot)
    document = {
        "status": "key_changed",
        "node_id": node_id,
        "public_key_fingerprint": key.key_id,
        "key_generation": record.generation,
        "next_key": next_key or None,
        "revision": record.revision,
        "session": api.prover.fresh_session(BY_KEY, slot, now),
        "message": "The new key is yours; the former one, and what it was granted, is void.",
    }
    durable = document["durable"] = await api.saved(change)
    return Response.json(document, status=api.status(200, durable=durable))

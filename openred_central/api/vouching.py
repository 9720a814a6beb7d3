"""``POST /security/verify`` and ``/revoke``, ``GET /security/keys``: whether tokens still count."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..clock import Now
from ..directory.lifecycle import WIRE_NAMES
from ..errors import CallerError
from ..micro_engine.wire.messages import Request, Response
from ..security.refusals import VerificationError
from ..security.tokens.link import cross_verify
from ..security.tokens.revocations import RevocationsFull
from ..security.tokens.tokens import RETRY_AFTER_S, Publication, verify_token
from .granting import tokens_unavailable
from .service import Api
from .wire import values
from .wire.caching import has_already, not_modified
from .wire.fields import Field, Fields
from .wire.times import rfc3339

# Peers may go by a key set for so long before they ask again: a key is published as long before it signs.
KEYS_AGE_S = 3_600
# Why a token is refused that looks like one of ours.
FORGED = "signature"

TOKEN = Field("token", values.token, "The one token to look at, or to revoke: whole, or its id.")
TOKEN_A = Field("token_a", values.token, "One of two tokens, whole or by its id.")
TOKEN_B = Field("token_b", values.token, "The other one.")
NODE_ID = Field("node_id", values.node_id, "The node that takes back what it was granted.", required=True)
TOKEN_ID = Field("token_id", values.token, "The id of the token.")
ALL = Field("all", values.flag, "Whether all that the node was ever granted is meant.")
VERIFY_FIELDS: tuple[Field[Any], ...] = (TOKEN, TOKEN_A, TOKEN_B)
REVOKE_FIELDS: tuple[Field[Any], ...] = (NODE_ID, TOKEN_ID, TOKEN, ALL)


class Held(NamedTuple):
    """What the directory knows of a token that was shown to it."""

    token_id: str
    node_id: str
    expires_at: float
    generation: int
    peer_token_id: str | None
    text: str | None


async def keys(api: Api, request: Request) -> Response:
    """Answer 200 with the key set as its root key signed it, 304 where the caller has that one already."""
    published = await _published(api)
    headers = (("ETag", published.etag), ("Cache-Control", f"public, max-age={KEYS_AGE_S}"))
    if has_already(request, published.etag):
        return not_modified(headers)
    return Response(published.document, headers=headers)


async def verify(api: Api, request: Request) -> Response:
    """Answer 200 with whether a token, or two that belong together, count now: also revocation is known here.

    Each is given whole, or by its id as long as the directory remembers it.
    """
    fields, now = Fields.of_body(request.json()), api.now()
    single = fields.has(TOKEN)
    given = {field.name: fields.take(field, "") for field in VERIFY_FIELDS if fields.has(field)}
    names = (TOKEN.name,) if single else (TOKEN_A.name, TOKEN_B.name)
    for name in names:
        if name not in given:
            fields.reject(name, "is required")
    fields.finish()
    published = await _published(api)
    held, reason = [], ""
    for name in names:
        # Who has forged tokens checked all the time costs as much as who sends bad signatures.
        api.limits.may_try_proof(request)
        try:
            found = _held(api, given[name], published, now)
        except VerificationError as refused:
            if refused.reason == FORGED:
                api.limits.proof_failed(request)
            reason = reason or f"{name}: {refused.message}"
            continue
        held.append(found)
        reason = reason or _void(api, name, found)
    valid = not reason
    linked = False
    if valid and not single:
        linked, reason = _linked(held[0], held[1], published, now)
    document = {
        "valid": valid,
        "linked": linked,
        "reason": reason,
        "tokens": [_describe(api, token) for token in held],
    }
    return Response.json(document)


async def revoke(api: Api, request: Request) -> Response:
    """Answer 200 once it is durable that a token counts no more, or with ``all`` none of the node's.

    Peers that check offline learn of it when the token expires. It is 202 where the store failed just now.
    """
    fields, now = Fields.of_body(request.json()), api.now()
    node_id = fields.take(NODE_ID, "")
    everything = fields.take(ALL, False)
    named, whole = fields.take(TOKEN_ID), fields.take(TOKEN)
    text = named or whole
    if not everything and text is None:
        fields.reject(TOKEN_ID.name, "is required, unless all is true")
    fields.finish()
    slot = api.directory.slot(node_id, now)
    api.prover.require(request, slot, now)
    api.require_store()
    if everything:
        durable = await api.saved(api.directory.revoke_all(slot))
        what = "All that the node was granted is void."
    else:
        durable = await _revoke_one(api, node_id, text or "", now)
        what = "The token counts no more."
    document = {"status": "revoked", "node_id": node_id, "durable": durable, "message": what}
    return Response.json(document, status=api.status(200, durable=durable))


async def _revoke_one(api: Api, node_id: str, text: str, now: Now) -> bool:
    try:
        token = _held(api, text, await _published(api), now)
    except VerificationError as refused:
        raise CallerError(
            404,
            "token_not_found",
            f"There is nothing to revoke: {refused.message}.",
            suggestion="Send the whole token as `token`, or revoke all with `all`.",
        ) from None
    if token.node_id != node_id:
        raise CallerError(
            403,
            "forbidden",
            "The token is about another node.",
            suggestion="Revoke the tokens that are about you; the others expire within the hour.",
        )
    try:
        api.revocations.revoke(token.token_id, token.expires_at, now)
    except RevocationsFull as error:
        raise CallerError(
            503,
            "store_unavailable",
            f"The token cannot be revoked at present: {error}.",
            suggestion="Revoke all tokens of the node with `all`, or try again in a minute.",
            headers=(("Retry-After", "60"),),
        ) from None
    return await api.save_revocations()


async def _published(api: Api) -> Publication:
    await api.mint.ready()
    published = api.mint.publication
    if published is None:
        raise tokens_unavailable(RETRY_AFTER_S)
    return published


def _held(api: Api, text: str, published: Publication, now: Now) -> Held:
    """The token `text`, given whole or by its id. Raises `VerificationError`."""
    if "." not in text:
        recent = api.recent_tokens.get(text, now.wall_s)
        if recent is None:
            raise VerificationError("unknown", "no token of that id is remembered; send it whole")
        return Held(
            text, recent.node_id, recent.expires_at, recent.generation, recent.peer_token_id, text=None
        )
    token = verify_token(text, published.keyset, now.wall_s)
    recent = api.recent_tokens.get(token.token_id, now.wall_s)
    return Held(
        token.token_id,
        token.node_id,
        token.expires_at,
        token.generation,
        recent.peer_token_id if recent is not None else None,
        text,
    )


def _void(api: Api, name: str, token: Held) -> str:
    """Why a genuine token counts no more; empty where it does."""
    registry = api.directory.nodes.registry
    slot = registry.slot_of(token.node_id)
    if slot is None:
        return f"{name}: its node is not registered any more"
    if token.token_id in api.revocations:
        return f"{name}: it was revoked"
    if registry.generation(slot) != token.generation:
        return f"{name}: all that its node was granted then was revoked, or its key was changed"
    return ""


def _linked(a: Held, b: Held, published: Publication, now: Now) -> tuple[bool, str]:
    """Whether two valid tokens belong together, and why not."""
    if a.text is not None and b.text is not None:
        result = cross_verify(a.text, b.text, published.keyset, now.wall_s)
        return result.linked, result.reason
    # By their ids: what the directory remembers of having made them together.
    if a.peer_token_id == b.token_id and b.peer_token_id == a.token_id:
        return True, ""
    return False, "the tokens were not made together"


def _describe(api: Api, token: Held) -> dict[str, Any]:
    registry = api.directory.nodes.registry
    slot = registry.slot_of(token.node_id)
    return {
        "token_id": token.token_id,
        "node_id": token.node_id,
        "expires_at": rfc3339(token.expires_at),
        "node_state": WIRE_NAMES[registry.states[slot]] if slot is not None else None,
    }

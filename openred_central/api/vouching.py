"""``POST /security/verify`` and ``/revoke``, ``GET /security/keys``: whether tokens are valid."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..clock import Now
from ..directory.lifecycle import WIRE_NAMES
from ..directory.state.node import BLOCKED
from ..errors import CallerError
from ..micro_engine.wire.messages import Request, Response
from ..security.refusals import VerificationError
from ..security.tokens.link import cross_verify
from ..security.tokens.revocations import RevocationsFull
from ..security.tokens.tokens import RETRY_AFTER_S, Publication, verify_token
from ..wording import rfc3339
from .endpoint import CACHED, CLAIM, PENDING, PROOF, SIGNATURE, UNCHANGED, Endpoint, Reply
from .granting import tokens_unavailable
from .service import Api
from .wire import schemas, values
from .wire.caching import has_already, not_modified
from .wire.fields import Field, Fields, only, or_null
from .wire.schemas import DURABLE, TEXT, TIME, listing, thing

# Peers may keep a key set this long. A key is published as long before it signs.
KEYS_AGE_S = 3_600
# The reason for a token that looks like one of this directory, but is not.
FORGED = "signature"

TOKEN = Field("token", values.token, "One token to check or revoke: whole, or its id.")
TOKEN_A = Field("token_a", values.token, "One of two tokens: whole, or its id.")
TOKEN_B = Field("token_b", values.token, "The other token.")
NODE_ID = Field("node_id", values.node_id, "The node whose grants to revoke.", required=True)
TOKEN_ID = Field("token_id", values.token, "The id of the token to revoke.")
ALL = Field("all", values.flag, "Whether to revoke everything ever granted to the node.")
VERIFIED = thing(
    "Verified",
    {
        "valid": schemas.FLAG,
        "linked": schemas.FLAG,
        "reason": {"type": "string", "description": "Why not; empty if the tokens are valid."},
        "tokens": listing(
            thing(
                "TokenState",
                {
                    "token_id": TEXT,
                    "node_id": schemas.NODE_ID,
                    "expires_at": TIME,
                    "node_state": or_null(schemas.ANY_STATE),
                },
            )
        ),
    },
)
REVOKED = thing(
    "Revoked",
    {
        "status": only("revoked"),
        "node_id": schemas.NODE_ID,
        "durable": DURABLE,
        "everywhere": schemas.EVERYWHERE,
        "message": TEXT,
    },
    optional=("everywhere",),
)
SIGNED = {
    "signature": {"type": "string", "description": "The root key's signature of the key set: base64url."},
    "root": thing("RootKey", {"kid": TEXT, "suite": TEXT, "public_key": TEXT}),
}
KEY_SET = thing(
    "KeySet",
    {
        "keyset": {"type": "string", "description": "The keys with their periods: base64url of JSON."},
        **SIGNED,
        # For peers without ML-DSA that pin this root key; with `OPENRED_CLASSICAL_ROOT` alone.
        "classical": thing("ClassicalSignature", SIGNED),
    },
    optional=("classical",),
)


class KnownToken(NamedTuple):
    """A token that a caller presented; `text` is None if the caller sent only its id."""

    token_id: str
    node_id: str
    expires_at: float
    generation: int
    peer_token_id: str | None
    text: str | None


async def keys(api: Api, request: Request) -> Response:
    published = await _published(api)
    headers = (("ETag", published.etag), ("Cache-Control", f"public, max-age={KEYS_AGE_S}"))
    if has_already(request, published.etag):
        return not_modified(headers)
    return Response(published.document, headers=headers)


KEYS = Endpoint(
    "GET",
    "/security/keys",
    keys,
    name="getKeys",
    tag="Security",
    summary="Get the keys that sign tokens",
    description="Signed by the root key, whose id peers pin.",
    replies={200: Reply("The key set.", KEY_SET, headers=CACHED), 304: UNCHANGED},
    problems=("tokens_unavailable",),
    caches=True,
)


async def verify(api: Api, request: Request) -> Response:
    fields, now = Fields.of_body(request.json()), api.now()
    single = fields.has(TOKEN)
    given = {field.name: fields.take(field, "") for field in (TOKEN, TOKEN_A, TOKEN_B) if fields.has(field)}
    names = (TOKEN.name,) if single else (TOKEN_A.name, TOKEN_B.name)
    for name in names:
        if name not in given:
            fields.reject(name, "is required")
    fields.finish()
    published = await _published(api)
    tokens, reason = [], ""
    for name in names:
        # Checking a forged token costs as much as checking a bad signature, and is limited as that is.
        api.limits.may_try_proof(request)
        try:
            found = _find(api, given[name], published, now)
        except VerificationError as refused:
            if refused.reason == FORGED:
                api.limits.proof_failed(request)
            reason = reason or f"{name}: {refused.message}"
            continue
        tokens.append(found)
        reason = reason or _void(api, name, found)
    valid = not reason
    linked = False
    if valid and not single:
        linked, reason = _linked(tokens[0], tokens[1], published, now)
    document = {
        "valid": valid,
        "linked": linked,
        "reason": reason,
        "tokens": [_describe(api, token) for token in tokens],
    }
    return Response.json(document)


VERIFY = Endpoint(
    "POST",
    "/security/verify",
    verify,
    name="verifyTokens",
    tag="Security",
    summary="Check whether tokens are valid",
    description="One `token`, or `token_a` and `token_b`, which have to belong together.",
    body=(TOKEN, TOKEN_A, TOKEN_B),
    example_body={"token": "AAAAAAAAAAAAAAAAAAAAAA"},
    rules={"anyOf": [{"required": ["token"]}, {"required": ["token_a", "token_b"]}]},
    replies={200: Reply("Whether the tokens are valid, and if not, why.", VERIFIED)},
    problems=("rate_limited", "tokens_unavailable"),
)


async def revoke(api: Api, request: Request) -> Response:
    fields, now = Fields.of_body(request.json()), api.now()
    node_id = fields.take(NODE_ID, "")
    everything = fields.take(ALL, False)
    named, whole = fields.take(TOKEN_ID), fields.take(TOKEN)
    text = named or whole
    if not everything and text is None:
        fields.reject(TOKEN_ID.name, "is required, unless all is true")
    fields.finish()
    slot = api.directory.open_slot(node_id, now)
    api.prover.require(request, slot, now)
    api.require_store()
    if everything:
        durable = await api.saved(api.directory.revoke_all(slot))
        what = "Everything granted to the node is void."
    else:
        durable = await _revoke_one(api, node_id, text or "", now)
        what = "The token is void."
    document = {"status": "revoked", "node_id": node_id, "durable": durable, "message": what}
    document |= await api.spread()
    return Response.json(document, status=api.status(200, durable=durable))


REVOKE = Endpoint(
    "POST",
    "/security/revoke",
    revoke,
    name="revokeTokens",
    tag="Security",
    summary="Revoke grants of the node",
    description="One token, or with `all` everything. Peers that check offline accept a token until it "
    "expires.",
    body=(NODE_ID, TOKEN_ID, TOKEN, ALL),
    example_body={"node_id": "alice", "all": True},
    rules={
        "anyOf": [
            {"required": ["token_id"]},
            {"required": ["token"]},
            {"required": ["all"], "properties": {"all": only(True)}},
        ]
    },
    replies={200: Reply("The grant is void.", REVOKED), 202: Reply(PENDING, REVOKED)},
    problems=(*PROOF, "token_not_found", "store_unavailable", "tokens_unavailable"),
    proofs=(SIGNATURE, CLAIM),
)


async def _revoke_one(api: Api, node_id: str, text: str, now: Now) -> bool:
    try:
        token = _find(api, text, await _published(api), now)
    except VerificationError as refused:
        raise CallerError(
            404,
            "token_not_found",
            f"No such token can be revoked: {refused.message}.",
            suggestion="Send the whole token as `token`, or revoke all with `all`.",
        ) from None
    if token.node_id != node_id:
        raise CallerError(
            403,
            "forbidden",
            "The token was granted to another node.",
            suggestion="Revoke only tokens of this node; others expire within the hour.",
        )
    try:
        api.revocations.revoke(token.token_id, token.expires_at, now)
    except RevocationsFull as error:
        raise CallerError(
            503,
            "store_unavailable",
            f"The token cannot be revoked now: {error}.",
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


def _find(api: Api, text: str, published: Publication, now: Now) -> KnownToken:
    """Find the token `text`, sent whole or as its id. Raises `VerificationError`."""
    if "." not in text:
        recent = api.recent_tokens.get(text, now.wall_s)
        if recent is None:
            raise VerificationError("unknown", "no token of that id is remembered; send it whole")
        return KnownToken(
            text, recent.node_id, recent.expires_at, recent.generation, recent.peer_token_id, text=None
        )
    token = verify_token(text, published.keyset, now.wall_s)
    recent = api.recent_tokens.get(token.token_id, now.wall_s)
    return KnownToken(
        token.token_id,
        token.node_id,
        token.expires_at,
        token.generation,
        recent.peer_token_id if recent is not None else None,
        text,
    )


def _void(api: Api, name: str, token: KnownToken) -> str:
    """Return why a genuine token is void; empty if it is valid."""
    registry = api.directory.nodes.registry
    slot = registry.slot_of(token.node_id)
    if slot is None:
        return f"{name}: its node is no longer registered"
    if token.token_id in api.revocations:
        return f"{name}: it was revoked"
    if registry.flags[slot] & BLOCKED:
        return f"{name}: its node is blocked"
    if registry.generation(slot) != token.generation:
        return f"{name}: all grants of its node were revoked, or its key was changed"
    return ""


def _linked(a: KnownToken, b: KnownToken, published: Publication, now: Now) -> tuple[bool, str]:
    """Return whether two valid tokens belong together, and if not, why."""
    if a.text is not None and b.text is not None:
        result = cross_verify(a.text, b.text, published.keyset, now.wall_s)
        return result.linked, result.reason
    # Sent as ids: compares what the directory remembers of them.
    if a.peer_token_id == b.token_id and b.peer_token_id == a.token_id:
        return True, ""
    return False, "the tokens were not made together"


def _describe(api: Api, token: KnownToken) -> dict[str, Any]:
    registry = api.directory.nodes.registry
    slot = registry.slot_of(token.node_id)
    return {
        "token_id": token.token_id,
        "node_id": token.node_id,
        "expires_at": rfc3339(token.expires_at),
        "node_state": WIRE_NAMES[registry.states[slot]] if slot is not None else None,
    }

"""``POST /security/token``: sessions for a node, and tokens by which two nodes identify each other."""

from __future__ import annotations

from typing import Any

from ..clock import Now
from ..directory.state.node import PROVEN, Record, key_fingerprint, profile_parts
from ..errors import CallerError
from ..micro_engine.wire.messages import Request, Response
from ..security.sessions import LIFE_S
from ..security.tokens.link import Side, new_pair, new_token
from ..security.tokens.revocations import RecentToken
from ..security.tokens.tokens import Busy, PeerToken, lifetime_s
from ..wording import rfc3339
from .caller.proving import NOTHING, Means, Shown
from .endpoint import CLAIM, LIMITED, PROOF, SIGNATURE, Endpoint, Reply
from .endpoint import SESSION as BY_SESSION
from .service import Api
from .wire import schemas, values
from .wire.fields import Field, Fields, or_null
from .wire.schemas import TEXT, TIME, thing

SESSION = "session"
PURPOSE = "peer"

NODE_ID = Field("node_id", values.node_id, "The node that the token identifies.", required=True)
PEER_ID = Field("peer_id", values.node_id, "The other node of a pair; without it the token is for any peer.")
PURPOSE_FIELD = Field(
    "purpose",
    values.purpose,
    f"The purpose of the token; `{PURPOSE}` by default. `{SESSION}` asks for a session.",
)
LIFETIME_S = Field("lifetime_s", values.lifetime, "The lifetime in seconds: 30 to 3,600, by default 300.")
SESSION_GRANTED = thing(
    "SessionGranted",
    {"node_id": schemas.NODE_ID, "session": or_null(schemas.SESSION), "expires_at": TIME, "usage": TEXT},
)
TOKEN_GRANTED = thing(
    "TokenGranted",
    {
        "token_id": TEXT,
        "token": TEXT,
        "node_id": schemas.NODE_ID,
        "expires_at": TIME,
        "kid": {"type": "string", "description": "The id of the key that signed it."},
        "public_verification_key": or_null(TEXT),
        "mathematical_link": or_null(TEXT),
        "usage": TEXT,
        "peer_token": TEXT,
        "peer_token_id": TEXT,
        "pair": TEXT,
        "durable": {
            **schemas.DURABLE,
            "description": "Whether the binding of the node to its key is on disk.",
        },
    },
    optional=("peer_token", "peer_token_id", "pair", "durable"),
)


async def grant(api: Api, request: Request) -> Response:
    fields, now = Fields.of_body(request.json()), api.now()
    node_id = fields.take(NODE_ID, "")
    peer_id = fields.take(PEER_ID)
    purpose = fields.take(PURPOSE_FIELD, PURPOSE)
    requested_s = fields.take(LIFETIME_S)
    if peer_id is not None and peer_id == node_id:
        fields.reject("peer_id", "has to be another node than node_id")
    fields.finish()
    slot = api.directory.open_slot(node_id, now)
    shown = api.prover.for_grant(request, slot, now)
    if purpose == SESSION:
        return _session(api, request, shown, slot, now)
    registry = api.directory.nodes.registry
    peer = None if peer_id is None else _side(registry.record(api.directory.visible_slot(peer_id)))
    is_proved = shown is not NOTHING
    limits = api.limits.charge_token(request, slot, proved=is_proved)
    bound: dict[str, bool] = {}
    if is_proved:
        api.directory.heartbeat(slot, now)
        if shown.means is Means.KEY and not api.prover.is_bound(slot):
            bound["durable"] = await api.saved(api.directory.bind(slot))
            slot = api.directory.open_slot(node_id, now)
    node = _side(registry.record(slot))
    issued_at, life_s = int(now.wall_s), lifetime_s(requested_s)
    if peer is None:
        tokens: tuple[PeerToken, ...] = (new_token(node, None, purpose, issued_at, life_s, api.entropy),)
    else:
        tokens = new_pair(node, peer, purpose, issued_at, life_s, api.entropy)
    try:
        texts = await api.mint.mint(*tokens)
    except Busy as error:
        raise tokens_unavailable(error.retry_after_s) from None
    api.recent_tokens.sweep(now.wall_s)
    for token, other in zip(tokens, reversed(tokens), strict=True):
        peer_token_id = other.token_id if other is not token else None
        recent = RecentToken(token.node_id, token.expires_at, token.generation, peer_token_id)
        api.recent_tokens.add(token.token_id, recent)
    status = api.status(200, durable=bound.get("durable", True))
    return Response.json(_describe(api, tokens, texts) | bound, status=status, headers=limits)


GRANT = Endpoint(
    "POST",
    "/security/token",
    grant,
    name="grantToken",
    tag="Security",
    summary="Get a token, a pair of tokens, or a session",
    description="With `peer_id`, two tokens that belong together. A proved request is a sign of life.",
    body=(NODE_ID, PEER_ID, PURPOSE_FIELD, LIFETIME_S),
    example_body={"node_id": "alice", "peer_id": "bob"},
    replies={
        200: Reply("The grant.", {"anyOf": [TOKEN_GRANTED, SESSION_GRANTED]}, headers=LIMITED),
        202: Reply(
            "The tokens. The binding of the node to its key is not on disk yet.",
            TOKEN_GRANTED,
            headers=LIMITED,
        ),
    },
    problems=(*PROOF, "tokens_unavailable"),
    proofs=(None, SIGNATURE, BY_SESSION, CLAIM),
    aliases=("/api/v3/tokens/request",),
)


def tokens_unavailable(retry_after_s: int) -> CallerError:
    """Make the error for tokens that cannot be signed or checked now."""
    return CallerError(
        503,
        "tokens_unavailable",
        "The directory cannot sign now: its keys are being made, or too many tokens wait to be signed.",
        suggestion=f"Try again in {retry_after_s} s.",
        headers=(("Retry-After", str(retry_after_s)),),
    )


def _session(api: Api, request: Request, shown: Shown, slot: int, now: Now) -> Response:
    if shown.means is not Means.KEY:
        raise api.prover.missing(request, now)
    limits = api.limits.charge_token(request, slot, proved=True)
    node_id = api.directory.nodes.registry.node_id(slot)
    api.directory.heartbeat(slot, now)
    document = {
        "node_id": node_id,
        "session": api.prover.fresh_session(shown, slot, now),
        "expires_at": rfc3339(now.wall_s + LIFE_S),
        "usage": "Authorization: OpenRed <session>, for heartbeats without a body and for tokens",
    }
    return Response.json(document, headers=limits)


def _side(record: Record) -> Side:
    named = key_fingerprint(profile_parts(record.profile)[2], record.flags) if record.flags & PROVEN else None
    return Side(record.node_id, named, record.generation)


def _describe(api: Api, tokens: tuple[PeerToken, ...], texts: tuple[str, ...]) -> dict[str, Any]:
    token, text = tokens[0], texts[0]
    document = {
        "token_id": token.token_id,
        "token": text,
        "node_id": token.node_id,
        "expires_at": rfc3339(token.expires_at),
        "kid": text.split(".")[2],
        "public_verification_key": api.mint.public_key,
        "mathematical_link": token.link,
        "usage": "Show it to the peer, which checks it offline with the key set of GET /security/keys.",
    }
    if len(tokens) > 1:
        document |= {"peer_token": texts[1], "peer_token_id": tokens[1].token_id, "pair": token.pair}
        document["usage"] = "Keep `token`, hand `peer_token` to the peer; both check the pair offline."
    return document

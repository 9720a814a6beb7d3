"""What each endpoint is for, takes and answers: what ``GET /openapi.json`` tells besides the route table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..micro_engine.wire.messages import HTML_TYPE, JSON_TYPE
from . import (
    changing_keys,
    discovering,
    events,
    granting,
    heartbeating,
    nodes,
    registering,
    replies,
    vouching,
)
from .wire.fields import Field
from .wire.kinds import Schema, only

# By what a request shows to come from a node: the names of the security schemes.
SIGNATURE, SESSION, CLAIM = "signature", "session", "claim"
# What the proof of a node can go wrong with.
PROOF = ("proof_required", "forbidden", "node_not_found", "node_dead", "rate_limited")


class Reply(NamedTuple):
    """What an answer means; its `schema`, None where it has no body; its media type and header fields.

    `also_as` is another media type that it may have, of a text.
    """

    description: str
    schema: Schema | None
    content_type: str = JSON_TYPE
    headers: tuple[str, ...] = ()
    also_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One endpoint, described.

    `name` is that by which programs know it; `replies` are by status, `problems` the codes of the errors
    beyond those that any request may meet; `query` and `body` are the fields it takes, `rules` what the body
    has to fulfil besides, `body_required` whether there has to be one; `proofs` are the ways to show who
    asks, None among them where nothing has to be shown; `leads_to` names operations that take the node id
    of the answer; `caches` says that the answer has an entity tag; `headers` are further ones that a
    request may have, with what they say.
    """

    name: str
    tag: str
    summary: str
    description: str
    replies: Mapping[int, Reply]
    problems: tuple[str, ...] = ()
    query: tuple[Field[Any], ...] = ()
    body: tuple[Field[Any], ...] = ()
    rules: Schema = field(default_factory=dict)
    body_required: bool = True
    proofs: tuple[str | None, ...] = ()
    leads_to: tuple[str, ...] = ()
    caches: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


LIMITED = ("RateLimit-Policy", "RateLimit")
CACHED = ("ETag", "Cache-Control")
UNCHANGED = Reply("The caller has it already.", None, headers=CACHED)
PENDING = "It is accepted, and not on disk yet."
TAGS = {
    "Nodes": "Being there, and finding others.",
    "Security": "Keys and tokens, by which nodes know each other.",
    "Server": "The directory about itself.",
}

_HEALTH = {
    200: Reply("It is ready.", replies.HEALTH),
    503: Reply("It stops, or its store takes no changes.", replies.HEALTH),
}

OPERATIONS = {
    "POST /register": Operation(
        name="register",
        tag="Nodes",
        summary="Add a node, or update or revive it",
        description="A node that proves to be the one that is known is updated, or revived where it was "
        "silent. Who only repeats what is known needs no proof, unless the node is bound to its key.",
        body=registering.FIELDS,
        replies={
            200: Reply("The node was updated or revived.", replies.REGISTERED, headers=LIMITED),
            201: Reply("The node was registered.", replies.REGISTERED, headers=LIMITED),
            202: Reply(PENDING, replies.REGISTERED, headers=LIMITED),
        },
        problems=(
            *("invalid_key", "proof_required", "forbidden", "node_id_taken", "rate_limited"),
            "directory_full",
        ),
        proofs=(None, SIGNATURE, CLAIM),
        leads_to=("heartbeat", "getNode", "deleteNode", "changeKey"),
    ),
    "POST /heartbeat/{node_id}": Operation(
        name="heartbeat",
        tag="Nodes",
        summary="Give a sign of life",
        description="It revives a node in any state but `dead`. With a body it also changes what that "
        "names: `services` replaces, `metadata` is merged. A change is answered once it is durable.",
        body=heartbeating.FIELDS,
        body_required=False,
        replies={
            200: Reply("It was heard.", replies.HEARTBEAT, headers=LIMITED),
            202: Reply(PENDING, replies.HEARTBEAT, headers=LIMITED),
        },
        problems=(*PROOF, "directory_full"),
        proofs=(None, SIGNATURE, SESSION, CLAIM),
    ),
    "GET /discover": Operation(
        name="discover",
        tag="Nodes",
        summary="Find peers by what they offer",
        description="A fair draw among all that match, the better available first. Where nobody healthy "
        "matches, the best of the rest come with `degraded`. Each request gets a draw of its own.",
        query=discovering.FIELDS,
        replies={200: Reply("Peers, perhaps none.", replies.DISCOVERED, headers=LIMITED)},
        problems=("rate_limited",),
    ),
    "GET /nodes/{node_id}": Operation(
        name="getNode",
        tag="Nodes",
        summary="Look at one node, explained",
        description="Why it is in its state, and every deadline ahead. A node that is not discoverable is "
        "shown to itself alone; to others it is as unknown as one that is dead, or never was.",
        replies={200: Reply("The node.", replies.EXPLAINED_NODE, headers=LIMITED)},
        problems=("node_not_found", "rate_limited"),
        proofs=(None, SIGNATURE, CLAIM),
    ),
    "DELETE /nodes/{node_id}": Operation(
        name="deleteNode",
        tag="Nodes",
        summary="Leave, or be forgotten",
        description="What is to be done stands in the query, or in the body, which a signature covers. "
        "It is answered once that is durable.",
        query=nodes.DEPARTURE_FIELDS,
        body=nodes.DEPARTURE_FIELDS,
        body_required=False,
        replies={200: Reply("It is gone.", replies.DEPARTED), 202: Reply(PENDING, replies.DEPARTED)},
        problems=(*PROOF, "store_unavailable"),
        proofs=(SIGNATURE, CLAIM),
    ),
    "POST /nodes/{node_id}/key": Operation(
        name="changeKey",
        tag="Security",
        summary="Give the node another key",
        description="Signed by both keys, under the labels `old` and `new`; by the new one alone where "
        "that was named as the next. What the former key was granted is void from then on.",
        body=changing_keys.FIELDS,
        replies={
            200: Reply("The key was changed.", replies.KEY_CHANGED),
            202: Reply(PENDING, replies.KEY_CHANGED),
        },
        problems=("invalid_key", *PROOF, "store_unavailable"),
        proofs=(SIGNATURE, CLAIM),
    ),
    "POST /lookup": Operation(
        name="lookup",
        tag="Nodes",
        summary="Look up many nodes by their ids",
        description="In the order asked for; ids that nobody may see count as missing.",
        body=nodes.LOOKUP_FIELDS,
        replies={200: Reply("Those that are there, and the ids of those that are not.", replies.FOUND)},
    ),
    "POST /security/token": Operation(
        name="grantToken",
        tag="Security",
        summary="Get a token, a pair of them, or a session",
        description="With `peer_id` two tokens that belong together. A proved request is a sign of life.",
        body=granting.FIELDS,
        replies={
            200: Reply(
                "What was asked for.",
                {"anyOf": [replies.TOKEN_GRANTED, replies.SESSION_GRANTED]},
                headers=LIMITED,
            ),
            202: Reply(
                "The tokens. The binding of the node to its key is not on disk yet.",
                replies.TOKEN_GRANTED,
                headers=LIMITED,
            ),
        },
        problems=(*PROOF, "tokens_unavailable"),
        proofs=(None, SIGNATURE, SESSION, CLAIM),
    ),
    "POST /security/verify": Operation(
        name="verifyTokens",
        tag="Security",
        summary="Ask whether tokens still count",
        description="One `token`, or `token_a` and `token_b`, which have to belong together.",
        body=vouching.VERIFY_FIELDS,
        rules={"anyOf": [{"required": ["token"]}, {"required": ["token_a", "token_b"]}]},
        replies={200: Reply("Whether they do, and why not.", replies.VERIFIED)},
        problems=("rate_limited", "tokens_unavailable"),
    ),
    "POST /security/revoke": Operation(
        name="revokeTokens",
        tag="Security",
        summary="Take back what the node was granted",
        description="One token, or with `all` everything. Peers that check offline learn of it when the "
        "token expires.",
        body=vouching.REVOKE_FIELDS,
        rules={
            "anyOf": [
                {"required": ["token_id"]},
                {"required": ["token"]},
                {"required": ["all"], "properties": {"all": only(True)}},
            ]
        },
        replies={200: Reply("It counts no more.", replies.REVOKED), 202: Reply(PENDING, replies.REVOKED)},
        problems=(*PROOF, "token_not_found", "store_unavailable", "tokens_unavailable"),
        proofs=(SIGNATURE, CLAIM),
    ),
    "GET /security/keys": Operation(
        name="getKeys",
        tag="Security",
        summary="Get the keys that tokens are signed by",
        description="Signed by the root key, whose id peers pin.",
        replies={200: Reply("The key set.", replies.KEY_SET, headers=CACHED), 304: UNCHANGED},
        problems=("tokens_unavailable",),
        caches=True,
    ),
    "GET /": Operation(
        name="welcome",
        tag="Server",
        summary="See what this server is and offers",
        description="Name, version, endpoints, limits, and how it is signed. Who prefers HTML, as browsers "
        "do, is shown the dashboard.",
        replies={
            200: Reply("The server about itself.", replies.WELCOME, headers=("Vary",), also_as=HTML_TYPE),
            304: UNCHANGED,
        },
        caches=True,
    ),
    "GET /dashboard": Operation(
        name="watch",
        tag="Server",
        summary="Watch it",
        description="The dashboard, for people: one page that needs nothing but this server.",
        replies={200: Reply("The page.", {"type": "string"}, HTML_TYPE, CACHED), 304: UNCHANGED},
        caches=True,
    ),
    "GET /stats": Operation(
        name="getStats",
        tag="Server",
        summary="See the figures",
        description="Of the directory, the life of its nodes, its patience, and this process.",
        replies={200: Reply("The figures.", replies.STATS)},
    ),
    "GET /events": Operation(
        name="followEvents",
        tag="Server",
        summary="Follow what happens, as it happens",
        description="Server-sent events: transitions of nodes, and figures. The stream begins behind the "
        "last event that the caller saw, or with the figures of this moment; `reset` says that what came "
        "behind that one is not known any more.",
        query=events.FIELDS,
        headers={"Last-Event-ID": "The id of the last event that the caller saw; it goes before the query."},
        replies={200: Reply("Events without end.", {"type": "string"}, events.EVENT_STREAM_TYPE)},
        problems=("too_many_subscribers",),
    ),
    "GET /health/live": Operation(
        name="isLive",
        tag="Server",
        summary="Ask whether the process is up",
        description="For who restarts what hangs.",
        replies={200: Reply("It is up.", replies.LIVE)},
    ),
    "GET /health/ready": Operation(
        name="isReady",
        tag="Server",
        summary="Ask whether it takes changes",
        description="For who sends requests only where they are served.",
        replies=_HEALTH,
    ),
    "GET /health": Operation(
        name="isHealthy",
        tag="Server",
        summary="Ask how it is",
        description="The same as ready.",
        replies=_HEALTH,
    ),
    "GET /openapi.json": Operation(
        name="getDescription",
        tag="Server",
        summary="Get this description",
        description="OpenAPI 3.1, for programs.",
        replies={200: Reply("The description.", {"type": "object"}, headers=CACHED), 304: UNCHANGED},
        caches=True,
    ),
    "GET /docs": Operation(
        name="readDescription",
        tag="Server",
        summary="Read this description",
        description="The same for people: one page that needs nothing else.",
        replies={200: Reply("The page.", {"type": "string"}, HTML_TYPE, CACHED), 304: UNCHANGED},
        caches=True,
    ),
}

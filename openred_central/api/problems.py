"""Every error that a caller may get: its code, its status, and when it occurs."""

from __future__ import annotations

from typing import NamedTuple

from .wire.fields import Schema


class Problem(NamedTuple):
    """The HTTP `status` of an error, and `when` it occurs."""

    status: int
    when: str


PROBLEMS = {
    "bad_request": Problem(400, "malformed HTTP, or invalid fields or parameters"),
    "bad_json": Problem(400, "the body is not JSON, or has a whole number beyond 64 bits"),
    "invalid_key": Problem(400, "the `public_key` is weak, or is no key where one is needed"),
    "proof_required": Problem(401, "only the node itself may do this, and the proof is missing or invalid"),
    "forbidden": Problem(
        403, "the claim is void or another node's, or the node has committed to another next key"
    ),
    "blocked": Problem(
        403, "the operator has blocked the node, its key, or a network; see `detail` and `blocked_until`"
    ),
    "not_found": Problem(404, "no such path"),
    "node_not_found": Problem(404, "no such node"),
    "token_not_found": Problem(404, "no such token is remembered; send it whole"),
    "method_not_allowed": Problem(405, "the path does not answer this method; see `Allow`"),
    "request_timeout": Problem(408, "the request did not arrive in time"),
    "node_id_taken": Problem(409, "the name belongs to another node, or to a damaged record"),
    "node_dead": Problem(410, "the node was removed; register it again"),
    "content_too_large": Problem(413, "the body is larger than allowed"),
    "uri_too_long": Problem(414, "the request line is longer than 8 KiB"),
    "unsupported_media_type": Problem(415, "the body is not `application/json`, or has a content coding"),
    "expectation_failed": Problem(417, "an `Expect` other than `100-continue`"),
    "misdirected_request": Problem(421, "an `https` URI on this connection"),
    "rate_limited": Problem(429, "too many requests, or nodes; see `Retry-After`"),
    "header_fields_too_large": Problem(
        431, "too many or too large header fields, or too many members in one"
    ),
    "internal_error": Problem(500, "a bug of the server; the request's `id` finds it in the log"),
    "not_implemented": Problem(501, "CONNECT, or a transfer coding other than chunked"),
    "method_not_implemented": Problem(501, "a method that neither HTTP nor a path defines"),
    "directory_full": Problem(503, "new nodes and longer records are refused; known nodes are served"),
    "store_unavailable": Problem(503, "the store cannot be written, so the change would not be durable"),
    "no_leader": Problem(503, "no process that may change records can be reached; see `Retry-After`"),
    "outcome_unknown": Problem(503, "the leader took the request and gave no answer; look at the node first"),
    "behind": Problem(503, "the change that `OpenRed-Seq` names is not known here yet; see `Retry-After`"),
    "tokens_unavailable": Problem(503, "nothing can be signed now; see `Retry-After`"),
    "too_many_subscribers": Problem(503, "the limit of event subscribers is reached; see `Retry-After`"),
    "too_many_connections": Problem(
        503, "the limit of connections, or of the unread bytes they hold, is reached"
    ),
    "http_version_not_supported": Problem(505, "not HTTP/1.x"),
}
# Errors that only operators get, on their own listener.
FOR_OPERATORS = {
    "not_the_leader": Problem(409, "an operator's request to an instance that follows"),
    "nothing_to_copy": Problem(409, "a snapshot of a server that keeps nothing on disk"),
    "node_left": Problem(409, "an operator cannot wake a node that left on its own request"),
    "node_not_held": Problem(409, "an operator cannot release a node that is not held"),
    "key_not_found": Problem(404, "the directory has no key of that id"),
    "block_not_found": Problem(404, "there is no such block"),
    "blocks_full": Problem(409, "the limit of blocks is reached"),
    "no_cluster": Problem(409, "a server that is in no cluster is asked about one"),
    "instance_not_found": Problem(404, "no instance of that name is away"),
    "snapshot_failed": Problem(503, "a snapshot for an operator could not be taken"),
}

# Errors of any request.
ALWAYS = (
    *("bad_request", "request_timeout", "content_too_large", "uri_too_long", "expectation_failed"),
    *("misdirected_request", "header_fields_too_large", "internal_error", "not_implemented"),
    *("too_many_connections", "http_version_not_supported"),
    "blocked",
    # Where several processes serve.
    *("no_leader", "outcome_unknown", "behind"),
)
# Further errors of any request with a JSON body.
WITH_A_BODY = ("bad_json", "unsupported_media_type")
# Errors of a request for an unknown path or method.
ELSEWHERE = ("not_found", "method_not_allowed", "method_not_implemented")

PROBLEM: Schema = {
    "title": "Problem",
    "description": "What went wrong, for programs and for people (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri", "examples": ["urn:openred:problem:node_not_found"]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What was wrong, and where."},
        "error": {"enum": list(PROBLEMS), "description": "The stable code."},
        "message": {"type": "string", "description": "Equal to `detail`."},
        "suggestion": {"type": "string", "description": "What to do."},
        "fields": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "For each invalid field: what is allowed.",
        },
        "reason": {"type": "string", "description": "Why a proof was refused."},
        "server_time": {"type": "string", "format": "date-time", "description": "The time of the server."},
        "blocked_until": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "The end of a block; null if it has none.",
        },
        "violated-policies": {"type": "array", "items": {"type": "string"}},
        "id": {"type": "string", "description": "The id of the request in the log."},
    },
    "required": ["type", "title", "status", "detail", "error", "message"],
}

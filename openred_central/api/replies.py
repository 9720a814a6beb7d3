"""What the endpoints answer where all is well, as JSON Schema."""

from __future__ import annotations

from ..directory.lifecycle import LIVE_STATES, WIRE_NAMES, State
from .wire import values
from .wire.kinds import Schema, only, or_null, schema_of

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
DURATION_S: Schema = {"type": "number", "minimum": 0, "description": "In seconds."}
TIME: Schema = {
    "title": "Time",
    "description": "RFC 3339, in UTC, to the millisecond.",
    "type": "string",
    "format": "date-time",
    "examples": ["2027-01-31T12:00:00.000Z"],
}
STATE: Schema = {
    "title": "State",
    "description": "Where a registered node is in its life.",
    "enum": [state.wire for state in LIVE_STATES],
}
ANY_STATE: Schema = {
    "title": "AnyState",
    "description": "A state, or that a node is not there.",
    "enum": list(WIRE_NAMES),
}
IDENTITY: Schema = {"enum": ["proven", "unproven"], "description": "Whether it ever signed with its key."}
ADDRESS_SOURCE: Schema = {
    "enum": ["observed", "declared"],
    "description": "Whether the node was seen at each address that it names, or only said so.",
}
KEY_STATUS: Schema = {
    "enum": ["valid", "opaque"],
    "description": "Whether signatures can be checked with its key, or it is only text.",
}
DURABLE: Schema = {"type": "boolean", "description": "Whether it would survive a power cut now."}
ADVICE_S: Schema = {
    "type": "number",
    "exclusiveMinimum": 0,
    "description": "When to send the next heartbeat, in seconds.",
}
SESSION: Schema = {"type": "string", "description": "To be sent as `Authorization: OpenRed <session>`."}
IGNORED: Schema = {
    "type": "array",
    "items": TEXT,
    "description": "Parameters of the query that this server does not know.",
}
NODE_ID = schema_of(values.node_id)


def thing(title: str, members: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """The schema of an object with `members`, of which those that are `optional` may be missing."""
    required = [name for name in members if name not in optional]
    shape: Schema = {"title": title, "type": "object", "properties": members}
    return {**shape, "required": required} if required else shape


def listing(items: Schema) -> Schema:
    return {"type": "array", "items": items}


ENDPOINT = thing("NodeEndpoint", {"address": TEXT, "port": schema_of(values.port)})
_NODE: dict[str, Schema] = {
    "node_id": NODE_ID,
    "address": TEXT,
    "port": schema_of(values.port),
    "addresses": listing(ENDPOINT),
    "services": listing(TEXT),
    "state": STATE,
    "last_seen": TIME,
    "metadata": {"type": "object"},
    "public_key_fingerprint": TEXT,
    "identity": IDENTITY,
    "address_source": ADDRESS_SOURCE,
    "region": or_null(TEXT),
    "availability": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "From how recently it was heard, against its own usual gap; 0 in coma and while away.",
    },
}
NODE = thing("Node", _NODE)
DEADLINE = thing("Deadline", {"state": ANY_STATE, "at": TIME, "in_s": DURATION_S})
STEP = thing("Step", {"at": TIME, "from": ANY_STATE, "to": ANY_STATE, "reason": TEXT})
EXPLANATION = thing(
    "Explanation",
    {
        "why": TEXT,
        "silent_s": DURATION_S,
        "usual_gap_s": DURATION_S,
        "in_state_since": TIME,
        "what_to_do": TEXT,
        "deadlines": {**listing(DEADLINE), "description": "Where silence would still lead to, and when."},
        "history": {**listing(STEP), "description": "Its life so far, oldest first."},
    },
)
EXPLAINED_NODE = thing(
    "ExplainedNode",
    {
        **_NODE,
        "public_key": TEXT,
        "key_status": KEY_STATUS,
        "key_generation": COUNT,
        "next_key": or_null(TEXT),
        "registered_at": TIME,
        "revision": COUNT,
        "discoverable": FLAG,
        "away_until": or_null(TIME),
        "explain": EXPLANATION,
    },
)
REGISTERED = thing(
    "Registered",
    {
        "status": {"enum": ["registered", "updated", "revived"]},
        "node_id": NODE_ID,
        "state": STATE,
        "registered_at": TIME,
        "last_seen": TIME,
        "next_heartbeat_due": TIME,
        "heartbeat_advice_s": ADVICE_S,
        "observed_address": {**or_null(TEXT), "description": "Where the caller was seen."},
        "identity": IDENTITY,
        "address_source": ADDRESS_SOURCE,
        "key_status": KEY_STATUS,
        "durable": DURABLE,
        "revision": COUNT,
        "message": TEXT,
        "claim": {
            "type": "string",
            "description": "Told once: proves later changes, as `Authorization: Claim <secret>`.",
        },
        "session": SESSION,
        "previous_state": STATE,
        "asleep_s": DURATION_S,
    },
    optional=("claim", "session", "previous_state", "asleep_s"),
)
HEARTBEAT = thing(
    "HeartbeatReceived",
    {
        "status": only("heartbeat_received"),
        "node_id": NODE_ID,
        "current_state": only(State.ACTIVE.wire),
        "previous_state": STATE,
        "last_heartbeat": TIME,
        "next_heartbeat_due": TIME,
        "heartbeat_advice_s": ADVICE_S,
        "message": TEXT,
        "session": SESSION,
        "revision": {**COUNT, "description": "Where the record changed."},
        "durable": DURABLE,
    },
    optional=("session", "revision", "durable"),
)
DISCOVERED = thing(
    "Discovered",
    {
        "nodes": listing(NODE),
        "total_found": {**COUNT, "description": "All that match services and states."},
        "returned": COUNT,
        "query_time_ms": {"type": "number", "minimum": 0},
        "degraded": {"type": "boolean", "description": "Whether nobody healthy matched."},
        "ignored": IGNORED,
    },
    optional=("ignored",),
)
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
KEY_CHANGED = thing(
    "KeyChanged",
    {
        "status": only("key_changed"),
        "node_id": TEXT,
        "public_key_fingerprint": TEXT,
        "key_generation": COUNT,
        "next_key": or_null(TEXT),
        "revision": COUNT,
        "session": or_null(SESSION),
        "message": TEXT,
        "durable": DURABLE,
    },
)
SESSION_GRANTED = thing(
    "SessionGranted", {"node_id": NODE_ID, "session": or_null(SESSION), "expires_at": TIME, "usage": TEXT}
)
TOKEN_GRANTED = thing(
    "TokenGranted",
    {
        "token_id": TEXT,
        "token": TEXT,
        "node_id": NODE_ID,
        "expires_at": TIME,
        "kid": {"type": "string", "description": "The id of the key that signed it."},
        "public_verification_key": or_null(TEXT),
        "mathematical_link": or_null(TEXT),
        "usage": TEXT,
        "peer_token": TEXT,
        "peer_token_id": TEXT,
        "pair": TEXT,
        "durable": {**DURABLE, "description": "Whether it is on disk that the node is bound to its key."},
    },
    optional=("peer_token", "peer_token_id", "pair", "durable"),
)
VERIFIED = thing(
    "Verified",
    {
        "valid": FLAG,
        "linked": FLAG,
        "reason": {"type": "string", "description": "Why not; empty where all is well."},
        "tokens": listing(
            thing(
                "TokenState",
                {
                    "token_id": TEXT,
                    "node_id": NODE_ID,
                    "expires_at": TIME,
                    "node_state": or_null(ANY_STATE),
                },
            )
        ),
    },
)
REVOKED = thing(
    "Revoked",
    {"status": only("revoked"), "node_id": NODE_ID, "durable": DURABLE, "message": TEXT},
)
KEY_SET = thing(
    "KeySet",
    {
        "keyset": {"type": "string", "description": "The keys and when they count: base64url of JSON."},
        "signature": {"type": "string", "description": "Of the key set, by the root key: base64url."},
        "root": thing("RootKey", {"kid": TEXT, "suite": TEXT, "public_key": TEXT}),
    },
)
_LIMITS = (
    *("nodes_max", "services_max", "addresses_max", "metadata_bytes_max", "metadata_depth_max"),
    *("public_key_bytes_max", "lookup_ids_max", "results_default", "results_max"),
)
WELCOME = thing(
    "Welcome",
    {
        "name": TEXT,
        "version": TEXT,
        "endpoints": listing(TEXT),
        "limits": thing("Limits", dict.fromkeys(_LIMITS, COUNT)),
        "auth": {"enum": ["open", "strict"]},
        "quantum": thing("Quantum", {"root": or_null(TEXT), "pq": FLAG}),
    },
)
LIVE = thing("Live", {"status": only("ok")})
HEALTH = thing(
    "Health",
    {
        "status": {"enum": ["ok", "degraded"]},
        "checks": thing(
            "Checks",
            {
                "directory": {"enum": ["ok", "stopping"]},
                "store": {"enum": ["ok", "behind", "detached"]},
            },
        ),
    },
)
MASS_SILENCE = thing(
    "MassSilence",
    {
        "held": FLAG,
        "since": or_null(TIME),
        "reason": or_null(TEXT),
        "waiting": COUNT,
        "releasing": FLAG,
        "transitions_last_hour": COUNT,
        "transitions_usual_per_h": {"type": "number", "minimum": 0},
    },
)
STATS = thing(
    "Stats",
    {
        "directory": thing(
            "DirectoryFigures",
            {
                "nodes": COUNT,
                "nodes_max": COUNT,
                "nodes_bytes": COUNT,
                "nodes_bytes_max": COUNT,
                "by_state": thing("NodesByState", {state.wire: COUNT for state in LIVE_STATES}),
                "tombstones": COUNT,
                "service_sets": COUNT,
                "nodes_in_rare_sets": COUNT,
                "shards": COUNT,
                "revision": COUNT,
                "digest": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
            },
        ),
        "lifecycle": thing(
            "LifecycleFigures",
            {
                "dwell_s": thing(
                    "DwellTimes", {state.wire: DURATION_S for state in (*LIVE_STATES, State.DEAD)}
                ),
                "transitions": listing(
                    thing(
                        "TransitionCount",
                        {"from": ANY_STATE, "to": ANY_STATE, "reason": TEXT, "count": COUNT},
                    )
                ),
                "set_aside": COUNT,
            },
        ),
        "empathy": thing(
            "EmpathyFigures",
            {
                "patience_left_for": COUNT,
                "revived": COUNT,
                "attended_s": DURATION_S,
                "mass_silence": MASS_SILENCE,
            },
        ),
        "performance": {
            "type": "object",
            "description": "What the parts of this server count; which ones, may change.",
            "additionalProperties": True,
        },
        "time": TIME,
        "version": TEXT,
    },
)

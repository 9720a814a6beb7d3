"""JSON Schemas of values that several endpoints answer with."""

from __future__ import annotations

from ...directory.lifecycle import LIVE_STATES, WIRE_NAMES
from .fields import Schema, or_null, schema_of
from .forecasting import HORIZON_NAMES
from .values import node_id, port

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
DURATION_S: Schema = {"type": "number", "minimum": 0, "description": "In seconds."}
AMOUNT: Schema = {"type": "number", "minimum": 0}
SHARE: Schema = {**AMOUNT, "maximum": 1}
TIME: Schema = {
    "title": "Time",
    "description": "RFC 3339, in UTC, to the millisecond.",
    "type": "string",
    "format": "date-time",
    "examples": ["2027-01-31T12:00:00.000Z"],
}
STATE: Schema = {
    "title": "State",
    "description": "The state of a registered node.",
    "enum": [state.wire for state in LIVE_STATES],
}
ANY_STATE: Schema = {
    "title": "AnyState",
    "description": "The state of a node, also `absent` and `dead`.",
    "enum": list(WIRE_NAMES),
}
IDENTITY: Schema = {
    "enum": ["proven", "unproven"],
    "description": "`proven`: the node is bound to its key, because it signed with it.",
}
ADDRESS_SOURCE: Schema = {
    "enum": ["observed", "declared"],
    "description": "`observed`: the server saw the node at each of its addresses. `declared`: it did not.",
}
KEY_STATUS: Schema = {
    "enum": ["valid", "opaque"],
    "description": "`valid`: signatures can be checked with the key. `opaque`: the key is only text.",
}
DURABLE: Schema = {"type": "boolean", "description": "Whether the change would survive a power cut now."}
EVERYWHERE: Schema = {
    "type": "boolean",
    "description": "In a cluster: whether all instances know it by now, so that none takes former grants.",
}
ADVICE_S: Schema = {
    "type": "number",
    "exclusiveMinimum": 0,
    "description": "When to send the next heartbeat, in seconds.",
}
SESSION: Schema = {"type": "string", "description": "Send it as `Authorization: OpenRed <session>`."}
IGNORED: Schema = {
    "type": "array",
    "items": TEXT,
    "description": "Parameters of the query that this server does not know.",
}
NODE_ID = schema_of(node_id)


def thing(title: str, members: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """Return the schema of an object with `members`, all of them required but the `optional` ones."""
    required = [name for name in members if name not in optional]
    shape: Schema = {"title": title, "type": "object", "properties": members}
    return {**shape, "required": required} if required else shape


def listing(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_NODE: dict[str, Schema] = {
    "node_id": NODE_ID,
    "address": TEXT,
    "port": schema_of(port),
    "addresses": listing(thing("NodeEndpoint", {"address": TEXT, "port": schema_of(port)})),
    "services": listing(TEXT),
    "state": STATE,
    "last_seen": TIME,
    "metadata": {"type": "object"},
    "public_key_fingerprint": TEXT,
    "identity": IDENTITY,
    "address_source": ADDRESS_SOURCE,
    "region": or_null(TEXT),
    "availability": {
        **SHARE,
        "description": "The chance that the node answers now, in grades; 0 while away. A directory that "
        "keeps no habits tells how recent the last sign of life is, against the node's own usual gap.",
    },
    "late": {**FLAG, "description": "Whether a sign of life is overdue."},
    "back_within_day": {
        **SHARE,
        "description": "The chance that a late node is heard again within a day, in tenths.",
    },
}
# Only where the directory keeps habits, and the second one only for late nodes.
_EXPECTED = ("late", "back_within_day")
# As `describing.descriptions` and `describing.explain` make them.
NODE = thing("Node", _NODE, optional=_EXPECTED)
DEADLINE = thing(
    "Deadline",
    {
        "state": ANY_STATE,
        "at": TIME,
        "in_s": DURATION_S,
        "extended_s": {**DURATION_S, "description": "How much later it is than usual; to the node itself."},
        "because": {**TEXT, "description": "Why it is later than usual."},
    },
    optional=("extended_s", "because"),
)
STEP = thing("Step", {"at": TIME, "from": ANY_STATE, "to": ANY_STATE, "reason": TEXT})
EXPLANATION = thing(
    "Explanation",
    {
        "why": TEXT,
        "silent_s": DURATION_S,
        "usual_gap_s": DURATION_S,
        "in_state_since": TIME,
        "what_to_do": TEXT,
        "deadlines": {
            **listing(DEADLINE),
            "description": "The states that silence still leads to, and when.",
        },
        "history": {**listing(STEP), "description": "The transitions so far, oldest first."},
    },
)
FORECAST = thing(
    "Forecast",
    {
        "now": {**SHARE, "description": "The chance that it answers now; for strangers, in grades."},
        "late": FLAG,
        "days": {**COUNT, "description": "The days on which it was heard, up to 255."},
        "basis": {"enum": ["own", "others"], "description": "Its own history, or nodes like it."},
        "back_within": thing("BackWithin", dict.fromkeys(HORIZON_NAMES, SHARE)),
        "words": TEXT,
        "private": {
            **thing(
                "PrivateForecast",
                {
                    "due_at": or_null(TIME),
                    "hours": or_null({**listing(SHARE), "description": "Its chance of each hour in UTC."}),
                    "usual_hours": or_null(TEXT),
                    "usual_absence_s": or_null(DURATION_S),
                    "longest_absence_s": or_null(DURATION_S),
                    "absences": COUNT,
                    "follows_advice": FLAG,
                },
            ),
            "description": "For the node itself and operators alone.",
        },
    },
    optional=("private",),
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
        "forecast": FORECAST,
        "explain": EXPLANATION,
    },
    optional=(*_EXPECTED, "forecast"),
)

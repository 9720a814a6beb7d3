"""``GET /events``: live events (server-sent events, WHATWG HTML §9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from ..errors import CallerError
from ..micro_engine.wire.messages import Request, StreamingResponse
from ..wording import counted
from .endpoint import Endpoint, Reply, Where
from .feed.event_log import event_bytes
from .service import Api
from .wire import values
from .wire.fields import Field, Fields, Wrong, takes

EVENT_STREAM_TYPE = "text/event-stream"
# Subscribers that lost their connections together reconnect spread over this time.
RETRY_MS_MIN = 2_000
RETRY_MS_MAX = 5_000
FULL_RETRY_AFTER_S = 30
RECENT_MAX = 1_000
# Keeps proxies from buffering events (nginx reads this field).
_HEADERS = (("X-Accel-Buffering", "no"),)


@takes({"type": "string"})
def _event_id(value: Any) -> str:
    return str(value)


@takes({"type": "boolean"})
def _history(value: Any) -> bool:
    if value not in ("true", "false"):
        raise Wrong("has to be true or false")
    return bool(value == "true")


LAST_EVENT_ID = Field(
    "last_event_id", _event_id, "For callers that cannot send the header `Last-Event-ID`, which it replaces."
)
RECENT = Field("recent", values.whole_number(0, RECENT_MAX), "The number of past events to send first.")
HISTORY = Field("history", _history, "Whether to send the figures of the last hour first.")
NODES = Field(
    "nodes",
    values.watched_ids,
    "Ids of nodes: the stream then tells of these alone, first how each is, then what happens to it.",
)
FIELDS: tuple[Field[Any], ...] = (LAST_EVENT_ID, RECENT, HISTORY, NODES)


async def events(api: Api, request: Request) -> StreamingResponse:
    fields = Fields.of_query(request.query, FIELDS)
    last_event_id = request.headers.get("last-event-id") or fields.take(LAST_EVENT_ID, "")
    recent = fields.take(RECENT, 0)
    history = fields.take(HISTORY, False)
    node_ids = fields.take(NODES)
    for field in (RECENT, HISTORY):
        if node_ids and fields.has(field):
            fields.reject(field.name, f"cannot be sent with {NODES.name}")
    fields.finish()
    charged = () if node_ids is None else api.limits.charge_address("discover", request)
    _require_place(api)
    head = b"retry: %d\n\n" % (RETRY_MS_MIN + int(api.random() * (RETRY_MS_MAX - RETRY_MS_MIN)))
    if fields.ignored:
        # A comment (§9.2.5): clients skip it, people see it.
        head += b": ignored %b\n\n" % orjson.dumps(fields.ignored)
    if node_ids is None:
        pieces: AsyncIterator[bytes] = _follow(api, head, last_event_id, recent, history=history)
    else:
        pieces = api.watching.join(head, node_ids, last_event_id)
    return StreamingResponse(pieces, content_type=EVENT_STREAM_TYPE, headers=(*_HEADERS, *charged))


def _follow(api: Api, head: bytes, last_event_id: str, recent: int, *, history: bool) -> AsyncIterator[bytes]:
    """Return the stream of all events behind the last one, or of `recent` ones."""
    log = api.broadcast.log
    number = log.number(last_event_id) if last_event_id else max(log.first - 1, log.last - recent)
    if number is None:
        number = log.last
        reason = {"reason": "The events behind your last one are no longer kept."}
        head += event_bytes(log.event_id(number), "reset", reason)
    if history:
        head += event_bytes(log.event_id(number), "history", api.broadcast.history.document())
    return api.broadcast.join(head, number)


def _require_place(api: Api) -> None:
    """Raise `CallerError` 503 ``too_many_subscribers`` if there is no place for another subscriber."""
    broadcast = api.broadcast
    if broadcast.places_taken >= broadcast.subscribers_max:
        broadcast.refused += 1
        raise CallerError(
            503,
            "too_many_subscribers",
            f"The limit of {counted(broadcast.subscribers_max, 'event subscriber')} is reached.",
            suggestion="Try again later, or poll GET /stats.",
            headers=(("Retry-After", str(FULL_RETRY_AFTER_S)),),
        )


EVENTS = Endpoint(
    "GET",
    "/events",
    events,
    name="followEvents",
    tag="Server",
    summary="Follow events live",
    description="Server-sent events: transitions of nodes, and figures. The stream begins behind the last "
    "event that the caller received, or with the current figures. `reset` means that the events behind that "
    "one are no longer kept. With `nodes`, an event `node` tells how each of these is, and then each time "
    "one is heard after a silence, moves, changes its services or other data, leaves, or is gone. A hidden "
    "node looks like an unknown one. After a break, only nodes to which something may have happened are told "
    "again.",
    query=FIELDS,
    headers={"Last-Event-ID": "The id of the last event received; it takes precedence over the query."},
    replies={200: Reply("Events without end.", {"type": "string"}, EVENT_STREAM_TYPE)},
    problems=("too_many_subscribers", "rate_limited"),
    where=Where.ANYWHERE,
)

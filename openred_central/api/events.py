"""``GET /events``: what happens, as it happens (server-sent events, WHATWG HTML §9.2)."""

from __future__ import annotations

from typing import Any

import orjson

from ..errors import CallerError
from ..micro_engine.wire.messages import Request, StreamingResponse
from .feed.event_log import event_bytes
from .service import Api
from .wire.fields import Field, Fields, Wrong
from .wire.kinds import takes

EVENT_STREAM_TYPE = "text/event-stream"
# Clients that were all cut off at once come back spread over this time.
RETRY_MS_MIN = 2_000
RETRY_MS_MAX = 5_000
FULL_RETRY_AFTER_S = 30
RECENT_MAX = 1_000
# Proxies that gather answers would hold events back (nginx reads this field).
_HEADERS = (("X-Accel-Buffering", "no"),)


@takes({"type": "string"})
def _event_id(value: Any) -> str:
    return str(value)


@takes({"type": "integer", "minimum": 0, "maximum": RECENT_MAX})
def _recent(value: Any) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and int(value) <= RECENT_MAX):
        raise Wrong(f"has to be a whole number from 0 to {RECENT_MAX}")
    return int(value)


@takes({"type": "boolean"})
def _history(value: Any) -> bool:
    if value not in ("true", "false"):
        raise Wrong("has to be true or false")
    return bool(value == "true")


LAST_EVENT_ID = Field(
    "last_event_id", _event_id, "The same as the header `Last-Event-ID`, for who cannot send that."
)
RECENT = Field("recent", _recent, "So many of the last events come first.")
HISTORY = Field("history", _history, "Whether the figures of the last hour come before all else.")
FIELDS: tuple[Field[Any], ...] = (LAST_EVENT_ID, RECENT, HISTORY)


async def events(api: Api, request: Request) -> StreamingResponse:
    """Answer 200 with a stream that begins behind ``Last-Event-ID``, or with the figures of this moment.

    Raises `CallerError`: 400 ``bad_request``, 503 ``too_many_subscribers``.
    """
    fields = Fields.of_query(request.query, FIELDS)
    last_event_id = request.headers.get("last-event-id") or fields.take(LAST_EVENT_ID, "")
    recent = fields.take(RECENT, 0)
    history = fields.take(HISTORY, False)
    fields.finish()
    broadcast = api.broadcast
    if broadcast.full:
        broadcast.refused += 1
        raise CallerError(
            503,
            "too_many_subscribers",
            f"{broadcast.readers_max} clients follow the events already, which is all that may.",
            suggestion="Come back later, or ask for GET /stats now and then.",
            headers=(("Retry-After", str(FULL_RETRY_AFTER_S)),),
        )
    log = broadcast.log
    head = b"retry: %d\n\n" % (RETRY_MS_MIN + int(api.random() * (RETRY_MS_MAX - RETRY_MS_MIN)))
    if fields.ignored:
        # A comment (§9.2.5): clients pass over it, people see it.
        head += b": ignored %b\n\n" % orjson.dumps(fields.ignored)
    number = log.number(last_event_id) if last_event_id else max(log.first - 1, log.last - recent)
    if number is None:
        number = log.last
        reason = {"reason": "What came behind your last event is not known any more."}
        head += event_bytes(log.event_id(number), "reset", reason)
    if history:
        head += event_bytes(log.event_id(number), "history", broadcast.history.document())
    return StreamingResponse(broadcast.join(head, number), content_type=EVENT_STREAM_TYPE, headers=_HEADERS)

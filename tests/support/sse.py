"""A small reader of server-sent events (WHATWG HTML §9.2.6), written from the standard, not our writer."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson


class Event(NamedTuple):
    """One event as a browser dispatches it; `last_id` is what it would send as Last-Event-ID from then on."""

    name: str
    document: Any
    last_id: str


def read_events(content: bytes) -> tuple[list[Event], list[str], int | None]:
    """Return the events of a stream, or a part that ends with an event; its comments; the last ``retry``."""
    events: list[Event] = []
    comments: list[str] = []
    retry_ms: int | None = None
    last_id, name, data = "", "", ""
    for line in content.decode("utf-8").split("\n"):
        if not line:
            if data:
                events.append(Event(name or "message", orjson.loads(data.removesuffix("\n")), last_id))
            name, data = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not field:
            comments.append(value)
        elif field == "event":
            name = value
        elif field == "data":
            data += f"{value}\n"
        elif field == "id":
            last_id = value
        elif field == "retry":
            retry_ms = int(value)
        else:
            raise AssertionError(f"an unknown field: {line!r}")
    assert not data, "the stream ends within an event"
    return events, comments, retry_ms

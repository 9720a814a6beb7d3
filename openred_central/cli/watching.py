"""``watch``: what happens at a directory, a line for each event, until Ctrl-C."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from ..client.answers import Answer
from ..client.errors import ForeignAnswer, problem
from ..wording import counted
from .showing import Document, Style, coloured, safe

# Comments come every 15 s: who says nothing for so long is gone.
SILENCE_S_MAX = 60.0
RETRY_S = 3.0
LINE_BYTES_MAX = 1 << 20
# Whatever else is called an id cannot be sent back.
_EVENT_ID = re.compile(r"[!-~]{1,128}", re.ASCII)
_PASSING = (408, 429, 500, 502, 503, 504)
DONE, REFUSED, UNREACHED = 0, 1, 3


class Event(NamedTuple):
    """One event of a stream: its `id` to go on behind, its `name`, and what it says."""

    id: str
    name: str
    data: Document


class Unreached(Exception):
    """The directory does not answer, or ended the stream. The message is one line."""


class Refused(Exception):
    """The directory itself refuses to be watched. The message is what it says."""


class Later(Refused):
    """The directory refuses for now: it has too many who watch, or is asked too often."""


def read_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events in the lines of a stream (WHATWG HTML §9.2.6); what cannot be read is passed over."""
    event_id, name, data = "", "message", list[str]()
    for line in lines:
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            event_id = value if _EVENT_ID.fullmatch(value) else ""
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif not field and not value:
            if data and (document := _document("\n".join(data))) is not None:
                yield Event(event_id, name, document)
            name, data = "message", []


def show(event: Event, style: Style) -> list[str]:
    """The lines for people of an event; none for figures, which come every second."""
    data = event.data
    if event.name == "transition":
        who = "a hidden node" if data.get("hidden") else safe(data.get("node_id"))
        return [f"{safe(data.get('at'))}  {who}  {_change(data, style)}"]
    # All of them, counted; where each was told by name already there is nothing to add.
    if event.name == "transitions" and data.get("count") != data.get("named"):
        kinds = data.get("kinds")
        return [
            f"{safe(data.get('at'))}  {_nodes(kind.get('count'))}  {_change(kind, style)}"
            for kind in (kinds if isinstance(kinds, list) else [])
            if isinstance(kind, dict)
        ]
    if event.name == "reset":
        return ["what happened in between is not known any more; it goes on from here"]
    return []


def watch(
    url: str,
    *,
    recent: int,
    tell: Callable[[Event], None],
    complain: Callable[[str], None],
    pause: Callable[[float], object],
) -> int:
    """Tell every event at the directory `url` for as long as it may be watched, beginning `recent` ones ago.

    Where the stream breaks it goes on behind the last event after a `pause`. Returns an exit code: it ends
    only where the directory itself refuses, or was never reached.
    """
    last_id, reached = "", False
    while True:
        try:
            for event in _stream(url, recent, last_id):
                reached, last_id = True, event.id or last_id
                tell(event)
            raise Unreached(f"{url} has ended the stream")
        except (Refused, Unreached) as error:
            passes = isinstance(error, Unreached | Later)
            if not passes or not reached:
                complain(str(error))
                return REFUSED if isinstance(error, Refused) else UNREACHED
            complain(f"{error}; trying again")
            pause(RETRY_S)


def _stream(url: str, recent: int, last_id: str) -> Iterator[Event]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=SILENCE_S_MAX)
    path = f"{parts.path.rstrip('/')}/events" + (f"?recent={recent}" if recent and not last_id else "")
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(url, response)
        yield from read_events(iter(lambda: response.readline(LINE_BYTES_MAX), b""))
    except ConnectionRefusedError:
        raise Unreached(f"connection refused: is the server running on {url}?") from None
    except (OSError, http.client.HTTPException) as error:
        raise Unreached(f"no answer from {url}: {error or type(error).__name__}") from None
    finally:
        connection.close()


def _refusal(url: str, response: http.client.HTTPResponse) -> Refused | Unreached:
    """Why there is no stream; what is not the directory's own word is as good as no answer."""
    headers = {name.lower(): value for name, value in response.getheaders()}
    body = response.read(LINE_BYTES_MAX)
    refused = problem(Answer(response.status, headers, body, keep_alive=False), 0.0)
    if isinstance(refused, ForeignAnswer):
        return Unreached(f"{url}: {refused}")
    kind = Later if refused.status in _PASSING else Refused
    return kind(f"{refused.status}: {safe(refused.message)}")


def _document(text: str) -> Document | None:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _change(data: Document, style: Style) -> str:
    states = [coloured(safe(data.get(name)), style) for name in ("from", "to")]
    return f"{states[0]} → {states[1]}  ({safe(data.get('reason'))})"


def _nodes(count: object) -> str:
    return counted(count, "node") if isinstance(count, int) else f"{safe(count)} nodes"

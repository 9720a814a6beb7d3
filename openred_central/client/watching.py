"""Events of watched nodes, read from a stream (server-sent events, WHATWG HTML §9.2.6). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import orjson

from .answers import BadAnswer

# More than the longest description of a node takes.
LINE_BYTES_MAX: Final = 256 * 1024
# Only such an id can be sent back in a header.
_EVENT_ID: Final = re.compile(r"[!-~]{1,128}", re.ASCII)


class NodeEvent(NamedTuple):
    """Something that happened to a watched node, and how the node is then.

    `what` are names such as ``heard`` and ``moved``, see ``docs/http-api.md``; ``now`` is how the node is at
    the beginning, or after a break. `node` is its description, None for a node that is unknown, gone or
    hidden. `at` is the time of the directory, in RFC 3339.
    """

    node_id: str
    what: tuple[str, ...]
    node: dict[str, Any] | None
    at: str


class EventReader:
    """The reader of one stream that may break and go on; `last_id` is the place to resume from."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._buffer = bytearray()
        self._begin()

    def restart(self) -> None:
        """Begin anew after a break: what came of an unfinished event does not count."""
        self._buffer.clear()
        self._begin()

    def _begin(self) -> None:
        self._id, self._name, self._data = self.last_id, "", list[str]()

    def feed(self, piece: bytes) -> Iterator[NodeEvent]:
        """Yield the events that are complete with `piece`. Raises `BadAnswer` for a line without end."""
        self._buffer += piece
        *lines, rest = self._buffer.split(b"\n")
        if max(map(len, (*lines, rest))) > LINE_BYTES_MAX:
            raise BadAnswer(
                f"a line of the stream has more than {LINE_BYTES_MAX:,} bytes, which is the limit"
            )
        self._buffer = rest
        for line in lines:
            event = self._take(line.decode("utf-8", "replace").removesuffix("\r"))
            if event is not None:
                yield event

    def _take(self, line: str) -> NodeEvent | None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            self._id = value if _EVENT_ID.fullmatch(value) else ""
        elif field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif not line:
            self.last_id, name, data = self._id, self._name, "\n".join(self._data)
            self._begin()
            return _node_event(data) if name == "node" else None
        return None


def _node_event(text: str) -> NodeEvent | None:
    """Return the event in `text`; None for one that is not of a node, from a later version perhaps."""
    try:
        document = orjson.loads(text)
        node_id, what, node, at = (document[name] for name in ("node_id", "what", "node", "at"))
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(node_id, str) or not isinstance(what, list) or not isinstance(node, dict | None):
        return None
    return NodeEvent(node_id, tuple(map(str, what)), node, str(at))

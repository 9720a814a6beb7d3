"""`watch`: print the events of a directory, or of some nodes, a line for each, until Ctrl-C."""

from __future__ import annotations

import argparse
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import urlencode

import orjson

from ..client.answers import Answer
from ..client.errors import ForeignAnswer, problem
from ..exit_codes import ExitCode
from ..http_requests import NoReply, opened, read_reply
from ..wording import counted
from .command import JSON, URL, Command, argument
from .console import Console, Style
from .request_command import EXIT_CODES, directory_url, require_text
from .showing import Document, coloured, objects, safe

# The server sends a comment every 15 s.
SILENCE_S_MAX: Final = 60.0
RETRY_S: Final = 3.0
LINE_BYTES_MAX: Final = 1 << 20
# Only such an id can be sent back in a header.
_EVENT_ID: Final = re.compile(r"[!-~]{1,128}", re.ASCII)
_PASSING: Final = (408, 429, 500, 502, 503, 504)


class StreamEvent(NamedTuple):
    """One event of a stream: the `id` to resume after, its `name`, and its data."""

    id: str
    name: str
    data: Document


class WatchRefused(Exception):
    """The directory refuses the subscription. The message says why."""


class WatchLater(WatchRefused):
    """The directory refuses for now: it has too many subscribers, or gets too many requests."""


def read_events(lines: Iterable[bytes]) -> Iterator[StreamEvent]:
    """Yield the events in the lines of a stream (WHATWG HTML §9.2.6), and skip events that cannot be read.

    A new id without data is a place to resume from, and comes as an event without a name.
    """
    event_id, last_id, name, data = "", "", "message", list[str]()
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
                yield StreamEvent(event_id, name, document)
            elif not data and event_id != last_id:
                yield StreamEvent(event_id, "", {})
            last_id = event_id
            name, data = "message", []


def show(event: StreamEvent, style: Style) -> list[str]:
    """Return the lines for people of an event; none for figures, which come every second."""
    data = event.data
    if event.name == "transition":
        node = "a hidden node" if data.get("hidden") else safe(data.get("node_id"))
        return [f"{safe(data.get('at'))}  {node}  {_change(data, style)}"]
    if event.name == "node":
        return [f"{safe(data.get('at'))}  {safe(data.get('node_id'))}  {_node(data, style)}"]
    # Show counts only if not every transition was named before.
    if event.name == "transitions" and data.get("count") != data.get("named"):
        return [
            f"{safe(data.get('at'))}  {_nodes(kind.get('count'))}  {_change(kind, style)}"
            for kind in objects(data.get("kinds"))
        ]
    if event.name == "network":
        return [f"{safe(data.get('at'))}  {safe(data.get('group'))} is {safe(data.get('state'))}"]
    if event.name == "reset":
        return ["events in between are lost; the stream goes on from here"]
    return []


def run(options: argparse.Namespace, console: Console) -> int:
    """Print every event, until the directory refuses or Ctrl-C."""
    require_text(options)
    if options.nodes and options.recent:
        console.complain("--recent is for the events of all nodes; leave it out, or name no nodes")
        return ExitCode.USAGE

    def report(event: StreamEvent) -> None:
        if options.json:
            document = {"event": event.name, "id": event.id, "data": event.data}
            console.say(orjson.dumps(document).decode())
        for line in [] if options.json else show(event, console.style):
            console.say(line)

    # Ctrl-C ends this wait for an event that never comes.
    pause = threading.Event().wait
    url = directory_url(options, console)
    return watch(
        url,
        recent=options.recent,
        nodes=options.nodes or "",
        report=report,
        complain=console.complain,
        pause=pause,
    )


def watch(
    url: str,
    *,
    recent: int,
    nodes: str = "",
    report: Callable[[StreamEvent], None],
    complain: Callable[[str], None],
    pause: Callable[[float], object],
) -> int:
    """Report every event of the directory at `url`, beginning with the last `recent` ones.

    With `nodes`, ids that are joined by commas, report how these are, and what happens to them, instead.
    After a `pause`, resume a broken stream behind its last event. Return an exit code if the directory itself
    refuses, or was never reached.
    """
    last_id, reached = "", False
    while True:
        try:
            for event in _stream(url, recent, nodes, last_id):
                reached, last_id = True, event.id or last_id
                if event.name:
                    report(event)
            raise NoReply(f"{url} has ended the stream")
        except (WatchRefused, NoReply) as error:
            passes = isinstance(error, NoReply | WatchLater)
            if not passes or not reached:
                complain(str(error))
                return ExitCode.FAILED if isinstance(error, WatchRefused) else ExitCode.UNREACHED
            complain(f"{error}; trying again")
            pause(RETRY_S)


def _stream(url: str, recent: int, nodes: str, last_id: str) -> Iterator[StreamEvent]:
    query = {"nodes": nodes} if nodes else {"recent": recent} if recent and not last_id else {}
    target = f"/events?{urlencode(query, safe=',:')}" if query else "/events"
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    with opened("GET", url, target, headers=headers, timeout_s=SILENCE_S_MAX) as response:
        if response.status != 200:
            reply = read_reply(response, LINE_BYTES_MAX)
            raise _refusal(url, Answer(reply.status, reply.headers, reply.body, keep_alive=False))
        yield from read_events(iter(lambda: response.readline(LINE_BYTES_MAX), b""))


def _refusal(url: str, answer: Answer) -> WatchRefused | NoReply:
    """Return why there is no stream; an answer that is not the directory's own counts as none."""
    refused = problem(answer, 0.0)
    if isinstance(refused, ForeignAnswer):
        return NoReply(f"{url}: {refused}")
    kind = WatchLater if refused.status in _PASSING else WatchRefused
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


def _node(data: Document, style: Style) -> str:
    """Return what happened to a watched node, and how it is."""
    what, node = data.get("what"), data.get("node")
    happened = ", ".join(map(safe, what)) if isinstance(what, list) else safe(what)
    if not isinstance(node, dict):
        return f"{happened}: unknown, or hidden"
    late = ", late" if node.get("late") else ""
    address, services = node.get("address"), node.get("services")
    names = ", ".join(map(safe, services)) if isinstance(services, list) else ""
    return (
        f"{happened}: {coloured(safe(node.get('state')), style)}{late}, at {safe(address)} port "
        f"{safe(node.get('port'))}{f', {names}' if names else ''}"
    )


def _nodes(count: object) -> str:
    return counted(count, "node") if isinstance(count, int) else f"{safe(count)} nodes"


COMMAND = Command(
    "watch",
    "print the events of a directory, or of some nodes, as they happen",
    run,
    (
        argument("nodes", metavar="NODES", nargs="?", help="ids of nodes, joined by commas; default: all"),
        argument(
            "--recent",
            metavar="COUNT",
            type=int,
            default=0,
            help="begin with this many past events; at most 1000",
        ),
        URL,
        JSON,
    ),
    """\
  openred-central watch
  openred-central watch alice,bob
  openred-central watch --recent 50 --json | jq -r 'select(.event == "transition") | .data.node_id'
""",
    EXIT_CODES,
    settings=False,
)

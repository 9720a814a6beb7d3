"""The fast path: requests that differ from earlier ones in nothing that matters skip parser and handler.

Clients send equal header sections again and again, also on new connections, and proxies add fields that
decide nothing. Once two requests to a route had equal sections, apart from `IGNORED`, `Route.prepare` makes
what answers all further ones from the last segment of the path. It decides nothing of its own, and leaves
every request that is not the plainest case to the handler. Exchanges that the observer wants, and connections
that drain, take the ordinary way. `Router(fast_path=False)` turns all of it off.
"""

from __future__ import annotations

import re
import string
from typing import Final

from .limits import HEADER_FIELDS_MAX
from .outgoing import Outgoing
from .router import Answer, Respond, Route
from .shared import Shared
from .wire.fields import CONTROLS
from .wire.messages import Request

# Proxies add these fields, with other values in each request; no prepared answer depends on them.
IGNORED: Final = frozenset(
    {
        *(b"forwarded", b"via", b"x-real-ip", b"x-request-id", b"x-correlation-id"),
        *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto"),
        *(b"traceparent", b"tracestate", b"x-amzn-trace-id", b"x-cloud-trace-context", b"cf-ray"),
    }
)
# A longer segment, or one with other characters, takes the ordinary way, which decides all of that.
SEGMENT_BYTES_MAX: Final = 256
# Longer header sections take the ordinary way; known ones are kept in memory with what answers them.
SECTION_BYTES_MAX: Final = 1_024
SECTIONS_MAX: Final = 4_096
# So many requests are answered at once; then other connections may have their turn.
PIPELINED_MAX: Final = 64
# Signed requests (RFC 9421 §4.1) never repeat, so they spend no time here.
_SIGNED: Final = b"\r\nSignature-Input:"
# Lines of `IGNORED` fields with valid values.
_IGNORED_LINES: Final = re.compile(
    b"\r\n(?:%b):[^%b]*(?=\r\n)" % (b"|".join(map(re.escape, sorted(IGNORED))), re.escape(CONTROLS)),
    re.IGNORECASE,
)
_PLAIN: Final = f"{string.ascii_letters}{string.digits}-._~:".encode()
_LINE_END: Final = b" HTTP/1.1\r\n"
_SECTION_END: Final = b"\r\n\r\n"


def take(data: bytes, peer: str, shared: Shared, out: Outgoing) -> bytes | None:
    """Answer the requests from `peer` at the front of `data`.

    Returns the rest of `data`; None if the connection must close after the last request answered.
    """
    observer = shared.observer
    if shared.draining or (observer is not None and not observer.passes):
        return data
    for beginning in shared.router.prepared:
        if data.startswith(beginning):
            break
    else:
        return data
    route = shared.router.prepared[beginning]
    line, _, section = data.partition(_LINE_END)
    known = route.known.get(section)
    if known is None:
        if _SIGNED in data:
            return data
        if section.find(_SECTION_END) + len(_SECTION_END) == len(section) <= SECTION_BYTES_MAX:
            known = route.known.get(_essence(section))
    if known is not None:
        # One request, as nearly always.
        respond, keep_alive = known
        reply = respond(line[len(beginning) :], peer)
        if reply is None:
            return data
        out.write(reply)
        answered, rest = 1, b"" if keep_alive else None
    else:
        passes = PIPELINED_MAX if observer is None else observer.passes
        answered, rest = _take_pipeline(data, beginning, route, peer, passes, out)
        if not answered:
            return data
    if observer is not None:
        observer.passes -= answered
    return rest


def _take_pipeline(
    data: bytes, beginning: bytes, route: Route, peer: str, passes: int, out: Outgoing
) -> tuple[int, bytes | None]:
    """Answer requests that came together, with one write.

    Return their number, at most `passes`, and what is left of `data`, as `take` does.
    """
    replies: list[bytes] = []
    start, keep_alive = 0, True
    while len(replies) < min(passes, PIPELINED_MAX) and keep_alive and data.startswith(beginning, start):
        segment_start = start + len(beginning)
        line_end = data.find(_LINE_END, segment_start, segment_start + SEGMENT_BYTES_MAX + len(_LINE_END))
        section_start = line_end + len(_LINE_END)
        end = data.find(_SECTION_END, section_start, section_start + SECTION_BYTES_MAX) + len(_SECTION_END)
        if line_end < 0 or end < section_start:
            break
        known = route.known.get(_essence(data[section_start:end]))
        if known is None:
            break
        respond, is_kept = known
        reply = respond(data[segment_start:line_end], peer)
        if reply is None:
            break
        replies.append(reply)
        start, keep_alive = end, is_kept
    if replies:
        out.write(b"".join(replies))
    return len(replies), data[start:] if keep_alive else None


def _responder(answer: Answer, keep_alive: bool, route: Route, shared: Shared) -> Respond:
    """Return what answers and counts requests of one header section, each by its segment and peer."""
    turn, encode, cors, responses = shared.turn, shared.encoder.json, route.cors, route.responses

    def respond(segment: bytes, peer: str) -> bytes | None:
        if not 0 < len(segment) <= SEGMENT_BYTES_MAX or segment.translate(None, _PLAIN):
            return None
        if not turn.has_begun:
            turn.begin()
        try:
            answered = answer(segment.decode("ascii"), peer)
        except Exception as error:  # noqa: BLE001
            # The handler answers, or fails in its own way.
            shared.report(error, Request(route.method, route.template, peer=peer))
            return None
        if answered is None:
            return None
        turn.answered += 1
        responses[2] += 1
        body, fields = answered
        return encode(body, fields, keep_alive, cors)

    return respond


def learn(request: Request, route: Route, section: bytes, shared: Shared) -> None:
    """Prepare what answers further requests like `request`, if one with such a header `section` came before.

    HTTP/1.0 takes the ordinary way: its sections need no Host. So does one whose `section`
    is empty because it was too long: it would equal any other such section.
    """
    if (
        route.prepare is None
        or request.version != 11
        or "signature-input" in request.headers
        or len(section) > SECTION_BYTES_MAX
    ):
        return
    essence = _essence(section)
    if not essence:
        return
    if essence not in route.seen:
        if len(route.seen) >= SECTIONS_MAX:
            route.seen.clear()
        route.seen.add(essence)
    elif essence not in route.known:
        answer = route.prepare(request)
        if answer is not None:
            if len(route.known) >= SECTIONS_MAX:
                route.known.clear()
            route.known[essence] = _responder(answer, request.keep_alive, route, shared), request.keep_alive


def _essence(section: bytes) -> bytes:
    """Return a header section without the `IGNORED` fields; empty if it has too many fields.

    A field that is not valid (RFC 9110 §5.5) stays, and no section that was answered has such a field.
    """
    if section.count(b"\r\n") > HEADER_FIELDS_MAX + 1:
        return b""
    return _IGNORED_LINES.sub(b"", b"\r\n" + section)[2:]

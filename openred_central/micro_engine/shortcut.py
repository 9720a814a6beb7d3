"""The fast path: requests that repeat skip parser, router and handler.

A client that keeps its connection sends equal bytes again and again, except for the last segment of the path.
Once a connection has seen two such requests, a `Shortcut` keeps what follows from the equal parts, recognises
further ones by how they begin and end, and answers them from the parameter between.

`Route.prepare` makes these answers; it decides nothing of its own, and leaves every request that is not the
plainest case to the handler. Exchanges that the observer wants, and connections that drain, take the ordinary
way. `Router(fast_path=False)` turns all of it off.
"""

from __future__ import annotations

import string
from typing import Final

from .outgoing import Outgoing
from .router import Answer, Route
from .shared import Shared
from .wire.messages import Request

# A longer segment, or one with other characters, takes the ordinary way, which decides all of that.
SEGMENT_BYTES_MAX: Final = 256
# So many requests are answered at once; then other connections may have their turn.
PIPELINED_MAX: Final = 64
_PLAIN: Final = f"{string.ascii_letters}{string.digits}-._~:".encode()


class Shortcut:
    """The answers of `answer` to requests of one connection to `route` with the header section `section`."""

    __slots__ = ("_answer", "_beginning", "_ending", "_section", "_shared", "route")

    def __init__(self, route: Route, section: bytes, answer: Answer, shared: Shared) -> None:
        self._shared = shared
        self.route = route
        self._section = section
        self._answer = answer
        # All bytes of a request before its parameter, and behind it.
        self._beginning = f"{route.method} {_beginning_of(route)}".encode()
        self._ending = b" HTTP/1.1\r\n" + section

    def is_for(self, route: Route, section: bytes) -> bool:
        """Return whether it is for requests to `route` with this header section."""
        return self.route is route and self._section == section

    def parameters(self, data: bytes) -> list[str]:
        """Return the parameters of the requests that `data` is; none if any of it is something else."""
        beginning, ending = self._beginning, self._ending
        if not (data.endswith(ending) and data.startswith(beginning)):
            return []
        segments = data[len(beginning) : -len(ending)].split(ending + beginning, PIPELINED_MAX)
        if len(segments) > PIPELINED_MAX or b"".join(segments).translate(None, _PLAIN):
            return []
        if not all(0 < len(segment) <= SEGMENT_BYTES_MAX for segment in segments):
            return []
        return [segment.decode("ascii") for segment in segments]

    def take(self, data: bytes, now_s: float, out: Outgoing) -> bytes:
        """Answer the requests at the front of `data`, which came at `now_s`. Return the rest of `data`.

        Raises what `answer` raises; nothing is written then.
        """
        shared, observer = self._shared, self._shared.observer
        if shared.draining or (observer is not None and not observer.passes):
            return data
        # One request, as `parameters` reads it: written out, because it is the hottest path of the engine.
        answered, rest = 1, b""
        beginning, ending = self._beginning, self._ending
        segment = data[len(beginning) : -len(ending)]
        if (
            0 < len(segment) <= SEGMENT_BYTES_MAX
            and data.endswith(ending)
            and data.startswith(beginning)
            and not segment.translate(None, _PLAIN)
        ):
            answer = self._answer(segment.decode("ascii"))
            if answer is None:
                return data
            out.write(shared.encoder.json(*answer, cors=self.route.cors))
        else:
            answered, rest = self._take_pipelined(data, out)
            if not answered:
                return data
        if observer is not None:
            observer.passes -= answered
        stats = shared.stats
        stats.requests += answered
        stats.responses[2] += answered
        self.route.responses[2] += answered
        stats.latency.observe(shared.clock.monotonic_s() - now_s, answered)
        return rest

    def _take_pipelined(self, data: bytes, out: Outgoing) -> tuple[int, bytes]:
        """Answer as many requests as possible with one write. Return their number, and the rest of `data`."""
        shared = self._shared
        passes = PIPELINED_MAX if shared.observer is None else shared.observer.passes
        replies: list[bytes] = []
        taken_bytes = 0
        for parameter in self.parameters(data)[:passes]:
            answer = self._answer(parameter)
            if answer is None:
                break
            replies.append(shared.encoder.json(*answer, cors=self.route.cors))
            taken_bytes += len(self._beginning) + len(parameter) + len(self._ending)
        if replies:
            out.write(b"".join(replies))
        return len(replies), data[taken_bytes:]


def shortcut_for(request: Request, route: Route, section: bytes, shared: Shared) -> Shortcut | None:
    """Return the shortcut for requests like `request`, whose header section is `section`; None without one.

    There is none where a path without parameters goes before the parameter, and for HTTP/1.0, whose sections
    need no Host.
    """
    if route.prepare is None or request.method != route.method or request.version != 11:
        return None
    if shared.router.has_literal(_beginning_of(route)):
        return None
    answer = route.prepare(request)
    return None if answer is None else Shortcut(route, section, answer, shared)


def _beginning_of(route: Route) -> str:
    return route.template[: route.template.rindex("/") + 1]

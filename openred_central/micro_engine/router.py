"""The route of each request: which handler answers it, and whether its head is acceptable at all. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ..errors import CallerError
from .wire.messages import JSON_TYPE, Request, Response
from .wire.protocol import content_too_large
from .wire.target import split_path

BodyKind = Literal["json", "none"]
Handler = Callable[..., Coroutine[Any, Any, Any]]
Parameters = tuple[Any, ...]

# The fast path (see `shortcut`): the JSON of an answer with status 200, and its own header fields.
Answered: TypeAlias = tuple[bytes, tuple[tuple[str, str], ...]]
# From the parameter of a request and its peer to the answer; None if only the handler can answer.
Answer = Callable[[str, str], Answered | None]
# From the last segment of a path and the peer to the answer as bytes; None if only the handler can answer.
Respond = Callable[[bytes, str], bytes | None]
# From a request without a body to what answers all others that differ from it only in the parameter, the peer
# and the fields that `shortcut` ignores; None if only the handler can answer those.
Prepare = Callable[[Request], Answer | None]

# A browser may remember for a day that reading is allowed from everywhere.
PREFLIGHT_AGE_S: Final = 86_400
METHODS_WITH_A_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
READING_METHODS: Final = frozenset({"GET", "HEAD"})
# A known method that a path does not allow is a 405, any other a 501 (RFC 9110 §9.1, §15.5.6): the methods
# of RFC 9110, of RFC 5789, and of draft-ietf-httpbis-safe-method-w-body.
KNOWN_METHODS: Final = READING_METHODS | METHODS_WITH_A_BODY | {"DELETE", "OPTIONS", "QUERY", "TRACE"}


@dataclass(slots=True, eq=False)
class Route:
    """One method of one path template: its handler, and the body that it takes.

    `body` is ``json`` (anything else is a 415) or ``none`` (read and thrown away);
    `body_bytes_max` is its limit; `cors` says whether pages of any origin may read the answer; `prepare`
    makes the answers of the fast path, which keeps in `known`, by header section, what responds and whether
    the connection is kept, and in `seen` the sections that came; `responses` counts answers by status class,
    as `Stats.responses` does.
    """

    method: str
    template: str
    handler: Handler
    body: BodyKind
    body_bytes_max: int
    cors: bool
    prepare: Prepare | None = None
    responses: list[int] = field(default_factory=lambda: [0] * 6)
    known: dict[bytes, tuple[Respond, bool]] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Place:
    """One path template with its methods. A segment of the pattern that is None is a parameter."""

    template: str
    pattern: tuple[str | None, ...]
    by_method: dict[str, Route] = field(default_factory=dict)

    def parameters(self, segments: tuple[str, ...]) -> Parameters | None:
        """Return the values of the parameters if `segments` match the pattern, else None."""
        if len(segments) != len(self.pattern):
            return None
        values = []
        for literal, segment in zip(self.pattern, segments, strict=True):
            if literal is None and segment:
                values.append(segment)
            elif literal != segment:
                return None
        return tuple(values)


class Router:
    """The routes of an engine. Literal segments match before parameters, in whatever order they were added.

    `body_bytes_max` is the limit of routes that name none, and of bodies that are thrown away;
    `longest_body_bytes` is the highest limit of all bodies that a handler takes. Without `fast_path`, no
    route has anything prepared.
    """

    def __init__(self, body_bytes_max: int, *, fast_path: bool = True) -> None:
        self.body_bytes_max = body_bytes_max
        self.longest_body_bytes = 0
        self._fast_path = fast_path
        # In the order in which they match.
        self._places: list[Place] = []
        self._by_path: dict[str, Place] = {}
        # Templates whose last segment, and no other, is a parameter, by the part before it.
        self._by_beginning: dict[str, Place] = {}
        self._methods: set[str] = {"OPTIONS"}
        # Routes with prepared answers, by all bytes of a request before its parameter.
        self.prepared: dict[bytes, Route] = {}

    def add(
        self,
        template: str,
        methods: Iterable[str],
        handler: Handler,
        *,
        body: BodyKind | None = None,
        body_bytes_max: int | None = None,
        cors: bool = True,
        prepare: Prepare | None = None,
    ) -> None:
        """Let `handler` answer `methods` on `template`, such as ``/nodes/{id}``.

        `handler` is a coroutine function; it gets the request and then the path parameters, in the order of
        the template, percent-decoded. `body` is by default ``json`` for POST, PUT and PATCH, ``none`` for the
        rest; `body_bytes_max` can only be lower than that of the engine. HEAD comes with GET. `cors` touches
        only GET and HEAD. `prepare` is for a template of which only the last segment is a parameter: it makes
        what answers requests that repeat, exactly as `handler` would (see `shortcut`).

        Raises `ValueError` for a template or method that is wrong or taken, `TypeError` for a handler that
        cannot be called so.
        """
        pattern = _pattern(template)
        if not inspect.iscoroutinefunction(handler):
            raise TypeError(f"the handler of {template} is not a coroutine function: write `async def`")
        inspect.signature(handler).bind(None, *[name for name in pattern if name is None])
        if prepare is not None and not _ends_with_its_parameter(pattern):
            raise ValueError(f"{template} does not end with its only parameter, so nothing can be prepared")
        limit = self.body_bytes_max if body_bytes_max is None else min(self.body_bytes_max, body_bytes_max)
        place = self._place(template, pattern)
        for method in methods:
            if not method.isalpha() or method != method.upper():
                raise ValueError(f"{method!r} is not a method name such as GET")
            taken = place.by_method.get(method)
            if taken is not None and taken.method == method:
                raise ValueError(f"{method} {template} has a handler already")
            route = Route(
                method,
                template,
                handler,
                body or ("json" if method in METHODS_WITH_A_BODY else "none"),
                limit,
                cors and method in READING_METHODS,
                prepare if self._fast_path else None,
            )
            if route.body != "none":
                self.longest_body_bytes = max(self.longest_body_bytes, limit)
            place.by_method[method] = route
            if method == "GET":
                place.by_method.setdefault("HEAD", route)
            self._methods.update(place.by_method)
        self.prepared = {
            f"{route.method} {beginning}".encode(): route
            for beginning, place in self._by_beginning.items()
            for route in place.by_method.values()
            # A path without parameters goes before one with them.
            if route.prepare is not None and not any(path.startswith(beginning) for path in self._by_path)
        }

    def routes(self) -> Iterator[Route]:
        """Yield every route, except those for HEAD that come with GET."""
        for place in self._places:
            for method, route in place.by_method.items():
                if method == route.method:
                    yield route

    def admit(self, request: Request) -> tuple[Route, Parameters]:
        """Return the route of `request`, and the arguments that its handler gets after it.

        Everything that follows from the head is decided here, before a byte of the body is read and before
        ``100 Continue`` is sent.

        Raises the request's own `refusal`, or `CallerError` 501 for a method that neither HTTP nor a route
        knows, 404, 405 with ``Allow``, 415, 413 (RFC 9110 §15.5), and 400 for a path that cannot be decoded.
        """
        if request.refusal is not None:
            raise request.refusal.with_traceback(None)
        path = request.path
        place = self._by_path.get(path)
        parameters: Parameters = ()
        if place is None:
            # Nearly every path with a parameter ends with it, and two operations on strings find its place.
            # Nothing else can match better: literal paths were looked up.
            beginning, slash, last = path.rpartition("/")
            place = self._by_beginning.get(beginning + slash)
            if place is not None and last and "%" not in path:
                parameters = (last,)
            else:
                place, parameters = self._find(path)
        route = place.by_method.get(request.method) if place is not None else None
        if route is None:
            if request.method not in KNOWN_METHODS and request.method not in self._methods:
                raise CallerError(
                    501,
                    "method_not_implemented",
                    f"The method {request.method} is not supported.",
                    suggestion=f"Use one of {_allow(self._methods)}, in upper case.",
                )
            if place is None:
                raise CallerError(
                    404,
                    "not_found",
                    f"There is nothing at {request.path}.",
                    suggestion="Check the path against the list of endpoints.",
                )
            if request.method != "OPTIONS":
                allow = _allow(place.by_method)
                raise CallerError(
                    405,
                    "method_not_allowed",
                    f"{request.path} does not answer {request.method}.",
                    suggestion=f"Use one of {allow}.",
                    headers=(("Allow", allow),),
                )
            route, parameters = self._options(request, place)
        if request.content_length != 0:
            _check_body(request, route)
        return route, parameters

    def opens_refusal(self, request: Request) -> bool:
        """Return whether pages of any origin may read why `request` was refused.

        They may if they may read the answer of GET, or if nothing is there.
        """
        if request.method not in READING_METHODS:
            return False
        try:
            place, _ = self._find(request.path)
        except CallerError:
            return True
        if place is None:
            return True
        route = place.by_method.get(request.method)
        return route is not None and route.cors

    def _place(self, template: str, pattern: tuple[str | None, ...]) -> Place:
        for place in self._places:
            if place.pattern == pattern:
                if place.template != template:
                    raise ValueError(f"{template} and {place.template} match the same paths")
                return place
        place = Place(template, pattern)
        self._places.append(place)
        self._places.sort(key=lambda one: [literal is None for literal in one.pattern])
        if None not in pattern:
            self._by_path[template] = place
        elif _ends_with_its_parameter(pattern):
            self._by_beginning[template[: template.rindex("/") + 1]] = place
        return place

    def _find(self, path: str) -> tuple[Place | None, Parameters]:
        if path == "*":
            # The parser accepts `*` only with OPTIONS (RFC 9112 §3.2.4).
            return Place("*", ()), ()
        count = path.count("/")
        places = [place for place in self._places if len(place.pattern) == count]
        # Decode only where something may match: elsewhere nothing is there however the path reads.
        segments = split_path(path) if places else ()
        for place in places:
            parameters = place.parameters(segments)
            if parameters is not None:
                return place, parameters
        return None, ()

    def _options(self, request: Request, place: Place) -> tuple[Route, Parameters]:
        headers = [("Allow", _allow(self._methods if place.template == "*" else place.by_method))]
        wanted = request.headers.get("access-control-request-method")
        reading = place.by_method.get("GET")
        if wanted in READING_METHODS and reading is not None and reading.cors:
            headers += [
                ("Access-Control-Allow-Origin", "*"),
                ("Access-Control-Allow-Methods", "GET, HEAD"),
                ("Access-Control-Allow-Headers", "*"),
                ("Access-Control-Max-Age", str(PREFLIGHT_AGE_S)),
            ]
        response = Response(status=204, content_type=None, headers=tuple(headers))
        route = Route("OPTIONS", place.template, _options_response, "none", self.body_bytes_max, cors=False)
        return route, (response,)


async def _options_response(request: Request, response: Response) -> Response:
    return response


def _pattern(template: str) -> tuple[str | None, ...]:
    if not template.startswith("/") or "%" in template or "?" in template:
        raise ValueError(f"{template!r} is not a path template such as /nodes/{{id}}")
    pattern: list[str | None] = []
    for segment in template[1:].split("/"):
        if segment.startswith("{") and segment.endswith("}") and segment[1:-1].isidentifier():
            pattern.append(None)
        elif "{" in segment or "}" in segment:
            raise ValueError(f"{segment!r} in {template}: a parameter is a whole segment, such as {{id}}")
        else:
            pattern.append(segment)
    return tuple(pattern)


def _ends_with_its_parameter(pattern: tuple[str | None, ...]) -> bool:
    """Return whether the last segment, and no other, is a parameter."""
    return pattern[-1] is None and pattern.count(None) == 1


def _allow(methods: Iterable[str]) -> str:
    return ", ".join(sorted({*methods, "OPTIONS"}))


def _check_body(request: Request, route: Route) -> None:
    """Raise `CallerError` 415 or 413 for a media type, content coding or length that `route` does not take.

    No content coding is decoded (RFC 9110 §15.5.16, §12.5.3); the media type is compared without its case and
    parameters (§8.3.1).
    """
    if route.body == "json":
        content_type = request.headers.get("content-type")
        if content_type is None or content_type.partition(";")[0].strip().lower() != JSON_TYPE:
            given = "but Content-Type is missing." if content_type is None else f"not {content_type}."
            raise _unsupported(
                f"{request.method} {route.template} takes JSON, {given}",
                f"Send the header `Content-Type: {JSON_TYPE}`.",
                ("Accept", JSON_TYPE),
            )
        coding = request.headers.get("content-encoding")
        if coding is not None and coding.strip().lower() not in ("", "identity"):
            raise _unsupported(
                f"{request.method} {route.template} takes bodies without a content coding, not {coding}.",
                "Send the body as it is, without the header `Content-Encoding`.",
                ("Accept-Encoding", "identity"),
            )
    length = request.content_length
    if length is not None and length > route.body_bytes_max:
        raise content_too_large(route.body_bytes_max)


def _unsupported(message: str, suggestion: str, accepted: tuple[str, str]) -> CallerError:
    return CallerError(415, "unsupported_media_type", message, suggestion=suggestion, headers=(accepted,))

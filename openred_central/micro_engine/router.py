"""Which handler answers which request, and whether its head is acceptable at all. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, Literal

from ..errors import CallerError
from .protocol_errors import content_too_large
from .shortcut import Prepare, Shortcut
from .wire.messages import JSON_TYPE, Request, Response
from .wire.target import split_path

BodyKind = Literal["json", "raw", "none"]
Handler = Callable[..., Coroutine[Any, Any, Any]]
Parameters = tuple[Any, ...]

# A browser may remember for a day that reading is allowed from everywhere.
PREFLIGHT_AGE_S: Final = 86_400
METHODS_WITH_A_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
READING_METHODS: Final = frozenset({"GET", "HEAD"})
# What is recognised is a 405 where a path does not allow it, not a 501 (RFC 9110 §9.1, §15.5.6): the methods
# of RFC 9110, of RFC 5789, and of draft-ietf-httpbis-safe-method-w-body.
KNOWN_METHODS: Final = READING_METHODS | METHODS_WITH_A_BODY | {"DELETE", "OPTIONS", "QUERY", "TRACE"}


class Route:
    """One method of one path template: its handler, and what it takes as a body.

    `body` is ``json`` (anything else is a 415), ``raw`` (any bytes) or ``none`` (read and thrown away);
    `body_bytes_max` is its limit; `cors` says whether pages of any origin may read the answer; `prepare`,
    where there is one, makes what shortcuts answer; `responses` counts its answers by status class, as
    `Stats.responses` does those of all routes.
    """

    __slots__ = ("body", "body_bytes_max", "cors", "handler", "method", "prepare", "responses", "template")

    def __init__(
        self,
        method: str,
        template: str,
        handler: Handler,
        body: BodyKind,
        body_bytes_max: int,
        cors: bool,
        prepare: Prepare | None = None,
    ) -> None:
        self.method = method
        self.template = template
        self.handler = handler
        self.body = body
        self.body_bytes_max = body_bytes_max
        self.cors = cors
        self.prepare = prepare
        self.responses = [0] * 6


class Place:
    """One path template with its methods. A segment of the pattern that is None is a parameter."""

    __slots__ = ("by_method", "pattern", "template")

    def __init__(self, template: str, pattern: tuple[str | None, ...]) -> None:
        self.template = template
        self.pattern = pattern
        self.by_method: dict[str, Route] = {}

    def parameters(self, segments: tuple[str, ...]) -> Parameters | None:
        """The values of the parameters where `segments`, as many as the pattern has, match; else None."""
        values = []
        for literal, segment in zip(self.pattern, segments, strict=True):
            if literal is None:
                if not segment:
                    return None
                values.append(segment)
            elif literal != segment:
                return None
        return tuple(values)

    def allow(self) -> str:
        return _allow(self.by_method)


class Router:
    """Finds the route of a request. Literal segments go before parameters, whatever was added first.

    `body_bytes_max` is the limit of routes that name none, and of bodies that nobody wants.
    """

    __slots__ = ("_by_beginning", "_by_length", "_by_path", "_methods", "body_bytes_max")

    def __init__(self, body_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self._by_path: dict[str, Place] = {}
        # Templates whose last segment, and no other, is a parameter, by what comes before it.
        self._by_beginning: dict[str, Place] = {}
        self._by_length: dict[int, list[Place]] = {}
        self._methods: set[str] = {"OPTIONS"}

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

        `handler` is a coroutine function; it is given the request and then the path parameters, in the order
        of the template, percent-decoded. `body` is by default ``json`` for POST, PUT and PATCH, ``none``
        for the rest; `body_bytes_max` can only be lower than that of the engine. HEAD comes with GET. `cors`
        touches only GET and HEAD. `prepare` is for a template of which only the last segment is a parameter:
        it makes what answers requests that repeat, in place of `handler` and just as that would (`shortcut`).

        Raises `ValueError` for a template or method that cannot be or is taken, `TypeError` for a handler
        that cannot be called so.
        """
        pattern = _pattern(template)
        if not inspect.iscoroutinefunction(handler):
            raise TypeError(f"the handler of {template} is not a coroutine function: write `async def`")
        inspect.signature(handler).bind(None, *[name for name in pattern if name is None])
        if prepare is not None and (None not in pattern or pattern.index(None) != len(pattern) - 1):
            raise ValueError(f"{template} does not end with its only parameter, so nothing can be prepared")
        limit = self.body_bytes_max
        if body_bytes_max is not None:
            limit = min(limit, body_bytes_max)
        place = self._place(template, pattern)
        for method in methods:
            if not method.isalpha() or method != method.upper():
                raise ValueError(f"{method!r} is not a method name, allowed is one such as GET")
            if method in place.by_method and place.by_method[method].method == method:
                raise ValueError(f"{method} {template} has a handler already")
            kind: BodyKind = body or ("json" if method in METHODS_WITH_A_BODY else "none")
            may_read = cors and method in READING_METHODS
            route = Route(method, template, handler, kind, limit, may_read, prepare)
            place.by_method[method] = route
            if method == "GET":
                place.by_method.setdefault("HEAD", route)
            self._methods.update(place.by_method)

    def routes(self) -> Iterator[Route]:
        """Every route, those for HEAD left out that come with GET."""
        for places in self._by_length.values():
            for place in places:
                for method, route in place.by_method.items():
                    if method == route.method:
                        yield route

    def admit(self, request: Request) -> tuple[Route, Parameters]:
        """The route of `request`, and the arguments that its handler is given after it.

        Everything that can be known from the head is decided here, before a byte of the body is read and
        before ``100 Continue`` is sent.

        Raises the request's own `refusal`, or `CallerError` 501 for a method that neither HTTP nor a route
        knows, 404, 405 with ``Allow``, 415, 413 (RFC 9110 §15.5), and 400 for a path that cannot be decoded.
        """
        if request.refusal is not None:
            raise request.refusal.with_traceback(None)
        path = request.path
        place = self._by_path.get(path)
        parameters: Parameters = ()
        if place is None:
            # Nearly every path with a parameter ends with it: that is two string operations, not a search,
            # and takes 0.3 µs instead of 1.4. Nothing else can match better: literal paths were looked up.
            beginning, slash, last = path.rpartition("/")
            place = self._by_beginning.get(beginning + slash)
            if place is not None and last and "%" not in path:
                parameters = (last,)
            else:
                place, parameters = self._find(path)
        route = place.by_method.get(request.method) if place is not None else None
        if route is None:
            if request.method not in KNOWN_METHODS and request.method not in self._methods:
                raise self._unknown_method(request)
            if place is None:
                raise _not_found(request)
            if request.method != "OPTIONS":
                raise _method_not_allowed(request, place)
            route, parameters = self._options(request, place)
        if request.content_length != 0:
            _check_body(request, route)
        return route, parameters

    def shortcut(self, request: Request, route: Route, section: bytes) -> Shortcut | None:
        """What answers requests that differ from `request` only in the parameter; None: the handler.

        `route` is its route, `section` its header section as it came. None also where a literal path goes
        before the parameter; and for HTTP/1.0, whose sections need no Host.
        """
        if route.prepare is None or request.method != route.method or request.version != 11:
            return None
        beginning = route.template[: route.template.rindex("/") + 1]
        if any(path.startswith(beginning) for path in self._by_path):
            return None
        answer = route.prepare(request)
        if answer is None:
            return None
        return Shortcut(f"{route.method} {beginning}".encode(), b" HTTP/1.1\r\n" + section, answer)

    def opens_refusal(self, request: Request) -> bool:
        """Whether pages of any origin may read why `request`, which was refused, was.

        They may where they may read what GET answers, and where nothing is.
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
        same_length = self._by_length.setdefault(len(pattern), [])
        for place in same_length:
            if place.pattern == pattern:
                if place.template != template:
                    raise ValueError(f"{template} and {place.template} match the same paths")
                return place
        place = Place(template, pattern)
        same_length.append(place)
        same_length.sort(key=lambda one: [literal is None for literal in one.pattern])
        if None not in pattern:
            self._by_path[template] = place
        elif pattern.index(None) == len(pattern) - 1:
            self._by_beginning[template[: template.rindex("/") + 1]] = place
        return place

    def _find(self, path: str) -> tuple[Place | None, Parameters]:
        if path == "*":
            # The parser lets `*` through only with OPTIONS (RFC 9112 §3.2.4).
            return Place("*", ()), ()
        places = self._by_length.get(path.count("/"))
        if places is None:
            # Not decoded, since nothing is there however it reads.
            return None, ()
        segments = split_path(path)
        for place in places:
            parameters = place.parameters(segments)
            if parameters is not None:
                return place, parameters
        return None, ()

    def _unknown_method(self, request: Request) -> CallerError:
        return CallerError(
            501,
            "method_not_implemented",
            f"The method {request.method} is not known here.",
            suggestion=f"Use one of {_allow(self._methods)}, in upper case.",
        )

    def _options(self, request: Request, place: Place) -> tuple[Route, Parameters]:
        methods = self._methods if place.template == "*" else place.by_method
        headers = [("Allow", _allow(methods))]
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
        raise ValueError(f"{template!r} is not a path template, allowed is one such as /nodes/{{id}}")
    pattern: list[str | None] = []
    for segment in template[1:].split("/"):
        if segment.startswith("{") and segment.endswith("}") and segment[1:-1].isidentifier():
            pattern.append(None)
        elif "{" in segment or "}" in segment:
            raise ValueError(f"{segment!r} in {template}: a parameter is a whole segment, such as {{id}}")
        else:
            pattern.append(segment)
    return tuple(pattern)


def _allow(methods: Iterable[str]) -> str:
    return ", ".join(sorted({*methods, "OPTIONS"}))


def _not_found(request: Request) -> CallerError:
    return CallerError(
        404,
        "not_found",
        f"There is nothing at {request.path}.",
        suggestion="Check the path against the list of endpoints.",
    )


def _method_not_allowed(request: Request, place: Place) -> CallerError:
    allow = place.allow()
    return CallerError(
        405,
        "method_not_allowed",
        f"{request.path} does not answer {request.method}.",
        suggestion=f"Use one of {allow}.",
        headers=(("Allow", allow),),
    )


def _check_body(request: Request, route: Route) -> None:
    if route.body == "json":
        content_type = request.headers.get("content-type")
        if content_type != JSON_TYPE and not _is_json(content_type):
            raise CallerError(
                415,
                "unsupported_media_type",
                f"{request.method} {route.template} takes JSON, "
                + ("but Content-Type is missing." if content_type is None else f"not {content_type}."),
                suggestion=f"Send the header `Content-Type: {JSON_TYPE}`.",
                headers=(("Accept", JSON_TYPE),),
            )
    coding = request.headers.get("content-encoding")
    if coding is not None and route.body != "none":
        _check_coding(request, route, coding)
    length = request.content_length
    if length is not None and length > route.body_bytes_max:
        raise content_too_large(route.body_bytes_max)


def _check_coding(request: Request, route: Route, coding: str) -> None:
    """Raise `CallerError` 415 for a content coding: none is decoded (RFC 9110 §15.5.16, §12.5.3)."""
    if coding.strip().lower() not in ("", "identity"):
        raise CallerError(
            415,
            "unsupported_media_type",
            f"{request.method} {route.template} takes bodies without a content coding, not {coding}.",
            suggestion="Send the body as it is, without the header `Content-Encoding`.",
            headers=(("Accept-Encoding", "identity"),),
        )


def _is_json(content_type: str | None) -> bool:
    """Whether the media type is JSON, whatever its case and parameters (RFC 9110 §8.3.1)."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == JSON_TYPE

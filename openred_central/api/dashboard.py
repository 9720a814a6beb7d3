"""``GET /dashboard``, and ``GET /`` for browsers: one page for people that asks no other server for anything.

Its parts lie in the folder `dashboard` of the package; `wire.pages` joins them.
"""

from __future__ import annotations

from ..micro_engine.limits import LIST_MEMBERS_MAX
from ..micro_engine.wire.messages import HTML_TYPE, Request, Response
from . import status
from .endpoint import CACHED, UNCHANGED, Endpoint, Reply, Where
from .service import Api
from .wire.caching import StaticDocument
from .wire.pages import make_page

PAGE = "page.html"
STYLES = ("page.css",)
SCRIPTS = (
    *("texts.js", "feed.js", "chart.js", "plot.js", "lifecycle.js", "lately.js"),
    *("explain.js", "years.js", "page.js"),
)
# The answer to `/` depends on this field, which caches have to know (RFC 9110 §12.5.5).
VARY = ("Vary", "Accept")


async def root(api: Api, request: Request) -> Response:
    """Answer 200 with the dashboard if HTML is preferred to JSON, as by browsers, else the welcome."""
    if prefers_html(request.headers.get("accept") or ""):
        return (await api.front_page()).answer(request)
    welcome = status.welcome(api)
    welcome.headers = (*welcome.headers, VARY)
    return welcome


ROOT = Endpoint(
    "GET",
    "/",
    root,
    name="welcome",
    tag="Server",
    summary="See what this server is and offers",
    description="Name, version, endpoints, limits, and how the key set is signed. A caller that prefers "
    "HTML, as browsers do, gets the dashboard.",
    replies={
        200: Reply("The server's description.", status.WELCOME, headers=("Vary",), also_as=HTML_TYPE),
        304: UNCHANGED,
    },
    caches=True,
)


async def dashboard(api: Api, request: Request) -> Response:
    return (await api.front_page()).answer(request)


DASHBOARD = Endpoint(
    "GET",
    "/dashboard",
    dashboard,
    name="watch",
    tag="Server",
    summary="Open the dashboard",
    description="The dashboard for people: one page that needs no other server.",
    replies={200: Reply("The page.", {"type": "string"}, HTML_TYPE, CACHED), 304: UNCHANGED},
    caches=True,
    where=Where.ANYWHERE,
)


def make_front_page() -> StaticDocument:
    """Assemble the dashboard with its header fields."""
    return make_page(PAGE, STYLES, SCRIPTS, (VARY,))


def prefers_html(accept: str) -> bool:
    """Return whether a field ``Accept`` (RFC 9110 §12.5.1) gives HTML more weight than JSON.

    JSON wins a tie, also for ``*/*``, which programs send.
    """
    html = _weight(accept, "text/html")
    return html > 0 and html > _weight(accept, "application/json")


def _weight(accept: str, media_type: str) -> float:
    """Return the weight of the range that fits `media_type` best, among the first hundred ranges.

    It is 0 if none fits, or the weight cannot be read.
    """
    ranges = {media_type: 2, f"{media_type.partition('/')[0]}/*": 1, "*/*": 0}
    best, weight = -1, 0.0
    for member in accept.lower().split(",", LIST_MEMBERS_MAX)[:LIST_MEMBERS_MAX]:
        name, *parameters = (piece.strip() for piece in member.split(";", LIST_MEMBERS_MAX))
        if ranges.get(name, -1) > best:
            best, weight = ranges[name], _quality(parameters)
    return weight


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            digits = parameter[2:]
            return float(digits) if digits.replace(".", "", 1).isdecimal() and digits.isascii() else 0.0
    return 1.0

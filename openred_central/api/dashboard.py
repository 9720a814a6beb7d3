"""``GET /dashboard``, and ``GET /`` for browsers: one page for people that asks no other server for anything.

Its parts lie in the folder `dashboard` of the package; `wire.pages` joins them.
"""

from __future__ import annotations

from ..micro_engine.wire.messages import HTML_TYPE, Request, Response
from . import status
from .endpoint import CACHED, UNCHANGED, Endpoint, Reply, Where
from .service import Api
from .wire.accepting import VARY, prefers
from .wire.caching import StaticDocument
from .wire.pages import make_page

PAGE = "page.html"
STYLES = ("page.css",)
SCRIPTS = (
    *("texts.js", "feed.js", "chart.js", "plot.js", "lifecycle.js", "lately.js"),
    *("explain.js", "years.js", "page.js"),
)


async def root(api: Api, request: Request) -> Response:
    """Answer 200 with the dashboard if HTML is preferred to JSON, as by browsers, else the welcome."""
    if prefers(request.headers.get("accept") or "", "text/html"):
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

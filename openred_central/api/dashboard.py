"""``GET /dashboard``, and ``GET /`` for browsers: one page for people that asks no other server for anything.

The parts of the page lie in the folder `dashboard` of the package. A Content-Security-Policy (CSP Level 3,
W3C) with the hashes of the one style and the one script keeps everything else from running on the page.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple

from ..micro_engine.limits import LIST_MEMBERS_MAX
from ..micro_engine.wire.messages import HTML_TYPE, Request, Response
from . import status
from .endpoint import CACHED, UNCHANGED, Endpoint, Reply, Where
from .service import Api
from .wire.caching import StaticDocument

FOLDER = Path(__file__).parents[1] / "dashboard"
PAGE = "page.html"
STYLE = "page.css"
# Joined in this order, they are one script.
SCRIPTS = (
    *("texts.js", "feed.js", "chart.js", "plot.js", "lifecycle.js", "lately.js"),
    *("explain.js", "years.js", "page.js"),
)
# The answer to `/` depends on this field, which caches have to know (RFC 9110 §12.5.5).
VARY = ("Vary", "Accept")


class Assembled(NamedTuple):
    """The page as bytes, and its Content-Security-Policy."""

    content: bytes
    policy: str


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
    page = load_page()
    headers = (VARY, ("Content-Security-Policy", page.policy), ("Referrer-Policy", "no-referrer"))
    return StaticDocument.of(page.content, HTML_TYPE, headers)


def load_page() -> Assembled:
    html, style, *scripts = ((FOLDER / name).read_text(encoding="utf-8") for name in (PAGE, STYLE, *SCRIPTS))
    return assemble(html, style, "\n".join(scripts))


def assemble(html: str, style: str, script: str) -> Assembled:
    """Put `style` and `script` into their empty elements in `html`.

    Raises `ValueError` unless there is exactly one place for each, and if a text would end its element.
    """
    for name, text in (("style", style), ("script", script)):
        place = f"<{name}></{name}>"
        if html.count(place) != 1:
            raise ValueError(f"the page has {html.count(place)} places {place}, it needs one")
        if f"</{name}" in text.lower() or "<!--" in text:
            raise ValueError(f"the {name} of the page has </{name} or <!-- in it, which would end it")
    content = html.replace("<style></style>", f"<style>{style}</style>")
    content = content.replace("<script></script>", f"<script>{script}</script>")
    return Assembled(content.encode(), _policy(style, script))


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


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

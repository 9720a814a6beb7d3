"""``GET /dashboard``, and ``GET /`` for browsers: the page that shows a person what the server is doing."""

from __future__ import annotations

from ..micro_engine.limits import LIST_MEMBERS_MAX
from ..micro_engine.wire.messages import Request, Response
from . import status
from .front_page import VARY
from .service import Api


async def root(api: Api, request: Request) -> Response:
    """Answer 200 with the dashboard where HTML is preferred to JSON, as by browsers, else the welcome."""
    if prefers_html(request.headers.get("accept") or ""):
        return (await api.front_page()).answer(request)
    welcome = await status.welcome(api, request)
    welcome.headers = (*welcome.headers, VARY)
    return welcome


async def dashboard(api: Api, request: Request) -> Response:
    """Answer 200 with the dashboard, 304 where the caller has it already."""
    return (await api.front_page()).answer(request)


def prefers_html(accept: str) -> bool:
    """Whether a field ``Accept`` (RFC 9110 §12.5.1) gives HTML more weight than JSON.

    Without a preference it is JSON; so it is for ``*/*``, which programs send.
    """
    html = _weight(accept, "text/html")
    return html > 0 and html > _weight(accept, "application/json")


def _weight(accept: str, media_type: str) -> float:
    """The weight of the range that fits `media_type` best; 0 where none does, or it cannot be read.

    The first hundred ranges are looked at.
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

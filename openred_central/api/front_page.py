"""The dashboard as an answer: what a browser may do with it, and how long it may keep it."""

from __future__ import annotations

from ..micro_engine.wire.messages import HTML_TYPE
from .wire.caching import Page

# Which answer `/` gives depends on this field; caches have to know (RFC 9110 §12.5.5).
VARY = ("Vary", "Accept")


def make_front_page() -> Page:
    """The dashboard, put together of its parts."""
    # Here and not above: it imports what no other answer needs, 3 ms.
    from ..dashboard.page import load_page

    content, policy = load_page()
    headers = (VARY, ("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer"))
    return Page.of(content, HTML_TYPE, headers)

"""``GET /`` of the operators' listener: a page that shows and does what the endpoints beside it do.

It holds no figures, so it is served without the secret. A person types the secret into it, and it stays in
the memory of that page: no cookie, so no other page can make a browser act for an operator.
"""

from __future__ import annotations

from functools import cache

from ..wire.caching import StaticDocument
from ..wire.pages import make_page

PATH = "/"
PAGE = "operators.html"
STYLES = ("page.css", "operators.css")
SCRIPTS = ("texts.js", "explain.js", "operators.js")


@cache
def operators_page() -> StaticDocument:
    """Return the page with its header fields; it is assembled on first use."""
    return make_page(PAGE, STYLES, SCRIPTS)

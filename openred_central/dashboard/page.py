"""The page of the dashboard, put together once: one document that asks no other server for anything.

Its parts lie beside this file, as a person would write them. What the browser may run and ask for is told in
a Content-Security-Policy with the hash of the one style and the one script (CSP Level 3, W3C), so that
nothing else runs on the page, whatever comes over the network.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib.resources import files
from typing import NamedTuple

PAGE = "page.html"
STYLE = "page.css"
# In this order they are one script.
SCRIPTS = ("texts.js", "feed.js", "plot.js", "lifecycle.js", "lately.js", "explain.js", "page.js")


class Assembled(NamedTuple):
    """A document as it is sent: its bytes, and the policy that says what it may do."""

    content: bytes
    policy: str


def load_page() -> Assembled:
    """The page made of the files beside this one."""
    folder = files(__package__)
    html, style, *scripts = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in (PAGE, STYLE, *SCRIPTS)
    )
    return assemble(html, style, "\n".join(scripts))


def assemble(html: str, style: str, script: str) -> Assembled:
    """Put `style` and `script` where `html` has its empty elements for them.

    Raises `ValueError` where there is not one place for each, or where a text would end its element.
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

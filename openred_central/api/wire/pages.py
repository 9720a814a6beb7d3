"""Pages for people: one document each, that asks no other server for anything.

The parts of the pages lie in the folder `dashboard` of the package. A Content-Security-Policy (CSP Level 3,
W3C) with the hashes of the one style and the one script keeps everything else from running on a page.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ...micro_engine.wire.messages import HTML_TYPE
from .caching import HeaderFields, StaticDocument

FOLDER = Path(__file__).parents[2] / "dashboard"


class Assembled(NamedTuple):
    """A page as bytes, and its Content-Security-Policy."""

    content: bytes
    policy: str


def make_page(
    page: str, styles: Iterable[str], scripts: Iterable[str], headers: HeaderFields = ()
) -> StaticDocument:
    """Assemble a page of files of `FOLDER`, with its header fields and `headers`.

    Styles and scripts are joined in their order, into one of each.
    """
    assembled = load_page(page, styles, scripts)
    secured = (("Content-Security-Policy", assembled.policy), ("Referrer-Policy", "no-referrer"))
    return StaticDocument.of(assembled.content, HTML_TYPE, (*headers, *secured))


def load_page(page: str, styles: Iterable[str], scripts: Iterable[str]) -> Assembled:
    html, style, script = ("\n".join(map(_read, names)) for names in ((page,), styles, scripts))
    return assemble(html, style, script)


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


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

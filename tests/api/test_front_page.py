"""The dashboard as an answer."""

from __future__ import annotations

from openred_central.api.front_page import make_front_page
from openred_central.dashboard.page import load_page
from openred_central.micro_engine.wire.messages import HTML_TYPE


def test_the_page_comes_with_its_policy_and_tells_nobody_where_one_came_from() -> None:
    page, assembled = make_front_page(), load_page()
    assert (page.body, page.content_type) == (assembled.content, HTML_TYPE)
    assert dict(page.headers) == {
        "ETag": page.etag,
        "Cache-Control": "no-cache",
        "Vary": "Accept",
        "Content-Security-Policy": assembled.policy,
        "Referrer-Policy": "no-referrer",
    }

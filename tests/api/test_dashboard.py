"""The dashboard: which callers get it, and how it is sent."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.dashboard import PAGE, SCRIPTS, STYLES
from openred_central.api.wire.accepting import prefers
from openred_central.api.wire.pages import load_page
from openred_central.micro_engine.limits import LIST_MEMBERS_MAX
from openred_central.micro_engine.wire.messages import HTML_TYPE, Response
from tests.support.world import World, run

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROMIUM = f"{FIREFOX},image/avif,image/webp,image/apng,application/signed-exchange;v=b3;q=0.7"


def ask(target: str, **headers: str) -> Response:
    world = World()
    return run(world.start(world.request("GET", target, **headers)))


def header_fields(response: Response) -> dict[str, str]:
    return dict(response.headers)


@pytest.mark.parametrize(
    "accept",
    [
        *(FIREFOX, CHROMIUM, "text/html", "TEXT/HTML; charset=utf-8", "text/*, application/json;q=0.5"),
        *(
            "text/html;q=0.9, application/*;q=0.8",
            "application/json;q=0, text/html;q=0.1",
            "*/*;q=0.1, text/html",
        ),
        "application/json;q=0.5,\ttext/html ; q=0.6",
    ],
)
def test_a_browser_gets_the_page(accept: str) -> None:
    response = ask("/", accept=accept)
    assert (response.status, response.content_type) == (200, HTML_TYPE)
    assert response.body.startswith(b"<!doctype html>")
    assert header_fields(response)["Vary"] == "Accept"


@pytest.mark.parametrize(
    "accept",
    [
        *("", "*/*", "application/json", "application/json, text/plain, */*", "text/html, application/json"),
        *(
            "text/html;q=0.5, application/json",
            "text/html;q=0",
            "text/html;q=x",
            "text/html;q=-1",
            "image/png",
        ),
        *("text/html;q=", "text/html;q=0.0", "text/htm", "application/*", ";q=1", ",,,", "text/html;q=²"),
        *("," * LIST_MEMBERS_MAX + "text/html"),
    ],
)
def test_all_other_callers_get_the_welcome(accept: str) -> None:
    response = ask("/", accept=accept) if accept else ask("/")
    assert response.content_type == "application/json"
    assert orjson.loads(response.body)["name"] == "OpenRed Central"
    assert header_fields(response) == {"Vary": "Accept"}


@given(st.text("texhml/json*;,q=0.1 ap²", max_size=60))
def test_any_accept_field_is_read(accept: str) -> None:
    assert prefers(accept, "text/html") in (True, False)


@pytest.mark.parametrize("accept", ["", "application/json", FIREFOX])
def test_its_own_path_always_answers_with_the_page(accept: str) -> None:
    response = ask("/dashboard", accept=accept)
    assert (response.status, response.content_type) == (200, HTML_TYPE)
    assert response.body == ask("/", accept="text/html").body


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_a_cached_page_is_not_sent_again(form: str) -> None:
    tag = header_fields(ask("/dashboard"))["ETag"]
    response = ask("/dashboard", if_none_match=form.format(tag))
    assert (response.status, response.body) == (304, b"")
    assert (header_fields(response)["ETag"], header_fields(response)["Vary"]) == (tag, "Accept")
    assert ask("/dashboard", if_none_match='"other"').status == 200


def test_the_page_is_sent_with_its_policy_and_without_a_referrer() -> None:
    sent = header_fields(ask("/dashboard"))
    assert sent["Content-Security-Policy"] == load_page(PAGE, STYLES, SCRIPTS).policy
    assert (sent["Cache-Control"], sent["Referrer-Policy"]) == ("no-cache", "no-referrer")

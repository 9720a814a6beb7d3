"""The dashboard: which callers get it, and a page that asks no other server and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.dashboard import FOLDER, SCRIPTS, STYLE, assemble, load_page, prefers_html
from openred_central.micro_engine.limits import LIST_MEMBERS_MAX
from openred_central.micro_engine.wire.messages import HTML_TYPE, Response
from tests.support.world import World, run

PAGE = load_page()
TEXT = PAGE.content.decode()
# The namespace of SVG, which is not fetched.
NAMESPACE = "http://www.w3.org/2000/svg"
# Ways to turn text into markup or code.
UNSAFE = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    "DOMParser",
)

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
    assert prefers_html(accept) in (True, False)


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
    assert sent["Content-Security-Policy"] == PAGE.policy
    assert (sent["Cache-Control"], sent["Referrer-Policy"]) == ("no-cache", "no-referrer")


def hash_of(name: str) -> str:
    (text,) = re.findall(rf"<{name}>(.*?)</{name}>", TEXT, re.DOTALL)
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def directives() -> dict[str, str]:
    return dict(one.split(" ", 1) for one in PAGE.policy.split("; "))


def test_the_policy_allows_only_the_one_style_and_script() -> None:
    assert directives() == {
        "default-src": "'none'",
        "style-src": f"'{hash_of('style')}'",
        "script-src": f"'{hash_of('script')}'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_page_names_no_other_server() -> None:
    assert not re.search(r"(?:https?:|wss?:)?//[\w.-]+\.\w", TEXT.replace(NAMESPACE, ""))
    assert "@import" not in TEXT
    assert not re.search(r"url\((?!['\"]?data:)", TEXT)


def test_the_page_needs_no_exception_from_its_policy() -> None:
    assert not re.search(
        r"<[^>]+\s(?:style|on\w+)=", re.sub(r"<script>.*</script>", "", TEXT, flags=re.DOTALL)
    )
    assert "javascript:" not in TEXT


def test_text_from_the_network_never_becomes_markup_or_code() -> None:
    scripts = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    assert [word for word in UNSAFE if word in scripts] == []


def test_every_file_of_the_folder_is_in_the_page() -> None:
    names = {path.name for path in FOLDER.iterdir() if path.suffix in (".js", ".css")}
    assert names == {STYLE, *SCRIPTS}


def test_each_element_the_script_needs_is_there_once() -> None:
    asked = set(re.findall(r'byId\("([\w-]+)"\)', TEXT))
    ids = re.findall(r'\sid="([\w-]+)"', TEXT)
    assert asked <= set(ids)
    assert len(ids) == len(set(ids))
    pointed_at = {
        one
        for found in re.findall(r'(?:aria-labelledby|aria-describedby|for)="([\w -]+)"', TEXT)
        for one in found.split()
    }
    # This element is made with the answer.
    assert pointed_at - {"answer-title"} <= set(ids)


@pytest.mark.parametrize(
    ("html", "style", "script", "complaint"),
    [
        ("<script></script>", "", "", "0 places <style></style>"),
        ("<style></style><script></script><script></script>", "", "", "2 places <script></script>"),
        (
            "<style></style><script></script>",
            "",
            "const end = '</SCRIPT>'",
            "the script of the page has </script",
        ),
        ("<style></style><script></script>", "", "<!--", "<!--"),
        ("<style></style><script></script>", "</style", "", "the style of the page has </style"),
    ],
)
def test_a_page_that_differs_from_its_hashes_is_not_made(
    html: str, style: str, script: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        assemble(html, style, script)

"""Pages for people: each asks no other server for anything, and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

import pytest

from openred_central.api import dashboard
from openred_central.api.admin import page as operators
from openred_central.api.wire.pages import FOLDER, assemble, load_page

PAGES = {each.PAGE: load_page(each.PAGE, each.STYLES, each.SCRIPTS) for each in (dashboard, operators)}
TEXTS = {name: page.content.decode() for name, page in PAGES.items()}
each_page = pytest.mark.parametrize("name", PAGES)
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
# Elements that a script makes.
MADE = {"answer-title"}


def hash_of(text: str, element: str) -> str:
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


@each_page
def test_the_policy_allows_only_the_one_style_and_script(name: str) -> None:
    text = TEXTS[name]
    assert dict(one.split(" ", 1) for one in PAGES[name].policy.split("; ")) == {
        "default-src": "'none'",
        "style-src": f"'{hash_of(text, 'style')}'",
        "script-src": f"'{hash_of(text, 'script')}'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@each_page
def test_the_page_names_no_other_server(name: str) -> None:
    assert not re.search(r"(?:https?:|wss?:)?//[\w.-]+\.\w", TEXTS[name].replace(NAMESPACE, ""))
    assert "@import" not in TEXTS[name]
    assert not re.search(r"url\((?!['\"]?data:)", TEXTS[name])


@each_page
def test_the_page_needs_no_exception_from_its_policy(name: str) -> None:
    markup = re.sub(r"<script>.*</script>", "", TEXTS[name], flags=re.DOTALL)
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", markup)
    assert "javascript:" not in TEXTS[name]


def test_text_from_the_network_never_becomes_markup_or_code() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js"))
    assert [word for word in UNSAFE if word in scripts] == []


def test_every_file_of_the_folder_is_in_a_page() -> None:
    def names(kinds: Iterable[str]) -> set[str]:
        return {path.name for path in FOLDER.iterdir() if path.suffix in kinds}

    assert names([".js", ".css"]) == {
        *(*dashboard.STYLES, *dashboard.SCRIPTS),
        *(*operators.STYLES, *operators.SCRIPTS),
    }
    assert names([".html"]) == set(PAGES)


@each_page
def test_each_element_is_there_once_and_named_ones_exist(name: str) -> None:
    text = TEXTS[name]
    ids = re.findall(r'\sid="([\w-]+)"', text)
    assert len(ids) == len(set(ids))
    pointed_at = {
        one
        for found in re.findall(r'(?:aria-labelledby|aria-describedby|for)="([\w -]+)"', text)
        for one in found.split()
    }
    assert pointed_at - MADE <= set(ids)


@each_page
def test_the_scripts_of_a_page_find_their_elements(name: str) -> None:
    # The class that asks for a node on the dashboard is not used on the other page.
    text = re.sub(r"class Explainer \{.*?\n\}\n", "", TEXTS[name], flags=re.DOTALL)
    asked = set(re.findall(r'byId\("([\w-]+)"\)', text if name == operators.PAGE else TEXTS[name]))
    assert asked <= set(re.findall(r'\sid="([\w-]+)"', text))


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

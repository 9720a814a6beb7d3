"""The page: one document, which asks no other server for anything and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from openred_central.dashboard.page import SCRIPTS, STYLE, assemble, load_page
from tests.support.project import PACKAGE

PAGE = load_page()
HTML = PAGE.content.decode()
FOLDER = PACKAGE / "dashboard"
# The name of the namespace of SVG, which nobody fetches.
NAMESPACE = "http://www.w3.org/2000/svg"
# Ways to make text into markup or code.
UNSAFE = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    "DOMParser",
)


def hash_of(name: str) -> str:
    (text,) = re.findall(rf"<{name}>(.*?)</{name}>", HTML, re.DOTALL)
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def directives() -> dict[str, str]:
    return dict(one.split(" ", 1) for one in PAGE.policy.split("; "))


def test_the_policy_lets_the_one_style_and_the_one_script_run_and_nothing_else() -> None:
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
    assert not re.search(r"(?:https?:|wss?:)?//[\w.-]+\.\w", HTML.replace(NAMESPACE, ""))
    assert "@import" not in HTML
    assert not re.search(r"url\((?!['\"]?data:)", HTML)


def test_nothing_in_the_page_would_need_an_exception_from_its_policy() -> None:
    assert not re.search(
        r"<[^>]+\s(?:style|on\w+)=", re.sub(r"<script>.*</script>", "", HTML, flags=re.DOTALL)
    )
    assert "javascript:" not in HTML


def test_text_from_the_network_is_never_made_into_markup_or_code() -> None:
    scripts = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    assert [word for word in UNSAFE if word in scripts] == []


def test_every_file_of_the_folder_is_in_the_page() -> None:
    names = {path.name for path in FOLDER.iterdir() if path.suffix in (".js", ".css")}
    assert names == {STYLE, *SCRIPTS}


def test_every_element_that_the_script_asks_for_is_there_once() -> None:
    asked = set(re.findall(r'byId\("([\w-]+)"\)', HTML))
    ids = re.findall(r'\sid="([\w-]+)"', HTML)
    assert asked <= set(ids)
    assert len(ids) == len(set(ids))
    pointed_at = {
        one
        for found in re.findall(r'(?:aria-labelledby|aria-describedby|for)="([\w -]+)"', HTML)
        for one in found.split()
    }
    # Made with the answer.
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
def test_a_page_that_would_not_be_what_was_hashed_is_not_made(
    html: str, style: str, script: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        assemble(html, style, script)

"""The reference page: all of the description, readable, and nothing from elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest

from openred_central.api.description.openapi import describe
from openred_central.api.description.reference_page import render

VOID = {"meta", "wbr"}
DOCUMENT = describe("9.9.9")
PAGE = render(DOCUMENT)


class Reader(HTMLParser):
    """Takes a page apart: its elements, ids, links and text. Fails where elements are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[str | None]:
        return [value for attribute, value in self.attributes if attribute == name]


def test_the_page_is_well_formed_and_accessible() -> None:
    reader = Reader(PAGE)
    assert reader.elements["main"] == reader.elements["nav"] == reader.elements["h1"] == 1
    assert reader.all("lang") == ["en"]


def test_every_operation_parameter_status_and_object_stands_there() -> None:
    text = Reader(PAGE).text
    for path, item in DOCUMENT["paths"].items():
        assert path in text
        for operation in item.values():
            for one in operation["parameters"]:
                assert one["name"] in text
            for status in operation["responses"]:
                assert status in text
            if not operation.get("deprecated"):
                assert operation["description"].replace("`", "") in text
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="schema-{name}"' in PAGE
    for code in DOCUMENT["x-problems"]:
        assert code in text


def test_every_link_has_a_target() -> None:
    reader = Reader(PAGE)
    places = reader.all("id")
    assert len(set(places)) == len(places)
    assert {link for link in reader.all("href") if link is not None and link[1:] not in places} == {
        "/openapi.json"
    }


def test_the_page_needs_no_network_and_no_script() -> None:
    reader = Reader(PAGE)
    assert not reader.elements.keys() & {"script", "img", "link", "iframe", "object", "form", "base"}
    assert reader.all("src") == reader.all("style") == []
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|@font-face", PAGE)


def test_it_is_made_for_dark_and_for_small_screens() -> None:
    assert "prefers-color-scheme: dark" in PAGE
    assert "max-width: 52rem" in PAGE
    assert 'name="viewport"' in PAGE


def test_descriptions_become_text_not_markup() -> None:
    document: dict[str, Any] = {**DOCUMENT, "info": {**DOCUMENT["info"], "title": "<b>&</b>"}}
    assert "<b>" not in render(document)
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in render(document)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "integer, 1 to 9"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, above 0"),
        ({"type": "integer", "minimum": 3}, "integer, at least 3"),
        ({"type": ["string", "null"]}, "text or null"),
        ({"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, "list of true or false, at most 2"),
        ({"enum": ["a", "b"]}, "one of a b"),
        ({"enum": [str(number) for number in range(20)]}, "10 11 …"),
        ({"const": ""}, "empty text"),
        ({"const": "a"}, "a"),
        (
            {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
            "text, at most 5 characters or null",
        ),
        ({"type": "string", "format": "date-time", "pattern": "^a$"}, "text, date-time ^a$"),
        ({"type": "string", "pattern": "a" * 61}, "text"),
        ({"type": "string", "examples": ["<a>", "b"]}, "text, such as <a>"),
    ],
)
def test_schemas_are_described_in_words(schema: dict[str, Any], text: str) -> None:
    document = {**DOCUMENT, "components": {**DOCUMENT["components"], "schemas": {"It": schema}}}
    (section,) = re.findall(r'<section class="card" id="schema-It">.*?</section>', render(document))
    assert Reader(section).text.endswith(text)

"""Fields are taken one by one, and whoever wrote them wrong is told which, where, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.lifecycle import STATE_BY_WIRE_NAME, State
from openred_central.maintenance.portable import Fields, LineError, object_of

TAKERS: dict[str, Callable[[Fields], Any]] = {
    "text": lambda fields: fields.text("it"),
    "name": lambda fields: fields.name("it"),
    "number": lambda fields: fields.number("it"),
    "whole": lambda fields: fields.whole("it", 9),
    "flag": lambda fields: fields.flag("it"),
    "choice": lambda fields: fields.choice("it", STATE_BY_WIRE_NAME),
    "texts": lambda fields: fields.texts("it"),
    "objects": lambda fields: fields.objects("it"),
    "object": lambda fields: fields.object("it"),
    "inside": lambda fields: fields.inside("it"),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(TAKERS)), JSON)
def test_any_value_is_taken_or_refused_by_its_name(taker: str, value: object) -> None:
    fields = Fields({"it": value}, "node ")
    refusal = None
    try:
        TAKERS[taker](fields)
    except LineError as error:
        refusal = str(error)
    if refusal is None:
        fields.done()
    else:
        assert refusal.startswith("node it is ")
        assert ", allowed is " in refusal


@pytest.mark.parametrize("taker", TAKERS)
def test_what_is_missing_is_named(taker: str) -> None:
    with pytest.raises(LineError, match=r"^node it is missing$"):
        TAKERS[taker](Fields({}, "node "))


@pytest.mark.parametrize(
    ("taker", "good", "taken"),
    [
        ("text", "", ""),
        ("name", "a b", "a b"),
        ("number", 3, 3.0),
        ("whole", 9, 9),
        ("flag", False, False),
        ("choice", "coma", State.COMA),
        ("texts", ["a", "b"], ["a", "b"]),
        ("object", {"a": 1}, {"a": 1}),
    ],
)
def test_what_is_as_it_has_to_be_is_taken(taker: str, good: object, taken: object) -> None:
    assert TAKERS[taker](Fields({"it": good}, "")) == taken


@pytest.mark.parametrize(
    ("taker", "bad"),
    [
        ("text", "a\0"),
        ("name", "a,b"),
        ("name", "a;b"),
        ("name", ""),
        ("number", True),
        ("number", float("inf")),
        ("whole", 10),
        ("whole", -1),
        ("whole", 1.0),
        ("whole", True),
        ("flag", 1),
        ("choice", "gone"),
        ("choice", []),
        ("texts", ["b", "a"]),
        ("texts", ["a", "a"]),
        ("texts", ["a,b"]),
        ("objects", [1]),
        ("inside", []),
    ],
)
def test_anything_else_is_refused(taker: str, bad: object) -> None:
    with pytest.raises(LineError, match=r"^it is .*, allowed is "):
        TAKERS[taker](Fields({"it": bad}, ""))


def test_a_flag_may_have_a_default() -> None:
    fields = Fields({"held": True}, "")
    assert fields.flag("held", default=False)
    assert not fields.flag("proven", default=False)


def test_what_is_inside_is_named_by_its_place() -> None:
    fields = Fields({"list": [{"a": 1}, {"a": "x"}], "one": {"b": 1}}, "node ")
    first, second = fields.objects("list")
    assert first.whole("a") == 1
    with pytest.raises(LineError, match=r"^node list\[1\].a is 'x'"):
        second.whole("a")
    with pytest.raises(LineError, match=r"^node one.b is not known$"):
        fields.inside("one").done()


def test_a_field_is_taken_once_and_what_is_left_is_named() -> None:
    fields = Fields({"a": 1, "b": 2}, "node ")
    assert (fields.has("a"), fields.whole("a"), fields.has("a")) == (True, 1, False)
    with pytest.raises(LineError, match=r"^node b is not known$"):
        fields.done()


def test_what_is_refused_is_not_repeated_at_length() -> None:
    with pytest.raises(LineError) as caught:
        Fields({"a": ["x" * 10_000]}, "").text("a")
    assert len(str(caught.value)) < 120


def test_a_line_is_an_object() -> None:
    assert object_of(b'{"a": 1}') == {"a": 1}


@given(st.binary() | st.lists(st.integers(0, 9)).map(orjson.dumps))
def test_any_bytes_are_an_object_or_no_line(line: bytes) -> None:
    with suppress(LineError):
        assert isinstance(object_of(line), dict)

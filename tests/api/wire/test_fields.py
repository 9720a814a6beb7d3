"""Reading the fields of a request: all faults are reported at once, in one form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.wire.fields import SLIP_EDITS_MAX, UNDECLARED_MAX, Field, Fields, Wrong, is_slip
from openred_central.errors import CallerError


def small(value: Any) -> int:
    if not isinstance(value, int) or value > 9:
        raise Wrong("has to be at most 9")
    return value


def small_field(name: str, *, required: bool = False) -> Field[int]:
    return Field(name, small, "", required=required)


# With an older spelling.
A = Field("a", small, "", alias="old")
SORTED: Field[list[str]] = Field("a", sorted, "", alias="old")


def wrong_in(fields: Fields) -> dict[str, str]:
    with pytest.raises(CallerError) as raised:
        fields.finish()
    assert (raised.value.status, raised.value.code) == (400, "bad_request")
    assert raised.value.fields is not None
    return dict(raised.value.fields)


def test_a_missing_field_has_its_default() -> None:
    fields = Fields({"a": 3}, "body")
    assert fields.take(small_field("a")) == 3
    assert fields.take(small_field("b")) is None
    assert fields.take(small_field("b"), 7) == 7
    assert fields.take(small_field("a", required=True), 0) == 3
    fields.finish()


def test_unknown_fields_are_ignored() -> None:
    fields = Fields({"a": 3, "invented_later": object()}, "body")
    fields.take(small_field("a"))
    fields.finish()


def test_all_wrong_fields_are_named_at_once() -> None:
    fields = Fields({"a": 10, "b": "x", "c": 1}, "body")
    assert fields.take(small_field("a"), 5) == 5
    assert fields.take(small_field("b", required=True), 5) == 5
    assert fields.take(small_field("c")) == 1
    fields.take(small_field("d", required=True), 0)
    fields.reject("e", "does not go with a")
    assert wrong_in(fields) == {
        "a": "has to be at most 9",
        "b": "has to be at most 9",
        "d": "is required",
        "e": "does not go with a",
    }


def test_the_message_says_how_many_fields_are_wrong_and_where() -> None:
    one, two = Fields({"a": 10}, "query"), Fields({}, "body")
    one.take(small_field("a"))
    two.take(small_field("a", required=True), 0)
    two.take(small_field("b", required=True), 0)
    with pytest.raises(CallerError, match="One field of the query cannot be taken: a"):
        one.finish()
    with pytest.raises(CallerError, match="2 fields of the body cannot be taken: a, b"):
        two.finish()


def test_the_first_fault_of_a_field_is_reported() -> None:
    fields = Fields({"a": 10}, "body")
    fields.take(small_field("a"))
    fields.reject("a", "something else")
    assert wrong_in(fields) == {"a": "has to be at most 9"}


@pytest.mark.parametrize(
    ("document", "value", "wrong"),
    [
        ({"old": 4}, 4, {}),
        ({"a": 4, "old": 4}, 4, {}),
        ({"old": 10}, 0, {"old": "has to be at most 9"}),
        ({}, 0, {"a": "is required"}),
        ({"a": 4, "old": 5}, 5, {"a": "differs from old, its older spelling; send only a"}),
        ({"a": 10, "old": "x"}, 0, {"a": "has to be at most 9", "old": "has to be at most 9"}),
    ],
)
def test_a_field_may_have_an_older_spelling(document: Any, value: int, wrong: dict[str, str]) -> None:
    fields = Fields(document, "body")
    assert fields.has(A) == bool(document)
    assert fields.take(replace(A, required=True), 0) == value
    assert (wrong_in(fields) if wrong else fields.finish() or {}) == wrong


def test_equal_values_in_both_spellings_are_accepted() -> None:
    fields = Fields({"a": ["x", "y"], "old": ["y", "x"]}, "body")
    assert fields.take(SORTED) == ["x", "y"]
    fields.finish()


def test_spellings_too_deep_to_compare_are_refused() -> None:
    first: list[Any] = []
    second: list[Any] = []
    for _ in range(5_000):
        first, second = [first], [second]
    fields = Fields({"a": first, "old": second}, "body")
    fields.take(A)
    assert wrong_in(fields).keys() == {"a", "old"}


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        ("a", "a string"),
        ([], "a list"),
    ],
)
def test_a_body_without_an_object_is_refused_by_its_kind(document: Any, kind: str) -> None:
    with pytest.raises(CallerError) as raised:
        Fields.of_body(document)
    assert (raised.value.status, raised.value.code) == (400, "bad_request")
    assert raised.value.message == f"The body is {kind}, it has to be an object."


def test_a_query_names_ignored_parameters_and_refuses_slips() -> None:
    fields = Fields.of_query("a=1&unrelated=2", [A])
    assert fields.ignored == ["unrelated"]
    fields.finish()
    slips = Fields.of_query("odl=1&parameter=2", [A, small_field("parameters")])
    assert wrong_in(slips) == {
        "odl": "is no parameter of this endpoint; did you mean old?",
        "parameter": "is no parameter of this endpoint; did you mean parameters?",
    }


def test_a_query_with_many_unknown_parameters_is_refused() -> None:
    query = "&".join(f"unrelated-{number}=1" for number in range(UNDECLARED_MAX + 1))
    with pytest.raises(CallerError, match=f"{UNDECLARED_MAX} are allowed") as raised:
        Fields.of_query(query, [A])
    assert raised.value.suggestion == "Send only these: a, old."
    assert len(Fields.of_query(query.partition("&")[2], [A]).ignored) == UNDECLARED_MAX


def distance(one: str, other: str) -> int:
    """Compute the Levenshtein distance by its definition."""
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return distance(one[1:], other[1:])
    return 1 + min(distance(one[1:], other), distance(one, other[1:]), distance(one[1:], other[1:]))


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_a_slip_is_at_most_two_edits_away(one: str, other: str) -> None:
    assert is_slip(one, other) == (distance(one, other) <= SLIP_EDITS_MAX)

"""The schemas of answers; that every answer is as they say, is held by every test that calls an endpoint."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from openred_central.api import replies
from openred_central.api.replies import listing, thing

SCHEMAS = {name: value for name, value in vars(replies).items() if name.isupper() and name[0] != "_"}


@pytest.mark.parametrize("name", [name for name, value in SCHEMAS.items() if isinstance(value, dict)])
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


def test_all_members_are_there_but_those_that_may_be_missing() -> None:
    schema = thing("A", {"a": {"type": "integer"}, "b": {"type": "string"}}, optional=("b",))
    assert (schema["title"], schema["required"]) == ("A", ["a"])
    check = Draft202012Validator(schema)
    assert check.is_valid({"a": 1})
    assert check.is_valid({"a": 1, "b": ""})
    assert not check.is_valid({"b": ""})
    assert not check.is_valid({"a": 1, "b": 2})


def test_where_all_may_be_missing_nothing_is_required() -> None:
    assert "required" not in thing("A", {"a": {}}, optional=("a",))


def test_a_listing_is_of_one_kind() -> None:
    assert Draft202012Validator(listing({"type": "integer"})).is_valid([1, 2])
    assert not Draft202012Validator(listing({"type": "integer"})).is_valid([1, "2"])

"""Readers of values take exactly what their schemas allow."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from openred_central.api.wire import values
from openred_central.api.wire.fields import Wrong, or_null, schema_of
from openred_central.wording import parse_rfc3339

Read = Callable[[Any], Any]

# Formats apply to text; the zone of an IPv6 address is local to one machine.
FORMATS = FormatChecker(())
for name, parse in {
    "ipv4": ipaddress.IPv4Address,
    "ipv6": lambda text: ipaddress.IPv6Address(text.replace("%", " ")),
    "date-time": parse_rfc3339,
}.items():
    FORMATS.checks(name, ValueError)(
        lambda value, parse=parse: not isinstance(value, str) or bool((parse(value), 1))
    )


READERS: list[Read] = [
    *(values.node_id, values.address, values.port, values.public_key, values.key_id, values.services),
    *(values.service_query, values.region, values.region_query, values.metadata, values.merge_patch),
    *(values.addresses, values.flag, values.purpose, values.lifetime, values.token, values.time),
    *(values.time_or_none, values.next_key, values.departure, values.states, values.node_ids),
]
ADDRESSES = [
    *("192.0.2.1", "192.0.2.256", "1.2.3", "::1", "fe80::1%eth0"),
    *("a.example", "a.0x1f", "-a.b", "a..b", "a.b."),
]
TEXTS = [
    *("", "null", "node-1", "a" * 64, "a" * 65, "a" * 128, "a" * 129, "A.b:c", ".a", "a\n", "é", "\x00"),
    *("storage", "storage,relay", ",a,,b,", ",".join("a" * 33), "Storage", "a b"),
    *("active", "ACTIVE,coma", "absent", "dead,", "leave", "forget", "LEAVE"),
    *("2027-01-31T12:00:00Z", "2027-01-31t12:00:00.5+01:00", "2027-13-31T12:00:00Z", "2027-01-31", "1"),
    *("A" * 22, "A" * 43, "A" * 44, "A" * 21, "A.B" * 10, *ADDRESSES),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 70_000)
    | st.sampled_from([0.5, 1.0, -1.0, 65_536.0, math.pi])
    | st.sampled_from(TEXTS)
    | st.text(st.characters(codec="utf-8"), max_size=70)
    | st.from_regex(re.compile(r"[A-Za-z0-9_.:,-]{1,48}"), fullmatch=True)
)
ENDPOINTS = st.fixed_dictionaries(
    {}, optional={"address": st.sampled_from(ADDRESSES), "port": st.integers(0, 65_536), "x": st.none()}
)
VALUES = SCALARS | st.recursive(
    SCALARS | ENDPOINTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=8,
)
ITEMS: list[Any] = ["a", "node-1", "a b", {"address": "192.0.2.1", "port": 80}]
COUNTS = (0, 1, 8, 9, 32, 33, 100, 101)


def strictly(schema: Any) -> Any:
    """Return `schema` with the ends of its expressions as in ECMA-262, not as in Python."""
    if isinstance(schema, dict):
        return {
            name: re.sub(r"\$(?=\)|$)", r"\\Z", inner) if name == "pattern" else strictly(inner)
            for name, inner in schema.items()
        }
    return [strictly(item) for item in schema] if isinstance(schema, list) else schema


def allows(read: Read, value: Any) -> bool:
    return bool(Draft202012Validator(strictly(schema_of(read)), format_checker=FORMATS).is_valid(value))


def is_taken(read: Read, value: Any) -> bool:
    try:
        read(value)
    except Wrong:
        return False
    return True


@pytest.mark.parametrize("read", READERS, ids=lambda read: str(read.__name__))
@given(value=VALUES)
def test_a_reader_takes_exactly_what_its_schema_allows(read: Read, value: Any) -> None:
    assert is_taken(read, value) == allows(read, value)


@pytest.mark.parametrize("read", READERS, ids=lambda read: str(read.__name__))
@pytest.mark.parametrize("text", TEXTS)
def test_readers_and_schemas_agree_on_texts_at_the_limits(read: Read, text: str) -> None:
    assert is_taken(read, text) == allows(read, text)
    assert is_taken(read, [text]) == allows(read, [text])


@pytest.mark.parametrize("read", READERS, ids=lambda read: str(read.__name__))
def test_readers_and_schemas_agree_on_lists_at_the_limits(read: Read) -> None:
    for value in ([item] * count for item in ITEMS for count in COUNTS):
        assert is_taken(read, value) == allows(read, value)


@pytest.mark.parametrize(("text", "taken"), [("1", True), ("100", True), ("0", False), ("101", False)])
def test_a_number_in_a_query_is_described_as_a_number(text: str, taken: bool) -> None:
    assert is_taken(values.max_results, text) == taken
    assert Draft202012Validator(schema_of(values.max_results)).is_valid(int(text)) == taken


def test_limits_beyond_json_schema_are_in_descriptions() -> None:
    # Two bytes each, and one for each character that JSON Schema counts.
    text = "é" * (values.PUBLIC_KEY_BYTES_MAX - 1)
    assert allows(values.public_key, text)
    assert not is_taken(values.public_key, text)
    assert "4096 bytes of UTF-8" in schema_of(values.public_key)["description"]
    large = {"a": "x" * values.METADATA_BYTES_MAX}
    assert allows(values.metadata, large)
    assert not is_taken(values.metadata, large)
    assert "4096 bytes of JSON" in schema_of(values.metadata)["description"]


def test_null_becomes_a_further_type_if_possible() -> None:
    assert or_null({"type": "integer"}) == {"type": ["integer", "null"]}
    assert or_null({"enum": ["a"]}) == {"anyOf": [{"enum": ["a"]}, {"type": "null"}]}

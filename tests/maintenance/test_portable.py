"""An export expresses everything, and an import takes in nothing else."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.columns import record_digest
from openred_central.directory.state.node import (
    BLOCKED,
    DISCOVERABLE,
    HELD,
    PROVEN,
    NodeEndpoint,
    Profile,
    Record,
    Tombstone,
    Transition,
    append_entry,
    hash_id,
    history_entry,
)
from openred_central.maintenance.portable import (
    NUMBER_MAX,
    LineError,
    Secret,
    Totals,
    decode,
    decode_header,
    encode,
    encode_footer,
    encode_header,
)
from tests.support.records import record, tombstone

FLOATS = st.floats(-NUMBER_MAX, NUMBER_MAX)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0,;"), min_size=1)
WHOLES = st.integers(0, 2**63 - 1)
PORTS = st.integers(0, 65_535)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
PROFILES = st.builds(
    Profile,
    TEXTS,
    PORTS,
    TEXTS,
    st.lists(st.builds(NodeEndpoint, TEXTS, PORTS), max_size=3).map(tuple),
    st.dictionaries(TEXTS, JSON, max_size=3),
)
TRANSITIONS = st.builds(
    Transition,
    at=FLOATS,
    at_s=st.just(0.0),
    node_id=st.just(""),
    from_state=st.sampled_from(State),
    to_state=st.sampled_from(State),
    reason=NAMES,
)


def history_of(transitions: list[Transition]) -> str:
    history = ""
    for transition in transitions:
        at, _, _, from_state, to_state, reason = transition
        history = append_entry(history, history_entry(at, from_state, to_state, reason))
    return history


RECORDS = st.builds(
    Record,
    slot=st.integers(0, 2**32 - 1),
    node_id=TEXTS,
    state=st.sampled_from(LIVE_STATES).map(int),
    flags=st.sampled_from([flags | held for flags in range(8) for held in (0, 16, 32, 48)]),
    registered_at=FLOATS,
    last_seen_at=FLOATS,
    last_seen_s=FLOATS,
    since_s=FLOATS,
    usual_gap_s=FLOATS,
    revision=WHOLES,
    services=st.lists(NAMES, max_size=4, unique=True).map(lambda names: ",".join(sorted(names))),
    region=TEXTS,
    profile=PROFILES.map(Profile.encode),
    away_from_s=FLOATS,
    away_until_s=FLOATS,
    history=st.lists(TRANSITIONS, max_size=20).map(history_of),
    generation=WHOLES,
    next_key=TEXTS,
    longest=st.integers(0, 255),
)
TOMBSTONES = st.builds(
    Tombstone,
    TEXTS.map(hash_id),
    *(TEXTS, FLOATS, FLOATS, NAMES, WHOLES),
    st.sampled_from((0, PROVEN)),
    TEXTS,
)
ITEMS = st.one_of(
    RECORDS, TOMBSTONES, st.builds(Secret, TEXTS, st.binary()), st.builds(Vitals, FLOATS, WHOLES, FLOATS)
)


@given(ITEMS)
def test_every_item_comes_back_as_it_was(item: Record | Tombstone | Secret | Vitals) -> None:
    line = encode(item)
    assert b"\n" not in line
    slot = item.slot if isinstance(item, Record) else 0
    assert decode(line, slot) == item
    assert encode(decode(line, slot)) == line  # type: ignore[arg-type]


def test_a_hold_is_exported_only_if_set() -> None:
    assert orjson.loads(encode(record(3, flags=DISCOVERABLE | HELD)))["held"] is True
    assert "held" not in orjson.loads(encode(record(3, flags=DISCOVERABLE)))


def test_a_block_is_exported_only_if_set() -> None:
    assert orjson.loads(encode(record(3, flags=DISCOVERABLE | BLOCKED)))["blocked"] is True
    assert "blocked" not in orjson.loads(encode(record(3, flags=DISCOVERABLE)))


def test_the_longest_absence_is_exported_only_if_there_was_one() -> None:
    assert orjson.loads(encode(record(3, longest=9)))["longest"] == 9
    assert "longest" not in orjson.loads(encode(record(3)))


def test_a_node_is_exported_by_names() -> None:
    fields = orjson.loads(encode(record(3, flags=3, state=State.COMA, history="1.000,active,coma,left")))
    assert fields == {
        "type": "node",
        "node_id": "node-3",
        "state": "coma",
        "discoverable": True,
        "left": True,
        "registered_at": 1_800_000_000.25,
        "last_seen_at": 1_800_000_100.5,
        "last_seen_s": 100.5,
        "since_s": 0.25,
        "usual_gap_s": 86_400.0,
        "revision": 4,
        "services": ["relay", "storage"],
        "region": "eu-west",
        "profile": {
            "address": "198.51.100.7",
            "port": 4_242,
            "public_key": "key",
            "addresses": [],
            "metadata": {"name": "Jürgen"},
        },
        "away_from_s": 0.0,
        "away_until_s": 0.0,
        "history": [{"at": 1.0, "from": "active", "to": "coma", "reason": "left"}],
    }


def test_the_digest_ignores_order_and_spaces() -> None:
    items = [record(1), record(2), tombstone("a")]
    totals, reversed_totals = Totals(), Totals()
    for item in items:
        totals = totals.with_line(item, encode(item))
    for item in reversed(items):
        fields = orjson.loads(encode(item))
        shuffled = orjson.dumps(dict(reversed(fields.items())), option=orjson.OPT_INDENT_2)
        decoded: Any = decode(shuffled, 7)
        reversed_totals = reversed_totals.with_line(decoded, encode(decoded))
    assert totals == reversed_totals
    assert (totals.nodes, totals.tombstones, totals.secrets) == (2, 1, 0)
    assert totals.directory_digest == (record_digest(record(1)) + record_digest(record(2))) % 2**64
    assert decode(encode_footer(totals), 0) == totals


@pytest.mark.parametrize("field", [name for name in Record._fields if name != "slot"])
def test_the_digest_covers_every_field(field: str) -> None:
    changes: dict[str, Any] = {
        "node_id": "other",
        "services": "relay",
        "region": "us",
        "profile": b'["198.51.100.7",4242,"key",[],{"name":"Jurgen"}]',
        "history": "1.000,absent,active,registered",
        "state": 2,
        "flags": 0,
        "next_key": "other",
    }
    changed = record(1, **{field: changes.get(field, 77)})
    former = Totals().with_line(record(1), encode(record(1)))
    assert Totals().with_line(changed, encode(changed)).digest != former.digest


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"flags": 256}, "flags 0x100 are not known"),
        ({"state": 8}, "no node is in state 8"),
        ({"profile": b"[1]"}, "not enough values"),
        ({"history": "never"}, "not enough values"),
        ({"history": "1.0,active,gone,x"}, "gone"),
    ],
)
def test_a_record_that_cannot_be_exported_is_reported(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LineError, match=complaint):
        encode(record(1, **change))


NODE = orjson.loads(encode(record(1, history="1.000,active,coma,left")))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"type": "nod"}, "its type is 'nod', allowed is one of node, tombstone, vitals, secret, footer"),
        ({"type": []}, r"its type is \[\]"),
        ({"node_id": 3}, "node node_id is 3, allowed is text"),
        ({"node_id": "a\0"}, "node node_id is 'a.x00', allowed is text"),
        ({"state": "dead"}, "node state is 'dead', allowed is one of active, "),
        ({"state": []}, r"node state is \[\]"),
        ({"keyed": True}, "node profile.public_key is not the text of a key: not base64"),
        ({"held": 1}, "node held is 1, allowed is true or false"),
        ({"longest": 256}, "node longest is 256, allowed is a whole number from 0 to 255"),
        ({"left": 1}, "node left is 1, allowed is true or false"),
        ({"registered_at": "1"}, "node registered_at is '1', allowed is a number"),
        ({"registered_at": 1e308}, "node registered_at is 1e.308, allowed is a number up to 1e.12"),
        ({"registered_at": True}, "node registered_at is True, allowed is a number"),
        ({"registered_at": None}, "node registered_at is None, allowed is a number"),
        ({"revision": -1}, "node revision is -1, allowed is a whole number from 0"),
        ({"revision": 1.0}, "node revision is 1.0, allowed"),
        ({"revision": 2**63}, "node revision is 9223372036854775808, allowed"),
        ({"services": ["b", "a"]}, "node services is .*, allowed is a sorted list of different names"),
        ({"services": ["a", "a"]}, "node services"),
        ({"services": ["a,b"]}, "node services"),
        ({"services": "a"}, "node services"),
        ({"services": [1]}, "node services"),
        ({"profile": []}, "node profile is .*, allowed is an object"),
        ({"profile": {**NODE["profile"], "port": 65_536}}, "node profile.port is 65536, allowed is"),
        ({"profile": {**NODE["profile"], "more": 1}}, "node profile.more is not known"),
        ({"profile": {**NODE["profile"], "addresses": [1]}}, "node profile.addresses is"),
        (
            {"profile": {**NODE["profile"], "addresses": [{"address": "a", "port": 1, "x": 1}]}},
            r"node profile.addresses\[0\].x is not known",
        ),
        ({"history": [{**NODE["history"][0], "to": "gone"}]}, r"node history\[0\].to is 'gone'"),
        ({"history": [{**NODE["history"][0], "reason": "a,b"}]}, r"node history\[0\].reason is 'a,b'"),
        ({"more": 1}, "node more is not known"),
    ],
)
def test_a_line_with_a_wrong_value_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LineError, match=complaint):
        decode(orjson.dumps(NODE | change), 0)


@pytest.mark.parametrize("field", [name for name in NODE if name != "type"])
def test_a_field_that_is_missing_is_named(field: str) -> None:
    with pytest.raises(LineError, match=f"node {field} is missing"):
        decode(orjson.dumps({name: value for name, value in NODE.items() if name != field}), 0)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "it is not JSON"),
        (b'{"type":"node"', "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b"\xff", "it is not JSON"),
        (b'{"type":"secret","name":"a","value":"!"}', "secret value is not base64"),
        (
            b'{"type":"footer","nodes":1,"tombstones":0,"secrets":0,"digest":"x","directory_digest":"0"}',
            "footer digest",
        ),
    ],
)
def test_a_bad_line_is_reported(line: bytes, complaint: str) -> None:
    with pytest.raises(LineError, match=complaint):
        decode(line, 0)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_line_or_an_error(line: bytes) -> None:
    with contextlib.suppress(LineError):
        decode(line, 0)


def test_the_header_has_format_and_version() -> None:
    header = encode_header(1_800_000_000.0)
    decode_header(header)
    decode_header(header.replace(b'"version":2', b'"version":1'))
    with pytest.raises(LineError, match="has version 3 of the format, this program knows versions 1 and 2"):
        decode_header(header.replace(b'"version":2', b'"version":3'))
    for other in (b"", b"{}", b"[1]", b'{"type":"header","format":"other","version":1}', encode(record(1))):
        with pytest.raises(LineError, match="no export of OpenRed Central"):
            decode_header(other)


def test_refused_values_are_cut_in_messages() -> None:
    with pytest.raises(LineError) as caught:
        decode(orjson.dumps(NODE | {"region": ["x" * 10_000]}), 0)
    assert len(str(caught.value)) < 130

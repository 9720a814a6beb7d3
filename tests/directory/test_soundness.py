"""Each kind of damage of a row is told, and all else is served, by columns as row by row."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.soundness import (
    COUNTER_MAX,
    TEXT_BYTES_MAX,
    Screen,
    Unserved,
    are_sound,
    find_fault,
    readable_id,
)
from openred_central.directory.state.columns import RecordColumns, row_of
from openred_central.directory.state.node import KEYED, NodeEndpoint, Profile, Record
from tests.support.building import columns_of
from tests.support.records import record

NOW_S = 1_000.0
KEY = base64.b64encode(bytes(range(32))).decode()
RSA_LIKE = base64.b64encode(bytes(range(200))).decode()


def profile(key: str = KEY, address: str = "192.0.2.1", **metadata: Any) -> bytes:
    return Profile(address, 7_000, key, metadata=metadata).encode()


def sound_records() -> list[Record]:
    """Records of every form that a directory writes."""
    more = Profile("192.0.2.1", 1, "text", (NodeEndpoint("node.example", 65_535),), {"a": [1, {"b": None}]})
    return [
        record(0),
        record(1, flags=KEYED, profile=profile()),
        record(2, flags=KEYED, profile=profile(RSA_LIKE)),
        record(3, profile=profile('quote " and \\ and é')),
        record(4, profile=more.encode(), node_id="näme-4"),
        record(5, profile=profile(long="x" * 4_000), services="", region=""),
        record(6, history="1.000,active,pending_1st,deadline;2.500,pending_1st,active,sign_of_life", state=2),
        record(7, away_from_s=3.0, away_until_s=9e9, generation=7, next_key="k" * 43),
        record(8, registered_at=-5.0, last_seen_at=0.0, flags=64),
        record(9, profile=b'[ "192.0.2.1", 80, "key", [], {} ]'),
    ]


def test_records_of_a_directory_are_sound() -> None:
    for one in sound_records():
        assert find_fault(row_of(one)) is None
    plain = [one for one in sound_records() if one.slot != 8]
    assert are_sound(columns_of(plain), NOW_S)
    screen = Screen(NOW_S, 100)
    columns = columns_of(sound_records())
    assert screen.sound_rows(columns) == columns
    assert screen.unserved == []


def test_many_long_texts_are_as_sound_as_one() -> None:
    key = "k" * 300
    rows = [record(slot, node_id=f"{slot:0200}", profile=profile(key)) for slot in range(2_000)]
    assert sum(len(row.node_id) for row in rows) > TEXT_BYTES_MAX
    assert are_sound(columns_of(rows), NOW_S)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"state": 0}, "its state is 0, which is not in 1 to 7"),
        ({"state": 8}, "its state is 8"),
        ({"state": None}, "its state is None, which is of another type"),
        ({"state": b"1"}, "its state is b'1', which is of another type"),
        ({"flags": 256}, "its flags is 256"),
        ({"flags": -1}, "its flags is -1"),
        ({"slot": -1}, "its slot is -1"),
        ({"slot": 1 << 32}, "its slot is 4294967296"),
        ({"revision": -1}, "its revision is -1"),
        ({"longest": -1}, "its longest is -1"),
        ({"longest": 256}, "its longest is 256, which is not in 0 to 255"),
        ({"longest": 1.5}, "its longest is 1.5, which is of another type"),
        ({"generation": -1}, "its generation is -1"),
        ({"generation": COUNTER_MAX + 1}, "its generation is"),
        ({"last_seen_s": -1e12}, "its last_seen_s is -1000000000000.0, which is not in 0 to"),
        ({"since_s": -0.5}, "its since_s is -0.5"),
        ({"usual_gap_s": 1e300}, "its usual_gap_s is 1e+300"),
        ({"usual_gap_s": -1.0}, "its usual_gap_s is -1.0"),
        ({"registered_at": float("inf")}, "its registered_at is inf"),
        ({"registered_at": float("nan")}, "its registered_at is nan"),
        ({"last_seen_at": -float("inf")}, "its last_seen_at is -inf"),
        ({"away_until_s": 1e300}, "its away_until_s is 1e+300"),
        ({"away_from_s": "3"}, "its away_from_s is '3', which is of another type"),
        ({"node_id": b""}, "its node_id is b'', which has a quote, a backslash or a control character, or"),
        ({"node_id": b'a"b'}, "its node_id is b'a\"b'"),
        ({"node_id": b"a\\b"}, "its node_id is"),
        ({"node_id": b"a\nb"}, "its node_id is"),
        ({"node_id": b"a\0b"}, "its node_id is"),
        ({"node_id": b"\xff"}, "its node_id is b'\\xff', which is not UTF-8"),
        ({"node_id": b"x" * (TEXT_BYTES_MAX + 1)}, f"its node_id has {TEXT_BYTES_MAX + 1} bytes"),
        ({"node_id": 5}, "its node_id is 5, which is of another type"),
        ({"services": b"a,,b"}, "its services is b'a,,b', in which a name is empty or comes twice"),
        ({"services": b"a,a"}, "its services is b'a,a'"),
        ({"services": b"a\0"}, "its services contains a NUL character"),
        ({"region": b"\xc3"}, "its region is b'\\xc3', which is not UTF-8"),
        ({"next_key": b"a\0"}, "its next_key contains a NUL character"),
        ({"history": b"garbage"}, "its history is b'garbage', which is no list of transitions"),
        ({"history": b"nan,active,coma,left"}, "its history is"),
        ({"history": b"1e999,active,coma,left"}, "its history is"),
        ({"history": b"1.0,active,sleeping,left"}, "its history is"),
        ({"history": b"1.0,active,coma,left;"}, "its history is"),
        ({"history": b"1.0,active,coma,left,2.0;active,coma,left"}, "its history is"),
        ({"profile": b""}, "its profile is b'', which is no profile"),
        ({"profile": b"x"}, "its profile is b'x', which is no profile"),
        ({"profile": b"[1,2,3,4,5]"}, "its profile is"),
        ({"profile": b'["a",1,"k",[]]'}, "its profile is"),
        ({"profile": b'["a",1,"k",[],[]]'}, "its profile is"),
        ({"profile": b'["a",1,"k",[],{}],["a",1,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a",true,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a",1.5,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a",65536,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a",-1,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a",01,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a\x01",1,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a\\u0000",1,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a",1,"k",[["b"]],{}]'}, "its profile is"),
        ({"profile": b'["a",1,"k",[],{"a":}]'}, "its profile is"),
        ({"profile": b'["\xff",1,"k",[],{}]'}, "its profile is"),
        ({"profile": b'["a",1,"k",[],' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"]"}, "is nested deeper than"),
        ({"profile": b'["a",1,"k",[],{"a":"%b"}]' % (b"x" * TEXT_BYTES_MAX)}, "its profile has"),
        ({"flags": KEYED, "profile": profile("zzz")}, "its public_key is marked as a key"),
        ({"flags": KEYED, "profile": profile(KEY[:-2] + "9=")}, "its public_key is marked"),
        ({"flags": KEYED, "profile": profile(KEY[:-1])}, "its public_key is marked"),
        ({"flags": KEYED, "profile": profile("é" + KEY[1:])}, "its public_key is marked"),
    ],
)
def test_a_damaged_row_alone_is_set_aside_with_its_reason(damage: dict[str, Any], told: str) -> None:
    damaged = row_of(record(2))._replace(**damage)
    assert told in (find_fault(damaged) or "")
    rows: list[Any] = sorted([row_of(record(1)), damaged, row_of(record(3))], key=lambda row: row[0])
    screen = Screen(NOW_S, 100)
    sound = screen.sound_rows(RecordColumns._make(zip(*rows, strict=True)))
    assert sound is not None
    assert list(sound.slot) == [1, 3]
    (unserved,) = screen.unserved
    assert told in str(unserved)
    assert (unserved.slot, unserved.is_ahead) == (damage.get("slot", 2), False)
    assert unserved.node_id == readable_id(damage.get("node_id", b"node-2"))


VALUES = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.binary(max_size=20)
    | st.text(max_size=20).map(str.encode)
    | st.sampled_from([0, 1, 7, 8, 255, b"", b'["a",1,"k",[],{}]', b"1.0,active,coma,left", None, NOW_S])
)


@given(st.sampled_from(RecordColumns._fields), VALUES, st.integers(0, 9))
def test_columns_and_rows_are_judged_alike(column: str, value: object, place: int) -> None:
    """With any value in any column of a row, the columns pass only if no row is set aside."""
    rows = [row_of(one) for one in sound_records()]
    rows[place] = rows[place]._replace(**{column: value})
    columns = RecordColumns._make(zip(*rows, strict=True))
    try:
        passed = are_sound(columns, NOW_S)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
        passed = False
    if passed:
        # Slots are looked at by the screen, not here.
        assert column == "slot" or [find_fault(row) for row in rows] == [None] * len(rows)


def test_a_row_from_the_future_is_set_aside() -> None:
    screen = Screen(NOW_S, 100)
    rows = [
        record(0, last_seen_s=NOW_S),
        record(1, last_seen_s=NOW_S + 1.5),
        record(2, since_s=1e9, state=2),
    ]
    sound = screen.sound_rows(columns_of(rows))
    assert sound is not None
    assert list(sound.slot) == [0]
    assert [one.is_ahead for one in screen.unserved] == [True, True]
    assert "1.500 s after the time of the directory" in screen.unserved[0].reason


def test_a_row_above_too_many_free_slots_is_set_aside() -> None:
    """Free slots count in all, and rows that are set aside fill none."""
    screen = Screen(NOW_S, 10)
    slots = [0, 5, 11, 12, 13, 4_294_967_290]
    served = screen.sound_rows(columns_of([record(slot) for slot in slots[:3]]))
    assert served is not None
    assert list(served.slot) == [0, 5, 11]
    rest = screen.sound_rows(columns_of([record(slot) for slot in slots[3:]]))
    assert rest is not None
    assert list(rest.slot) == [12, 13]
    assert [one.slot for one in screen.unserved] == [4_294_967_290]
    assert "raise OPENRED_MAX_NODES" in screen.unserved[0].reason
    assert screen.sound_rows(columns_of([record(4_294_967_291)])) is None


def test_a_row_set_aside_names_itself() -> None:
    assert str(Unserved(3, "a", "its state is 9")) == "slot 3, node 'a': its state is 9"
    assert str(Unserved(3, None, "its state is 9")) == "slot 3: its state is 9"
    assert readable_id(b"\xff") is None
    assert readable_id(5) is None

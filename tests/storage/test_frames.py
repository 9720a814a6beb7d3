"""Frames and parts of a load come out of their bytes as they went in; other bytes are refused."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openred_central.directory.frame import Check, Frame, HabitChunk, LoadPart, Outlook
from openred_central.directory.lifecycle import State
from openred_central.directory.state.changes import Batch, Vitals
from openred_central.directory.state.columns import columns_of
from openred_central.directory.state.habits import CHUNK_SLOTS, PACKED_BYTES
from openred_central.directory.state.node import Record, Tombstone
from openred_central.directory.state.signs import SignColumns
from openred_central.storage.frames import FrameError, pack, pack_part, unpack, unpack_part
from openred_central.storage.versions import LINK_VERSION

SLOTS = st.integers(0, 2**32 - 1)
BYTES = st.integers(0, 255)
COUNTERS = st.integers(0, 2**63 - 1)
TIMES = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
RECORDS = st.builds(
    Record,
    slot=SLOTS,
    node_id=TEXTS,
    state=BYTES,
    flags=BYTES,
    **dict.fromkeys(
        (
            *("registered_at", "last_seen_at", "last_seen_s", "since_s", "usual_gap_s"),
            *("away_from_s", "away_until_s"),
        ),
        TIMES,
    ),
    revision=COUNTERS,
    services=TEXTS,
    region=TEXTS,
    profile=st.binary(max_size=12),
    history=TEXTS,
    generation=COUNTERS,
    next_key=TEXTS,
    longest=BYTES,
)
TOMBSTONES = st.lists(
    st.builds(Tombstone, TEXTS, TEXTS, TIMES, TIMES, TEXTS, COUNTERS, BYTES, TEXTS), max_size=3
)
HABITS = st.lists(
    st.builds(
        HabitChunk,
        st.integers(0, 2**25),
        st.binary(min_size=PACKED_BYTES, max_size=PACKED_BYTES),
        st.binary(min_size=CHUNK_SLOTS, max_size=CHUNK_SLOTS),
    ),
    max_size=2,
)
BLOCKS = st.lists(st.tuples(TEXTS, st.none() | st.binary(min_size=1, max_size=9)), max_size=3)
OUTLOOKS = st.none() | st.builds(Outlook, TIMES, TIMES, BYTES, st.binary(max_size=9))


@st.composite
def signs(draw: st.DrawFn) -> SignColumns:
    random, rows = Random(draw(st.integers())), range(draw(st.integers(0, 20)))
    slots = [random.randrange(1 << 32) for _ in rows]
    columns = ([float(random.randrange(1 << 20)) for _ in rows] for _ in range(3))
    return SignColumns(slots, *columns)


FRAMES = st.builds(
    Frame,
    COUNTERS,
    TIMES,
    st.builds(
        Batch,
        st.lists(RECORDS, max_size=3),
        st.lists(SLOTS, max_size=3),
        TOMBSTONES,
        st.lists(TEXTS, max_size=3),
        st.builds(Vitals, TIMES, COUNTERS, TIMES),
        COUNTERS,
        st.just(()),
        BLOCKS,
    ),
    signs(),
    HABITS,
    OUTLOOKS,
    st.none() | st.builds(Check, COUNTERS, st.tuples(*[COUNTERS] * len(State)), COUNTERS),
)
PARTS = st.builds(
    LoadPart,
    COUNTERS,
    COUNTERS,
    COUNTERS,
    COUNTERS,
    TIMES,
    st.none() | st.lists(RECORDS, min_size=1, max_size=3).map(columns_of),
    TOMBSTONES,
    HABITS,
    OUTLOOKS,
    BLOCKS,
)


def rows_of(part: LoadPart) -> LoadPart:
    """Return a part with plain lists for columns, to compare."""
    return (
        part if part.records is None else part._replace(records=part.records._make(map(list, part.records)))
    )


@given(FRAMES)
def test_a_frame_comes_back(frame: Frame) -> None:
    assert unpack(pack(frame, LINK_VERSION)) == frame


@given(PARTS)
def test_a_part_of_a_load_comes_back(part: LoadPart) -> None:
    assert rows_of(unpack_part(pack_part(part, LINK_VERSION))) == rows_of(part)


# Chunks of habits are large, whatever is drawn.
@settings(suppress_health_check=[HealthCheck.data_too_large])
@given(FRAMES, PARTS, st.data())
def test_a_cut_is_refused(frame: Frame, part: LoadPart, data: st.DataObject) -> None:
    for packed, read in ((pack(frame, LINK_VERSION), unpack), (pack_part(part, LINK_VERSION), unpack_part)):
        cut = data.draw(st.integers(0, len(packed) - 1))
        for damaged in (packed[:cut], packed + packed[-cut - 1 :]):
            with pytest.raises(FrameError) as raised:
                read(damaged)
            assert "\n" not in str(raised.value)


@settings(suppress_health_check=[HealthCheck.data_too_large])
@given(FRAMES, PARTS, st.data())
def test_damage_is_refused_or_does_no_harm(frame: Frame, part: LoadPart, data: st.DataObject) -> None:
    for packed, read in ((pack(frame, LINK_VERSION), unpack), (pack_part(part, LINK_VERSION), unpack_part)):
        damaged = bytearray(packed)
        place = data.draw(st.integers(0, len(packed) - 1))
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        with suppress(FrameError):
            read(bytes(damaged))


def test_other_versions_and_kinds_are_refused() -> None:
    part = pack_part(LoadPart(1, 2, 3, 4, 0.5), LINK_VERSION)
    assert unpack_part(part) == LoadPart(1, 2, 3, 4, 0.5, None, [], [], None, [])
    with pytest.raises(FrameError, match=r"version [0-9]+ and kind"):
        unpack_part(bytes([LINK_VERSION + 1]) + part[1:])
    with pytest.raises(FrameError, match=r"version [0-9]+ and kind"):
        unpack(part)

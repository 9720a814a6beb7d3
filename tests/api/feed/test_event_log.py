"""The ring of what happened lately."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.feed.event_log import PIECE_BYTES_MAX, EventLog
from tests.support.sse import read_events

texts = st.text(max_size=60)


def read_all(log: EventLog, number: int) -> list[tuple[str, object, str]]:
    """All events behind `number`, read as a reader does: piece by piece."""
    found: list[tuple[str, object, str]] = []
    while number != log.last:
        piece, number = log.read(number)
        assert piece
        found += read_events(piece)[0]
    return found


@given(st.lists(texts, max_size=40), st.integers(200, 3_000))
def test_a_reader_gets_what_came_behind_its_event_in_order_and_nothing_else(
    said: list[str], bytes_max: int
) -> None:
    log = EventLog("run", bytes_max=bytes_max)
    for text in said:
        log.append("said", {"text": text})
    for number in range(log.first - 1, log.last + 1):
        assert log.number(log.event_id(number)) == number
        assert read_all(log, number) == [
            ("said", {"text": said[place - 1]}, f"run-{place}") for place in range(number + 1, log.last + 1)
        ]
    assert len(log.read(log.first - 1)[0]) <= bytes_max


@pytest.mark.parametrize(
    "event_id",
    [
        "",
        "run",
        "run-",
        "run-x",
        "other-1",
        "run--1",
        "run-1 ",
        "run-99",
        "run-1\n",
        "run-" + "9" * 17,
        "0",
        "run-٣",
    ],
)
def test_an_id_that_is_not_of_this_run_is_not_known(event_id: str) -> None:
    log = EventLog("run")
    log.append("said", {})
    assert log.number(event_id) is None


@given(st.text())
def test_no_id_whatever_it_is_breaks_anything(event_id: str) -> None:
    assert EventLog("run").number(event_id) in (None, 0)


def test_an_id_that_fell_out_of_the_ring_is_not_known() -> None:
    log = EventLog("run", bytes_max=500)
    for number in range(100):
        log.append("said", {"number": number})
    assert log.number("run-1") is None
    assert log.number(log.event_id(log.first - 2)) is None
    assert log.number(log.event_id(log.first - 1)) == log.first - 1
    assert not log.holds(log.first - 2)


def test_a_reader_far_behind_is_given_bounded_pieces() -> None:
    log = EventLog("run")
    for _ in range(1_000):
        log.append("said", {"text": "x" * 100})
    piece, number = log.read(0)
    assert 0 < len(piece) <= PIECE_BYTES_MAX
    assert 0 < number < log.last
    log.append("said", {"text": "x" * 2 * PIECE_BYTES_MAX})
    assert log.read(log.last - 1)[1] == log.last


def test_readers_at_one_place_share_the_bytes() -> None:
    log = EventLog("run")
    log.append("said", {"a": 1})
    assert log.read(0)[0] is log.read(0)[0]
    log.append("said", {"a": 2})
    assert b'"a":2' in log.read(0)[0]


def test_a_subject_can_be_taken_out_of_what_was_said() -> None:
    log = EventLog("run")
    for name in ("alice", "bob", "alice"):
        log.append("said", {"node_id": name, "a": 1}, subject=name)
    assert b"alice" in log.read(0)[0]
    log.forget({"alice"}, {"node_id": None})
    assert [event[1] for event in read_all(log, 0)] == [
        {"node_id": None, "a": 1},
        {"node_id": "bob", "a": 1},
        {"node_id": None, "a": 1},
    ]
    assert [event[2] for event in read_all(log, 0)] == ["run-1", "run-2", "run-3"]


@pytest.mark.parametrize("epoch", ["", "a-b", "a\nb", "x" * 33])
def test_an_epoch_that_could_not_stand_in_an_id_is_refused(epoch: str) -> None:
    with pytest.raises(ValueError, match="allowed are 1 to 32"):
        EventLog(epoch)


def test_the_ring_holds_as_much_after_very_many_were_forgotten() -> None:
    log = EventLog("run", bytes_max=5_000)
    for number in range(2_000):
        log.append("said", {"node_id": f"node-{number}", "a": 1}, subject=f"node-{number}")
        log.forget({f"node-{number}"}, {"node_id": None})
    kept = len(log.read(log.first - 1)[0])
    assert 4_500 < kept <= 5_000

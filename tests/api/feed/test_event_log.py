"""The ring of recent events, and the transitions in it as anybody may see them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.feed.event_log import NAMED_PER_TICK_MAX, PIECE_BYTES_MAX, EventFeed, EventLog
from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import Transition
from tests.support.sse import Event, read_events
from tests.support.world import World

texts = st.text(max_size=60)


def read_all(log: EventLog, number: int) -> list[tuple[str, object, str]]:
    """Read all events behind `number` as a subscriber does: piece by piece."""
    found: list[tuple[str, object, str]] = []
    while number != log.last:
        piece, number = log.read(number)
        assert piece
        found += read_events(piece)[0]
    return found


@given(st.lists(texts, max_size=40), st.integers(200, 3_000))
def test_a_subscriber_gets_exactly_the_events_behind_its_own(said: list[str], bytes_max: int) -> None:
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
        *("", "run", "run-", "run-x", "other-1", "run--1", "run-1 ", "run-99", "run-1\n", "run-" + "9" * 17),
        *("0", "run-٣"),
    ],
)
def test_an_id_of_another_run_is_unknown(event_id: str) -> None:
    log = EventLog("run")
    log.append("said", {})
    assert log.number(event_id) is None


@given(st.text())
def test_any_id_can_be_read(event_id: str) -> None:
    assert EventLog("run").number(event_id) in (None, 0)


def test_an_id_older_than_the_ring_is_unknown() -> None:
    log = EventLog("run", bytes_max=500)
    for number in range(100):
        log.append("said", {"number": number})
    assert log.number("run-1") is None
    assert log.number(log.event_id(log.first - 2)) is None
    assert log.number(log.event_id(log.first - 1)) == log.first - 1
    assert not log.holds(log.first - 2)


def test_a_subscriber_far_behind_gets_bounded_pieces() -> None:
    log = EventLog("run")
    for _ in range(1_000):
        log.append("said", {"text": "x" * 100})
    piece, number = log.read(0)
    assert 0 < len(piece) <= PIECE_BYTES_MAX
    assert 0 < number < log.last
    log.append("said", {"text": "x" * 2 * PIECE_BYTES_MAX})
    assert log.read(log.last - 1)[1] == log.last


def test_subscribers_at_one_place_share_the_bytes() -> None:
    log = EventLog("run")
    log.append("said", {"a": 1})
    assert log.read(0)[0] is log.read(0)[0]
    log.append("said", {"a": 2})
    assert b'"a":2' in log.read(0)[0]


def test_a_subject_can_be_removed_from_the_log() -> None:
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
def test_an_invalid_epoch_is_refused(epoch: str) -> None:
    with pytest.raises(ValueError, match="allowed are 1 to 32"):
        EventLog(epoch)


def test_forgetting_names_does_not_shrink_the_ring() -> None:
    log = EventLog("run", bytes_max=5_000)
    for number in range(2_000):
        log.append("said", {"node_id": f"node-{number}", "a": 1}, subject=f"node-{number}")
        log.forget({f"node-{number}"}, {"node_id": None})
    kept = len(log.read(log.first - 1)[0])
    assert 4_500 < kept <= 5_000


# Transitions


def reported(world: World) -> list[Event]:
    """Return the events of all transitions so far."""
    log = EventLog("run")
    feed = EventFeed(log, world.directory.nodes)
    feed.offer(world.directory.nodes.transitions.take())
    feed.tick(world.clock.wall_s())
    return everything(log)


def everything(log: EventLog) -> list[Event]:
    return read_events(log.read(log.first - 1)[0])[0]


def test_a_transition_is_named_and_counted() -> None:
    world = World()
    world.register()
    transition, summary = reported(world)
    assert transition == (
        "transition",
        {
            "at": "2027-01-15T08:00:00.000Z",
            "node_id": "node-1",
            "hidden": False,
            "from": "absent",
            "to": "active",
            "reason": "registered",
        },
        "run-1",
    )
    assert summary.name == "transitions"
    assert summary.document == {
        "at": "2027-01-15T08:00:00.000Z",
        "count": 1,
        "named": 1,
        "kinds": [{"from": "absent", "to": "active", "reason": "registered", "count": 1, "total": 1}],
    }


def test_a_hidden_node_is_not_named() -> None:
    world = World()
    world.register(discoverable=False)
    transition, summary = reported(world)
    assert (transition.document["node_id"], transition.document["hidden"]) == (None, True)
    assert summary.document["count"] == 1


def test_a_removed_node_is_not_named() -> None:
    world = World()
    claim = world.claim_of()
    world.call("DELETE", "/nodes/node-1?mode=forget", claim=claim)
    assert b"node-1" not in repr(reported(world)).encode()


def test_a_node_that_hides_before_the_tick_is_not_named() -> None:
    world = World()
    world.register(discoverable=False, claim=world.claim_of())
    assert b"node-1" not in repr(reported(world)).encode()


@pytest.mark.parametrize("way", ["hides", "is forgotten", "is purged"])
def test_names_of_hidden_and_forgotten_nodes_leave_the_log(way: str) -> None:
    """Both for an earlier subscriber and for one that resumes."""
    world = World()
    broadcast = world.api.broadcast
    before = broadcast.join(b"", broadcast.log.last)
    claim = world.claim_of()
    world.register(node_id="node-2")
    world.feed.offer(world.directory.nodes.transitions.take())
    broadcast.tick()
    assert b"node-1" in broadcast.log.read(0)[0]
    if way == "hides":
        assert world.register(discoverable=False, claim=claim).status == 200
    elif way == "is forgotten":
        assert world.call("DELETE", "/nodes/node-1?mode=forget", claim=claim).status == 200
    else:
        world.directory.forget("node-1", world.now())
    for subscriber in (before, broadcast.join(b"", 0)):
        piece = broadcast.take(subscriber)
        assert b"node-1" not in piece
        names = [event.document["node_id"] for event in read_events(piece)[0] if event.name == "transition"]
        assert names == [None, "node-2"]


def test_a_node_that_leaves_stays_named() -> None:
    world = World()
    claim = world.claim_of()
    assert world.call("DELETE", "/nodes/node-1", claim=claim).status == 200
    assert world.call("GET", "/nodes/node-1").status == 200
    assert [event.document["node_id"] for event in reported(world)[:-1]] == ["node-1", "node-1"]


def test_a_forgotten_node_is_removed_from_earlier_events() -> None:
    world = World()
    claim = world.claim_of()
    world.register(node_id="node-2")
    log = EventLog("run")
    feed = EventFeed(log, world.directory.nodes)
    for _ in range(2):
        feed.offer(world.directory.nodes.transitions.take())
        feed.tick(world.clock.wall_s())
        world.call("DELETE", "/nodes/node-1?mode=forget", claim=claim)
    names = [event.document["node_id"] for event in everything(log) if event.name == "transition"]
    assert names == [None, "node-2", None]


def test_a_million_transitions_are_a_few_events_with_exact_counts() -> None:
    log = EventLog("run")
    feed = EventFeed(log, World().directory.nodes)
    silent = Transition(0.0, 0.0, "a", State.ACTIVE, State.PENDING_FIRST_CHECK, "deadline")
    gone = Transition(0.0, 0.0, "b", State.COMA, State.DEAD, "deadline")
    for _ in range(1_000):
        feed.offer([silent] * 700 + [gone] * 300)
    feed.tick(0.0)
    *named, summary = everything(log)
    assert len(named) == NAMED_PER_TICK_MAX
    assert summary.document["count"] == 1_000_000
    assert {kind["to"]: kind["count"] for kind in summary.document["kinds"]} == {
        "pending_1st": 700_000,
        "dead": 300_000,
    }


def test_each_kind_has_its_total_since_the_start() -> None:
    """With totals, a subscriber that also reads the statistics counts nothing twice."""
    world = World()
    log = EventLog("run")
    feed = EventFeed(log, world.directory.nodes)
    totals = []
    for numbers in ((1, 2), (3,)):
        for number in numbers:
            world.register(node_id=f"node-{number}")
        feed.offer(world.directory.nodes.transitions.take())
        feed.tick(world.clock.wall_s())
        (kind,) = everything(log)[-1].document["kinds"]
        totals.append((kind["count"], kind["total"]))
        counted = world.call("GET", "/stats").document["lifecycle"]["transitions"]
        assert [one["count"] for one in counted] == [kind["total"]]
    assert totals == [(2, 2), (1, 3)]


def test_a_tick_without_transitions_writes_nothing() -> None:
    log = EventLog("run")
    feed = EventFeed(log, World().directory.nodes)
    feed.tick(0.0)
    feed.offer([])
    feed.tick(1.0)
    assert log.last == 0

"""Transitions as anybody may see them."""

from __future__ import annotations

import pytest

from openred_central.api.feed.event_log import NAMED_PER_TICK_MAX, EventFeed, EventLog
from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import Transition
from tests.support.sse import Event, read_events
from tests.support.world import World


def told(world: World) -> list[Event]:
    """What the transitions so far are told as."""
    log = EventLog("run")
    feed = EventFeed(log, world.directory.nodes)
    feed.offer(world.directory.nodes.transitions.take())
    feed.tick(world.clock.wall_s())
    return everything(log)


def everything(log: EventLog) -> list[Event]:
    return read_events(log.read(log.first - 1)[0])[0]


def test_a_transition_is_told_by_name_and_counted() -> None:
    world = World()
    world.register()
    transition, summary = told(world)
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


def test_a_node_that_is_not_discoverable_has_no_name() -> None:
    world = World()
    world.register(discoverable=False)
    transition, summary = told(world)
    assert (transition.document["node_id"], transition.document["hidden"]) == (None, True)
    assert summary.document["count"] == 1


def test_a_node_that_is_no_more_has_no_name() -> None:
    world = World()
    claim = world.claim_of()
    world.call("DELETE", "/nodes/node-1?mode=forget", claim=claim)
    assert b"node-1" not in repr(told(world)).encode()


def test_a_node_that_hid_before_it_was_told_of_has_no_name() -> None:
    world = World()
    world.register(discoverable=False, claim=world.claim_of())
    assert b"node-1" not in repr(told(world)).encode()


@pytest.mark.parametrize("way", ["hides", "is forgotten", "is purged"])
def test_the_name_of_a_node_that_hides_or_is_forgotten_leaves_the_log_at_once(way: str) -> None:
    """Also what a subscriber takes that was there before, and one that goes on where it was cut off."""
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


def test_a_node_that_leaves_keeps_its_name_as_it_is_still_shown() -> None:
    world = World()
    claim = world.claim_of()
    assert world.call("DELETE", "/nodes/node-1", claim=claim).status == 200
    assert world.call("GET", "/nodes/node-1").status == 200
    assert [event.document["node_id"] for event in told(world)[:-1]] == ["node-1", "node-1"]


def test_who_is_forgotten_is_taken_out_of_what_was_told_before() -> None:
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


def test_each_kind_is_told_with_its_total_since_the_start() -> None:
    """A subscriber that also asks for statistics knows by it what these counted already."""
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


def test_a_tick_without_transitions_tells_nothing() -> None:
    log = EventLog("run")
    feed = EventFeed(log, World().directory.nodes)
    feed.tick(0.0)
    feed.offer([])
    feed.tick(1.0)
    assert log.last == 0

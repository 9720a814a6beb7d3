"""Watched nodes: what a subscriber is told of each, and when a request that waits goes on."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

from openred_central.api.feed.watching import (
    ALIVE_TICKS,
    NODES_PER_PIECE,
    RESUME_MARGIN_S,
    WHAT,
    Face,
    Span,
    Watched,
    Watcher,
    happened,
)
from openred_central.directory.state.node import DISCOVERABLE, LEFT
from tests.support.sse import Event, read_events
from tests.support.world import DAY_S, World


class Party:
    """A world in which some nodes are watched; time is told by hand."""

    def __init__(self, *nodes: str, **options: Any) -> None:
        self.world = World(**options)
        self.watching = self.world.api.watching
        for node_id in nodes:
            self.world.register(node_id=node_id)

    def join(self, *nodes: str, last_id: str = "") -> Watcher:
        return self.watching.join(b"", nodes, last_id)

    def look(self) -> None:
        for _ in self.watching.tick():
            pass

    def take(self, watcher: Watcher) -> list[Event]:
        """Look, and return all that `watcher` is told."""
        self.look()
        events = list[Event]()
        while watcher.pending:
            events += read_events(self.watching.take(watcher))[0]
        return events

    def told(self, watcher: Watcher) -> list[tuple[str, list[str]]]:
        return [(event.document["node_id"], event.document["what"]) for event in self.take(watcher)]


def test_a_stream_begins_with_each_node_as_it_is() -> None:
    party = Party("a", "b")
    first, second, unknown = party.take(party.join("a", "b", "c"))
    assert (first.name, first.document["what"]) == ("node", ["now"])
    looked_up = party.world.call("POST", "/lookup", {"node_ids": ["a", "b"]}).document["nodes"]
    assert [first.document["node"], second.document["node"]] == looked_up
    assert (unknown.document["node_id"], unknown.document["node"]) == ("c", None)


def test_only_watched_nodes_are_told() -> None:
    party = Party("a", "b")
    watcher = party.join("a")
    party.take(watcher)
    party.world.register(node_id="b", address="192.0.2.9")
    assert party.told(watcher) == []


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"address": "192.0.2.9"}, ["moved"]),
        ({"port": 9_000}, ["moved"]),
        ({"services": ["relay"]}, ["services"]),
        ({"metadata": {"x": 1}}, ["changed"]),
        ({"region": "eu"}, ["changed"]),
        ({"address": "192.0.2.9", "services": ["relay"], "region": "eu"}, ["moved", "services", "changed"]),
    ],
)
def test_a_change_is_told_by_its_kind(fields: dict[str, Any], what: list[str]) -> None:
    party = Party()
    claim = party.world.claim_of(node_id="a")
    watcher = party.join("a")
    party.take(watcher)
    party.world.register(node_id="a", claim=claim, **fields)
    (event,) = party.take(watcher)
    assert event.document["what"] == what
    assert event.document["node"].items() >= fields.items()
    assert party.told(watcher) == []


def test_a_heartbeat_in_time_is_not_told() -> None:
    party = Party("a")
    watcher = party.join("a")
    party.take(watcher)
    for _ in range(5):
        party.world.wait(0.9 * party.world.directory.first_gap_s)
        party.world.call("POST", "/heartbeat/a")
        assert party.told(watcher) == []


def test_the_first_heartbeat_of_a_directory_is_in_time() -> None:
    party = Party()
    party.world.clock.advance(-party.world.now().attended_s)
    party.world.register(node_id="a")
    watcher = party.join("a")
    party.take(watcher)
    party.world.wait(60.0)
    party.world.call("POST", "/heartbeat/a")
    assert party.told(watcher) == []


@pytest.mark.parametrize("forecast", [True, False])
def test_a_sign_of_life_of_a_late_active_node_is_told(forecast: bool) -> None:
    party = Party("a", forecast=forecast)
    watcher = party.join("a")
    party.take(watcher)
    party.world.wait(1.6 * party.world.directory.first_gap_s)
    assert party.world.call("GET", "/nodes/a").document["state"] == "active"
    assert party.told(watcher) == []
    party.world.call("POST", "/heartbeat/a")
    assert party.told(watcher) == [("a", ["heard"])]


def test_a_node_whose_sign_of_life_was_known_before_its_state_falls_silent_like_others() -> None:
    party = Party("a")
    watcher = party.join("a")
    party.take(watcher)
    party.world.wait(200 * DAY_S)
    registry = party.world.directory.nodes.registry
    slot = registry.slot_of("a")
    assert slot is not None
    # A follower hears of signs of life before it hears of their transitions.
    registry.last_seen_s[slot] = party.world.now().attended_s
    assert party.told(watcher) == []
    party.world.call("POST", "/heartbeat/a")
    assert party.told(watcher) == [("a", ["heard"])]
    party.world.wait(1.6 * party.world.directory.first_gap_s)
    assert party.told(watcher) == []
    party.world.call("POST", "/heartbeat/a")
    assert party.told(watcher) == [("a", ["heard"])]


@pytest.mark.parametrize("asleep_days", [5, 181, 300])
def test_a_return_from_any_state_is_told(asleep_days: int) -> None:
    party = Party("a")
    watcher = party.join("a")
    party.take(watcher)
    party.world.wait(asleep_days * DAY_S)
    assert party.told(watcher) == []
    party.world.call("POST", "/heartbeat/a")
    (event,) = party.take(watcher)
    assert (event.document["what"], event.document["node"]["state"]) == (["heard"], "active")


def test_a_departure_and_the_end_of_a_node_are_told() -> None:
    party = Party()
    claim = party.world.claim_of(node_id="a")
    watcher = party.join("a")
    party.take(watcher)
    party.world.call("DELETE", "/nodes/a", claim=claim)
    assert party.told(watcher) == [("a", ["left"])]
    party.world.call("DELETE", "/nodes/a?mode=forget", claim=claim)
    (event,) = party.take(watcher)
    assert (event.document["what"], event.document["node"]) == (["gone"], None)
    party.world.register(node_id="a")
    assert party.told(watcher) == [("a", ["heard"])]


# Hidden nodes


def test_a_node_that_hides_looks_gone_and_nothing_more_is_told_of_it() -> None:
    party = Party()
    claim = party.world.claim_of(node_id="a")
    watcher = party.join("a")
    party.take(watcher)
    party.world.register(node_id="a", claim=claim, discoverable=False, address="192.0.2.77")
    (event,) = party.take(watcher)
    assert (event.document["what"], event.document["node"]) == (["gone"], None)
    party.world.register(node_id="a", claim=claim, discoverable=False, address="192.0.2.78")
    party.world.wait(5 * DAY_S)
    party.world.call("POST", "/heartbeat/a")
    assert party.told(watcher) == []
    party.world.register(node_id="a", claim=claim, discoverable=True)
    assert party.told(watcher) == [("a", ["heard"])]


def test_a_change_that_was_not_read_before_a_node_hid_is_not_told() -> None:
    party = Party()
    claim = party.world.claim_of(node_id="a")
    watcher = party.join("a")
    party.take(watcher)
    party.world.register(node_id="a", claim=claim, address="192.0.2.77")
    party.look()
    party.world.register(node_id="a", claim=claim, discoverable=False)
    content = party.watching.take(watcher)
    assert b"192.0.2.77" not in content
    assert b'"what":["gone"]' in content


def test_hidden_and_unknown_nodes_look_equal_at_the_beginning_and_after_a_break() -> None:
    hidden, empty = Party(), Party()
    hidden.world.claim_of(node_id="a", discoverable=False)
    for party in (hidden, empty):
        party.world.wait(2 * RESUME_MARGIN_S)
    for is_resumed in (False, True):
        ids = [last_id(party, party.join("a")) if is_resumed else "" for party in (hidden, empty)]
        looks = [
            party.take(party.join("a", last_id=known))
            for party, known in zip((hidden, empty), ids, strict=True)
        ]
        assert looks[0][0].document == looks[1][0].document


# Resuming


def last_id(party: Party, watcher: Watcher) -> str:
    party.look()
    return read_events(party.watching.take(watcher) + b"data: 0\n\n")[0][-1].last_id


def test_a_resumed_stream_tells_only_what_may_have_changed(seed: int) -> None:
    rng = random.Random(seed)
    party = Party(*(f"node-{number}" for number in range(20)))
    nodes = [f"node-{number}" for number in range(20)]
    party.world.wait(2 * RESUME_MARGIN_S)
    resumed_from = last_id(party, party.join(*nodes))
    changed = rng.sample(nodes, 3)
    party.world.register(node_id=changed[0])
    party.world.call("POST", f"/heartbeat/{changed[1]}")
    slot = party.world.directory.nodes.registry.slot_of(changed[2])
    assert slot is not None
    party.world.directory.revoke_all(slot)
    told = party.told(party.join(*nodes, last_id=resumed_from))
    assert sorted(told) == sorted((node_id, ["now"]) for node_id in changed)


def test_a_sign_of_life_that_came_late_from_another_process_is_told_after_a_break() -> None:
    party = Party("a")
    party.world.wait(2 * RESUME_MARGIN_S)
    heard_at = party.world.now()
    party.world.wait(0.9 * RESUME_MARGIN_S)
    resumed_from = last_id(party, party.join("a"))
    slot = party.world.directory.nodes.registry.slot_of("a")
    assert slot is not None
    party.world.directory.hear(slot, heard_at)
    assert party.told(party.join("a", last_id=resumed_from)) == [("a", ["now"])]


@pytest.mark.parametrize("last_id", ["", "run-1", "9999999-0", "0-9999999", "-1-1", "1" * 13 + "-0", "٣-٣"])
def test_everything_is_told_after_an_id_that_cannot_be_resumed_from(last_id: str) -> None:
    party = Party("a")
    party.world.wait(2 * RESUME_MARGIN_S)
    assert party.told(party.join("a", last_id=last_id)) == [("a", ["now"])]


def test_everything_is_told_after_an_id_of_a_process_that_is_ahead() -> None:
    party = Party("a")
    party.world.wait(2 * RESUME_MARGIN_S)
    at, _, revision = last_id(party, party.join("a")).partition("-")
    assert party.told(party.join("a", last_id=f"{at}-{revision}")) == []
    for ahead in (f"{at}-{int(revision) + 1}", f"{int(at) + 1_000}-{revision}"):
        assert party.told(party.join("a", last_id=ahead)) == [("a", ["now"])]


def test_an_id_comes_only_with_the_last_of_what_is_pending() -> None:
    party = Party()
    watcher = party.join(*(f"node-{number}" for number in range(NODES_PER_PIECE + 1)))
    assert b"id:" not in party.watching.take(watcher)
    assert party.watching.take(watcher).count(b"id:") == 1


def test_a_quiet_stream_moves_on_with_the_time() -> None:
    party = Party("a")
    watcher = party.join("a")
    first = last_id(party, watcher)
    for _ in range(ALIVE_TICKS):
        party.world.wait(10.0)
        party.look()
    content = party.watching.take(watcher)
    assert content.startswith(b"id: ")
    assert b"data" not in content
    assert content.decode() != f"id: {first}\n\n"


# Bounds


def test_a_subscriber_that_does_not_read_costs_no_more_than_its_nodes() -> None:
    party = Party()
    claim = party.world.claim_of(node_id="a")
    watcher = party.join("a")
    for number in range(100):
        party.world.register(node_id="a", claim=claim, address=f"192.0.2.{number + 1}")
        party.look()
    (event,) = party.take(watcher)
    assert event.document["node"]["address"] == "192.0.2.100"


def kept() -> int:
    """Return how much is kept of nodes that are watched."""
    gc.collect()
    return sum(isinstance(found, Watched | Span) for found in gc.get_objects())


async def test_nothing_is_kept_of_who_left() -> None:
    party, before = Party("a", "b"), kept()
    watchers = [party.join("a", "b"), party.join("b", "c")]
    wait = party.watching.wait("a")
    assert wait is not None
    party.look()
    assert kept() > before
    for watcher in watchers:
        await watcher.aclose()
        await watcher.aclose()
    party.watching.leave(wait)
    party.look()
    del watchers, watcher, wait
    assert kept() == before
    assert not party.watching.watchers
    assert not party.watching.waits


def test_nothing_is_kept_of_who_left_during_a_look() -> None:
    party, before = Party("a"), kept()
    late, watcher = party.join("a"), party.join("b")
    party.world.wait(1.6 * party.world.directory.first_gap_s)
    party.look()
    turns = party.watching.tick()
    next(turns)
    party.watching.leave(watcher)
    party.world.register(node_id="b")
    assert list(turns)
    party.watching.leave(late)
    party.look()
    del late, watcher
    assert kept() == before


async def test_a_stream_ends_with_the_process() -> None:
    party = Party("a")
    watcher, pieces = party.join("a"), list[bytes]()

    async def collect() -> None:
        async for piece in watcher:
            pieces.append(piece)

    running = asyncio.create_task(party.watching.run())
    reading = asyncio.create_task(collect())
    await asyncio.sleep(0)
    party.watching.stop()
    await asyncio.gather(running, reading)
    assert len(pieces) == 1


def test_faces_that_differ_in_what_is_not_shown_are_equal_to_all() -> None:
    face = Face(b"a\x00192.0.2.1\x001\x00key\x00", "relay", "eu", DISCOVERABLE)
    assert happened(face, face, heard=False) == 0
    left = face._replace(flags=DISCOVERABLE | LEFT)
    assert [WHAT[bit] for bit in range(7) if happened(face, left, heard=False) >> bit & 1] == ["left"]
    assert happened(left, face, heard=False) == 0

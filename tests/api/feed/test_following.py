"""Events of one process at another: the same ids, the same text, and no name that was concealed."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.feed.broadcast import Broadcast, FigureHistory, Subscriber
from openred_central.api.feed.event_log import (
    BEGINNING,
    PIECE_BYTES_MAX,
    Cursor,
    EventFeed,
    EventLog,
    FollowingFeed,
)
from tests.support.sse import read_events
from tests.support.world import World

HIDDEN = {"node_id": None, "hidden": True}
NAMES = st.sampled_from(["alice", "bob", "carol"])


class Pair:
    """The log of a leader, and that of a follower that gets each piece of news as JSON, or loses it."""

    def __init__(self, *, bytes_max: int = 100_000) -> None:
        self.leader = EventLog("run", bytes_max=bytes_max)
        self.follower = EventLog("run", bytes_max=bytes_max)
        self.cursor = BEGINNING

    def say(self, name: str, text: str = "") -> None:
        self.leader.append("said", {"node_id": name, "hidden": False, "text": text}, subject=name)

    def pass_on(self, *, lost: bool = False) -> bool:
        """Pass on one piece of news. Return whether there was any."""
        news, cursor = self.leader.news(self.cursor)
        is_new = cursor != self.cursor
        self.cursor = cursor
        if not lost:
            self.follower.follow(orjson.loads(orjson.dumps(news)))
        return is_new

    def pass_on_all(self) -> None:
        while self.pass_on():
            pass


def text_of(log: EventLog, number: int | None = None) -> bytes:
    """Return all bytes behind the event `number`, as a subscriber gets them."""
    number, text = log.first - 1 if number is None else number, b""
    while number != log.last:
        piece, number = log.read(number)
        text += piece
    return text


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), NAMES, st.integers(0, 100)),
        st.tuples(st.just("forget"), NAMES, st.just(0)),
        st.tuples(st.just("pass on"), st.just(""), st.just(0)),
        st.tuples(st.just("lose"), st.just(""), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(300, 3_000))
def test_a_follower_has_the_events_of_the_leader_and_no_others(
    steps: list[tuple[str, str, int]], bytes_max: int
) -> None:
    pair = Pair(bytes_max=bytes_max)
    for step, name, size in steps:
        if step == "say":
            pair.say(name, "x" * size)
        elif step == "forget":
            pair.leader.forget({name}, HIDDEN)
        else:
            pair.pass_on(lost=step == "lose")
    pair.say("dave")
    pair.pass_on_all()
    leader, follower = pair.leader, pair.follower
    assert (follower.last, follower.epoch) == (leader.last, leader.epoch)
    assert leader.first <= follower.first <= follower.last
    lost = any(step == "lose" for step, _, _ in steps)
    if not lost:
        assert text_of(follower) == text_of(leader, follower.first - 1)


def test_a_follower_keeps_no_event_that_the_leader_dropped() -> None:
    """The leader could not rewrite it any more."""
    pair = Pair(bytes_max=380)
    pair.say("alice")
    pair.say("bob" * 50)
    pair.pass_on_all()
    # There is no room for alice until bob's long name is gone.
    pair.say("carol", "x" * 30)
    pair.leader.forget({"bob" * 50}, HIDDEN)
    assert b"alice" not in text_of(pair.leader)
    pair.pass_on_all()
    assert text_of(pair.follower) == text_of(pair.leader)


def test_a_new_follower_begins_with_what_is_kept() -> None:
    pair = Pair(bytes_max=1_000)
    for number in range(50):
        pair.say("alice", str(number))
    pair.pass_on_all()
    assert pair.follower.first == pair.leader.first > 1
    assert text_of(pair.follower) == text_of(pair.leader)


def test_known_events_are_skipped() -> None:
    pair = Pair()
    pair.say("alice")
    first, _ = pair.leader.news(BEGINNING)
    pair.say("bob")
    both, _ = pair.leader.news(BEGINNING)
    for news in (first, both, first):
        pair.follower.follow(news)
    assert text_of(pair.follower) == text_of(pair.leader)
    assert pair.follower.emptied == 0


def test_news_are_bounded() -> None:
    pair = Pair()
    for _ in range(2):
        for _ in range(500):
            pair.say("alice", "x" * 100)
        assert len(orjson.dumps(pair.leader.news(pair.cursor)[0])) < 2 * PIECE_BYTES_MAX
        pair.pass_on_all()
    pair.leader.forget({"alice"}, HIDDEN)
    assert len(orjson.dumps(pair.leader.news(pair.cursor)[0])) < 2 * PIECE_BYTES_MAX
    pair.pass_on_all()
    assert text_of(pair.follower) == text_of(pair.leader)
    assert b"alice" not in text_of(pair.follower)


def test_without_news_the_cursor_stays() -> None:
    pair = Pair()
    pair.say("alice")
    pair.pass_on_all()
    assert not pair.pass_on()
    pair.leader.forget({"nobody"}, HIDDEN)
    assert not pair.pass_on()
    assert pair.cursor == Cursor(1, 0)


def test_after_a_gap_and_in_another_run_the_log_begins_anew() -> None:
    pair = Pair()
    for name in ("alice", "bob"):
        pair.say(name)
        pair.pass_on_all()
    pair.say("carol")
    pair.pass_on(lost=True)
    pair.say("dave")
    pair.pass_on_all()
    assert (pair.follower.first, pair.follower.last) == (4, 4)
    assert pair.follower.number("run-2") is None
    other = EventLog("other")
    other.append("said", {})
    pair.follower.follow(other.news(BEGINNING)[0])
    assert text_of(pair.follower) == text_of(other)
    assert pair.follower.number("run-4") is None


def test_the_news_of_a_feed_name_no_node_that_hid() -> None:
    world = World()
    claim = world.claim_of()
    world.feed.offer(world.directory.nodes.transitions.take())
    world.feed.tick(world.clock.wall_s())
    assert b"node-1" in orjson.dumps(world.feed.news(BEGINNING)[0])
    assert world.register(discoverable=False, claim=claim).status == 200
    assert b"node-1" not in orjson.dumps(world.feed.news(BEGINNING)[0])


# Subscribers of a follower


class Follower:
    """The broadcast of a follower of `feed`, whose time is told by hand."""

    def __init__(self, feed: EventFeed) -> None:
        self.leader = feed
        self.cursor = BEGINNING
        self.feed = FollowingFeed(EventLog("run"))
        self.figures: dict[str, Any] = {"nodes": 1}
        self.broadcast = Broadcast(self.feed, lambda: self.figures, lambda: 0.0, subscribers_max=9)

    def pass_on(self) -> None:
        news, self.cursor = self.leader.news(self.cursor)
        self.feed.receive(news)

    def join(self) -> Subscriber:
        return self.broadcast.join(b"", self.broadcast.log.last)


async def pieces_of(subscriber: Subscriber) -> list[bytes]:
    return [piece async for piece in subscriber]


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_subscribers_of_a_follower_get_the_events_and_the_figures_of_the_leader() -> None:
    world = World()
    follower = Follower(world.feed)
    streams = [asyncio.create_task(pieces_of(follower.join())) for _ in range(2)]
    await settle()
    world.register()
    world.feed.offer(world.directory.nodes.transitions.take())
    world.feed.tick(0.0)
    follower.pass_on()
    await settle()
    follower.figures = {"nodes": 2}
    follower.broadcast.tick()
    await settle()
    follower.broadcast.stop()
    first, second = await asyncio.gather(*streams)
    assert first[-1] is second[-1]
    assert first[-1].startswith(text_of(world.feed.log))
    _, *told = read_events(b"".join(first))[0]
    assert [(event.name, event.last_id) for event in told] == [
        ("transition", "run-1"),
        ("transitions", "run-2"),
        ("figures", "run-2"),
    ]
    assert told[-1].document == {"nodes": 2}


async def test_a_name_leaves_a_follower_before_its_tick() -> None:
    world = World()
    follower = Follower(world.feed)
    late = follower.join()
    claim = world.claim_of()
    world.feed.offer(world.directory.nodes.transitions.take())
    world.feed.tick(0.0)
    follower.pass_on()
    follower.broadcast.tick()
    assert world.register(discoverable=False, claim=claim).status == 200
    follower.pass_on()
    for subscriber in (late, follower.broadcast.join(b"", 0)):
        piece = follower.broadcast.take(subscriber)
        assert b'"hidden":true' in piece
        assert b"node-1" not in piece


async def test_a_name_that_is_concealed_before_the_tick_is_never_shown() -> None:
    world = World()
    follower = Follower(world.feed)
    claim = world.claim_of()
    world.feed.offer(world.directory.nodes.transitions.take())
    world.feed.tick(0.0)
    follower.pass_on()
    assert world.register(discoverable=False, claim=claim).status == 200
    follower.pass_on()
    follower.broadcast.tick()
    assert follower.broadcast.log.last == 2
    assert b"node-1" not in text_of(follower.broadcast.log)


async def test_subscribers_return_and_are_told_when_the_log_began_anew() -> None:
    follower = Follower(EventFeed(EventLog("run"), World().directory.nodes))
    for epoch in ("run", "other"):
        stream = asyncio.create_task(pieces_of(follower.join()))
        await settle()
        last_id = follower.broadcast.log.event_id(follower.broadcast.log.last)
        other = EventLog(epoch)
        for _ in range(3):
            other.append("said", {})
        # The first two events were lost on the way, or this is another run.
        news, _ = other.news(Cursor(2, 0))
        follower.feed.receive(news)
        follower.broadcast.tick()
        await asyncio.wait_for(stream, 20.0)
        assert follower.broadcast.log.number(last_id) is None
        assert follower.broadcast.dropped == 0


def test_the_history_of_figures_can_be_passed_on() -> None:
    history, copy = FigureHistory(), FigureHistory()
    for number in range(3):
        history.add({"time": f"time {number}", "by_state": {"active": number}, "latency_ms": {"p50": 0.5}})
    copy.add({"time": "own"})
    copy.restore(orjson.loads(orjson.dumps(history.rows())))
    assert copy.document() == history.document()
    copy.add({"time": "own"})
    assert len(copy) == 4

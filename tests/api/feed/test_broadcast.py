"""Many subscribers of one stream of events, and the figures of the last hour."""

from __future__ import annotations

import asyncio
from typing import Any

from openred_central.api.feed.broadcast import (
    COMMENT_TICKS,
    HISTORY_POINTS_MAX,
    HISTORY_TICKS,
    LAG_TICKS_MAX,
    WAKES_PER_TURN,
    Broadcast,
    FigureHistory,
    Subscriber,
)
from openred_central.api.feed.event_log import EventFeed, EventLog
from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.directory.nodes import Nodes
from openred_central.directory.state.node import Transition
from tests.support.options import lifecycle_options
from tests.support.sse import Event, read_events

WAIT_S = 20.0


class Party:
    """A broadcast whose time is told by hand, and figures that count how often they were asked for."""

    def __init__(self, *, subscribers_max: int = 1_000, bytes_max: int = 100_000) -> None:
        self.figures_made = 0
        self.log = EventLog("run", bytes_max=bytes_max)
        self.feed = EventFeed(self.log, Nodes(lifecycle_options(), shards=4, nodes_max=10))
        self.broadcast = Broadcast(self.feed, self.figures, lambda: 0.0, subscribers_max=subscribers_max)

    def figures(self) -> dict[str, int]:
        self.figures_made += 1
        return {"made": self.figures_made}

    def happen(self, count: int = 1) -> None:
        silent = Transition(0.0, 0.0, "a", State.ACTIVE, State.PENDING_FIRST_CHECK, "deadline")
        self.feed.offer([silent] * count)

    def join(self, number: int | None = None) -> Subscriber:
        return self.broadcast.join(b"", self.log.last if number is None else number)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def collect(subscriber: Subscriber, pieces: list[bytes]) -> None:
    """Take all that comes, each piece when it comes."""
    take = pieces.append
    async for piece in subscriber:
        take(piece)


def events(pieces: list[bytes]) -> list[Event]:
    return read_events(b"".join(pieces))[0]


async def test_a_reader_gets_figures_at_once_and_with_every_tick() -> None:
    party, pieces = Party(), list[bytes]()
    task = asyncio.create_task(collect(party.join(), pieces))
    await settle()
    assert [event.document for event in events(pieces)] == [{"made": 1}]
    party.happen()
    party.broadcast.tick()
    await settle()
    assert [event.name for event in events(pieces)] == ["figures", "transition", "transitions", "figures"]
    assert [event.last_id for event in events(pieces)] == ["run-0", "run-1", "run-2", "run-2"]
    party.broadcast.stop()
    await task


async def test_one_piece_is_made_for_all_subscribers() -> None:
    party = Party()
    received = [list[bytes]() for _ in range(200)]
    tasks = [asyncio.create_task(collect(party.join(), pieces)) for pieces in received]
    await settle()
    for _ in range(3):
        party.happen()
        party.broadcast.tick()
        await settle()
    assert party.figures_made == 4
    assert all(pieces == received[0] for pieces in received)
    for place in range(1, 4):
        assert len({id(pieces[place]) for pieces in received}) == 1
    party.broadcast.stop()
    await asyncio.gather(*tasks)


def test_without_subscribers_only_events_are_kept() -> None:
    party = Party()
    for _ in range(3):
        party.happen()
        party.broadcast.tick()
    assert party.figures_made == 0
    assert party.log.last == 6


def test_the_history_is_kept_also_without_subscribers() -> None:
    party = Party()
    for _ in range(2 * HISTORY_TICKS):
        party.broadcast.tick()
    assert (len(party.broadcast.history), party.figures_made) == (2, 2)


async def test_history_and_subscribers_share_figures() -> None:
    party = Party()
    task = asyncio.create_task(collect(party.join(), []))
    for _ in range(HISTORY_TICKS):
        party.broadcast.tick()
    assert (len(party.broadcast.history), party.figures_made) == (1, 1 + HISTORY_TICKS)
    await settle()
    party.broadcast.stop()
    await task


async def test_readers_are_woken_in_several_turns_of_the_loop() -> None:
    party = Party()
    futures = [party.broadcast.next_tick() for _ in range(WAKES_PER_TURN * 3)]
    party.join()
    party.broadcast.tick()
    counts = []
    for _ in range(4):
        counts.append(sum(future.done() for future in futures))
        await asyncio.sleep(0)
    assert counts == [WAKES_PER_TURN, WAKES_PER_TURN * 2, WAKES_PER_TURN * 3, WAKES_PER_TURN * 3]


async def test_a_resumed_stream_has_all_events_before_the_figures() -> None:
    party, pieces = Party(), list[bytes]()
    for _ in range(300):
        party.happen(50)
        party.broadcast.tick()
    start = party.log.first + 9
    task = asyncio.create_task(collect(party.join(start), pieces))
    await settle()
    found = events(pieces)
    numbers = [int(event.last_id.removeprefix("run-")) for event in found]
    assert numbers == [*range(start + 1, party.log.last + 1), party.log.last]
    assert found[-1].name == "figures"
    assert len(pieces) > 1
    party.broadcast.stop()
    await task


async def test_a_stream_resumed_between_ticks_misses_nothing() -> None:
    party, pieces = Party(), list[bytes]()
    other = asyncio.create_task(collect(party.join(), []))
    for _ in range(5):
        party.happen()
        party.broadcast.tick()
    task = asyncio.create_task(collect(party.join(4), pieces))
    party.happen()
    party.broadcast.tick()
    await settle()
    assert [event.last_id for event in events(pieces) if event.name != "figures"] == [
        f"run-{number}" for number in range(5, 13)
    ]
    party.broadcast.stop()
    await asyncio.gather(task, other)


async def test_an_idle_subscriber_is_disconnected_and_others_served() -> None:
    party, pieces = Party(), list[bytes]()
    stuck, released = party.join(), asyncio.Event()

    async def takes_one_and_no_more() -> None:
        await anext(stuck)
        await released.wait()

    slow = asyncio.create_task(takes_one_and_no_more())
    fast = asyncio.create_task(collect(party.join(), pieces))
    await settle()
    for _ in range(LAG_TICKS_MAX):
        party.broadcast.tick()
        await settle()
    assert (len(party.broadcast.subscribers), party.broadcast.dropped) == (2, 0)
    party.broadcast.tick()
    await settle()
    assert (len(party.broadcast.subscribers), party.broadcast.dropped) == (1, 1)
    assert slow.cancelled()
    assert len(pieces) == LAG_TICKS_MAX + 2
    party.broadcast.stop()
    await fast


async def test_a_subscriber_behind_the_ring_is_disconnected() -> None:
    party = Party(bytes_max=2_000)
    party.join()
    for _ in range(5):
        party.happen(10)
        party.broadcast.tick()
    assert (len(party.broadcast.subscribers), party.broadcast.dropped) == (0, 1)


async def test_a_comment_comes_now_and_then() -> None:
    party, pieces = Party(), list[bytes]()
    task = asyncio.create_task(collect(party.join(), pieces))
    await settle()
    for _ in range(2 * COMMENT_TICKS):
        party.broadcast.tick()
        await settle()
    assert len(read_events(b"".join(pieces))[1]) == 2
    party.broadcast.stop()
    await task


async def test_a_stop_ends_present_and_later_streams() -> None:
    party, pieces = Party(), list[bytes]()
    timer = asyncio.create_task(party.broadcast.run())
    task = asyncio.create_task(collect(party.join(), pieces))
    await settle()
    party.broadcast.stop()
    await asyncio.gather(timer, task)
    await collect(party.join(), pieces)
    assert len(pieces) == 2


async def test_a_subscriber_that_leaves_frees_its_place_once() -> None:
    party = Party(subscribers_max=1)
    subscriber = party.join()
    assert len(party.broadcast.subscribers) == 1
    await subscriber.aclose()
    await subscriber.aclose()
    assert not party.broadcast.subscribers


async def test_a_subscriber_after_a_pause_gets_current_figures() -> None:
    party = Party()
    first = party.join()
    party.broadcast.tick()
    await first.aclose()
    party.broadcast.tick()
    (figures,) = events([await anext(party.join())])
    assert figures.document == {"made": party.figures_made} == {"made": 3}


# The history of figures


STATES = [state.wire for state in LIVE_STATES]


def figures_of(number: int) -> dict[str, Any]:
    return {
        "time": f"time {number}",
        "nodes": number,
        "by_state": {state: number + place for place, state in enumerate(STATES)},
        "requests_per_s": 1.0,
        "heartbeats_per_s": None,
        "transitions_per_s": 3.0,
        "latency_ms": {"p50": 0.1, "p99": 0.2},
        "store": "ok",
    }


def test_points_are_columns_oldest_first() -> None:
    history = FigureHistory()
    history.add(figures_of(1))
    history.add(figures_of(2))
    assert history.document() == {
        "time": ["time 1", "time 2"],
        "by_state": {state: [1 + place, 2 + place] for place, state in enumerate(STATES)},
        "requests_per_s": [1.0, 1.0],
        "heartbeats_per_s": [None, None],
        "transitions_per_s": [3.0, 3.0],
        "latency_ms": {"p50": [0.1, 0.1], "p99": [0.2, 0.2]},
    }


def test_an_empty_history_has_all_its_columns() -> None:
    document = FigureHistory().document()
    assert document["time"] == []
    assert list(document["by_state"]) == STATES
    assert not any(document["by_state"].values())


def test_the_history_is_bounded_and_drops_the_oldest() -> None:
    history = FigureHistory()
    for number in range(HISTORY_POINTS_MAX + 5):
        history.add(figures_of(number))
    assert len(history) == HISTORY_POINTS_MAX
    assert history.document()["time"][0] == "time 5"


def test_missing_figures_leave_a_gap() -> None:
    history = FigureHistory()
    history.add({"nodes": 3})
    assert history.document()["by_state"]["active"] == [None]

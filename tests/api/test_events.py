"""``GET /events``: the stream that each caller gets."""

from __future__ import annotations

import pytest

from openred_central.api.events import RETRY_MS_MAX, RETRY_MS_MIN
from openred_central.micro_engine.wire.messages import StreamingResponse
from tests.support.sse import Event, read_events
from tests.support.world import World, assert_problem, run


async def begun(world: World, target: str = "/events", **headers: str) -> tuple[StreamingResponse, bytes]:
    """Return the stream and everything it sends at once."""
    response = run(world.start(world.request("GET", target, **headers)))
    assert isinstance(response, StreamingResponse)
    content = await anext(response.chunks)
    world.api.broadcast.stopped = True
    async for piece in response.chunks:
        content += piece
    await response.chunks.aclose()  # type: ignore[attr-defined]
    world.api.broadcast.stopped = False
    return response, content


async def read(world: World, target: str = "/events", **headers: str) -> list[Event]:
    return read_events((await begun(world, target, **headers))[1])[0]


def busy_world(transitions: int = 5) -> World:
    world = World()
    for number in range(transitions):
        world.register(node_id=f"node-{number}")
        world.feed.offer(world.directory.nodes.transitions.take())
        world.api.broadcast.tick()
    return world


async def test_a_stream_begins_with_retry_and_figures() -> None:
    response, content = await begun(World())
    events, _, retry_ms = read_events(content)
    assert response.content_type == "text/event-stream"
    assert retry_ms is not None
    assert RETRY_MS_MIN <= retry_ms <= RETRY_MS_MAX
    assert events == [("figures", {"nodes": 0}, "run-0")]


async def test_subscribers_reconnect_spread_over_time() -> None:
    world = World()
    assert len({read_events((await begun(world))[1])[2] for _ in range(10)}) > 5


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/events", {"last_event_id": "run-4"}),
        ("/events?last_event_id=run-4", {}),
        ("/events?last_event_id=run-1", {"last_event_id": "run-4"}),
    ],
)
async def test_a_stream_goes_on_behind_the_last_event(target: str, headers: dict[str, str]) -> None:
    events = await read(busy_world(), target, **headers)
    assert [event.last_id for event in events] == [f"run-{number}" for number in (5, 6, 7, 8, 9, 10, 10)]
    assert events[0].document["node_id"] == "node-2"


@pytest.mark.parametrize("event_id", ["old_run-4", "run-999", "garbage", "%00", "-1"])
async def test_an_unknown_last_event_causes_a_reset(event_id: str) -> None:
    events = await read(busy_world(), f"/events?last_event_id={event_id}")
    assert [event.name for event in events] == ["reset", "figures"]
    assert events[0].last_id == "run-10"


async def test_the_recent_past_can_be_asked_for() -> None:
    assert [event.last_id for event in await read(busy_world(), "/events?recent=3")][:3] == [
        "run-8",
        "run-9",
        "run-10",
    ]
    assert len(await read(busy_world(), "/events?recent=1000")) == 11
    assert len(await read(busy_world())) == 1


@pytest.mark.parametrize("recent", ["-1", "1001", "x", "", "1" * 5_000, "٣"])
def test_an_invalid_number_of_recent_events_is_refused(recent: str) -> None:
    assert_problem(World().call("GET", f"/events?recent={recent}"), 400, "bad_request", fields=["recent"])


async def test_a_subscriber_above_the_limit_is_503() -> None:
    world = World()
    streams = [run(world.start(world.request("GET", "/events"))) for _ in range(3)]
    reply = world.call("GET", "/events")
    assert_problem(reply, 503, "too_many_subscribers")
    assert int(reply.headers["Retry-After"]) > 0
    assert world.api.broadcast.refused == 1
    await streams[0].chunks.aclose()  # type: ignore[attr-defined]
    run(world.start(world.request("GET", "/events")))


async def test_nothing_private_shows(seed: int) -> None:
    world = World(seed=seed)
    world.register(
        node_id="secret-node", address="198.51.100.77", discoverable=False, public_key="secret-key"
    )
    world.feed.offer(world.directory.nodes.transitions.take())
    world.api.broadcast.tick()
    content = (await begun(world, "/events?recent=10"))[1]
    assert b"registered" in content
    for private in (b"secret-node", b"198.51.100.77", b"secret-key"):
        assert private not in content


async def test_the_history_comes_first() -> None:
    world = busy_world(2)
    world.api.broadcast.history.add({"time": "then"})
    events = await read(world, "/events?history=true&recent=1")
    assert [event.name for event in events] == ["history", "transitions", "figures"]
    assert events[0].document["time"] == ["then"]
    # It has the id of the previous event: a stream cut off behind it misses nothing.
    last_id = events[0].last_id
    assert next(event.name for event in await read(world, last_event_id=last_id)) == "transitions"


async def test_without_asking_there_is_no_history() -> None:
    assert [event.name for event in await read(World(), "/events?history=false")] == ["figures"]
    assert_problem(World().call("GET", "/events?history=yes"), 400, "bad_request", fields=["history"])

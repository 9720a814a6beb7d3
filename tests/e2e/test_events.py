"""``GET /events`` at a real server: streams that go on, slow readers, caps, and a stop with streams open."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from openred_central.api.feed.broadcast import LAG_TICKS_MAX, Broadcast
from openred_central.api.feed.event_log import EventFeed, EventLog
from openred_central.directory.nodes import Nodes
from openred_central.listening import address_of, listen_tcp
from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.wire.messages import Request, StreamingResponse
from tests.support.instances import Instance
from tests.support.options import lifecycle_options
from tests.support.running import WAIT_S_MAX, Client, Server, Start, answers
from tests.support.sse import Event, read_events


class Stream:
    """One open stream of events, read as it comes."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.fields: dict[str, str] = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(": ")
            self.fields[name.lower()] = value
        self.content = b""
        self.whole = False

    def more(self) -> bool:
        """Read one more chunk; False at the end of the stream."""
        size = int(self._file.readline() or b"0", 16)
        self.content += self._file.read(size)
        self._file.readline()
        self.whole = not size
        return bool(size)

    @property
    def events(self) -> list[Event]:
        return read_events(self.content)[0]

    def until(self, name: str, count: int = 1) -> list[Event]:
        """Return all events so far when `count` of that name have come."""
        while sum(event.name == name for event in self.events) < count:
            assert self.more(), self.content
        return self.events

    def close(self) -> None:
        self._file.close()


@contextmanager
def stream(server: Server | Instance, target: str = "/events", **headers: str) -> Iterator[Stream]:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    with socket.create_connection(server.address, timeout=WAIT_S_MAX) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n{''.join(lines)}\r\n".encode())
        opened = Stream(connection)
        try:
            yield opened
        finally:
            opened.close()


def test_events_arrive_at_once_and_a_resumed_stream_misses_none(start: Start) -> None:
    server = start("--database", "memory:")
    with Client(server.address) as client:
        with stream(server) as opened:
            assert opened.status == 200
            assert opened.fields["content-type"] == "text/event-stream"
            assert opened.fields["access-control-allow-origin"] == "*"
            opened.until("figures")
            client.register("node-1")
            client.register("hidden-1", discoverable=False)
            events = opened.until("transition", 2)
            last_id = opened.until("figures", 3)[-1].last_id
        names = [event.document["node_id"] for event in events if event.name == "transition"]
        assert sorted(names, key=str) == [None, "node-1"]
        assert b"hidden-1" not in opened.content
        with stream(server) as other:
            other.until("figures")
            client.register("node-2")
            other.until("transition")
        with stream(server, Last_Event_ID=last_id) as again:
            named = [event for event in again.until("transition") if event.name == "transition"]
        assert [event.document["node_id"] for event in named] == ["node-2"]
        with stream(server, f"/events?last_event_id=x{last_id}") as lost:
            assert lost.until("figures")[0].name == "reset"


def test_figures_come_every_second_and_are_those_of_the_server(start: Start) -> None:
    server = start("--database", "memory:")
    with Client(server.address) as client, stream(server) as opened:
        opened.until("figures")
        client.register("node-1")
        for _ in range(50):
            client.ask("POST", "/heartbeat/node-1")
        # Three more than have come meanwhile, however long that took.
        before = [event.name for event in opened.until("transition")].count("figures")
        figures = [event.document for event in opened.until("figures", before + 3) if event.name == "figures"]
        assert figures[-1]["nodes"] == figures[-1]["by_state"]["active"] == 1
        assert max(document["heartbeats_per_s"] or 0 for document in figures) > 10
        assert figures[-1]["uptime_s"] - figures[-3]["uptime_s"] > 1.5


def test_subscribers_beyond_the_limit_are_refused_until_a_place_is_free(start: Start) -> None:
    server = start("--database", "memory:", "--events-subscribers-max", "2")
    with Client(server.address) as client:
        with stream(server) as first, stream(server) as second:
            first.until("figures")
            second.until("figures")
            refused = client.ask("GET", "/events")
            assert (refused.status, refused.document["error"]) == (503, "too_many_subscribers")
            assert int(refused.headers["Retry-After"]) > 0
            assert client.ask("HEAD", "/events").status == 503
        ends_s = time.monotonic() + WAIT_S_MAX
        while True:
            with stream(server) as opened:
                if opened.status == 200:
                    break
            assert time.monotonic() < ends_s
            time.sleep(0.1)


def test_a_stop_ends_open_streams_in_order(start: Start) -> None:
    # Nothing waits so long: the stop is not held up by streams.
    server = start("--database", "memory:", "--drain-timeout-s", str(10 * WAIT_S_MAX))
    with stream(server) as first, stream(server) as second:
        first.until("figures")
        second.until("figures")
        server.stop()
        for opened in (first, second):
            while opened.more():
                pass
            assert opened.whole
            assert opened.events


def test_a_watched_node_is_told_of_and_a_stop_ends_all_waits(start: Start) -> None:
    # Nothing waits so long: the stop is held up neither by streams nor by requests that wait.
    server = start("--database", "memory:", "--drain-timeout-s", str(10 * WAIT_S_MAX))
    with Client(server.address) as client, Client(server.address) as waiting:
        claim = client.register("node-1").document["claim"]
        with stream(server, "/events?nodes=node-1") as watched:
            assert watched.until("node")[0].document["node"]["address"] == "192.0.2.1"
            tag = client.ask("GET", "/nodes/node-1").headers["ETag"]
            wanted = {"If-None-Match": tag, "Prefer": "wait=60"}
            client.register("node-1", claim=claim, address="192.0.2.9")
            changed = waiting.ask("GET", "/nodes/node-1", **wanted)
            assert (changed.status, changed.document["address"]) == (200, "192.0.2.9")
            assert watched.until("node", 2)[1].document["what"] == ["moved"]
            tag = changed.headers["ETag"]
            with socket.create_connection(server.address, timeout=WAIT_S_MAX) as last:
                fields = f"Host: a\r\nIf-None-Match: {tag}\r\nPrefer: wait=60"
                last.sendall(f"GET /nodes/node-1 HTTP/1.1\r\n{fields}\r\n\r\n".encode())
                # It is with the server, which reads in the order of arrival.
                client.ask("GET", "/nodes/node-1")
                server.stop()
                (answer,) = answers(last.recv(65_536))
                assert answer.status == 304
            while watched.more():
                pass
            assert watched.whole


async def test_an_unreading_subscriber_is_dropped_and_others_get_everything() -> None:
    """A real engine, with ticks as fast as they are taken and figures that soon fill every buffer."""
    figures = {"padding": "x" * 200_000}
    nodes = Nodes(lifecycle_options(), shards=1, nodes_max=1)
    feed = EventFeed(EventLog("run"), nodes)
    broadcast = Broadcast(feed, lambda: figures, lambda: 0.0, subscribers_max=10)
    engine = Engine()

    @engine.route("/events")
    async def events(request: Request) -> StreamingResponse:
        return StreamingResponse(broadcast.join(b"", broadcast.log.last))

    listeners = listen_tcp("127.0.0.1", 0, backlog=10)
    host, _, port = address_of(listeners[0]).rpartition(":")
    await engine.start(listeners)
    request = b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n"
    _, slow = await asyncio.open_connection(host, int(port), limit=1_000)
    fast_reader, fast = await asyncio.open_connection(host, int(port))
    slow.write(request)
    fast.write(request)
    received = await fast_reader.readuntil(b"figures")
    for number in range(4 * LAG_TICKS_MAX):
        if broadcast.dropped:
            break
        broadcast.tick()
        while received.count(b"event: figures") < number + 2:
            received += await fast_reader.read(1 << 20)
    assert broadcast.dropped == 1
    assert len(broadcast.subscribers) == 1
    broadcast.stop()
    while piece := await fast_reader.read(1 << 20):
        received += piece
        if received.endswith(b"0\r\n\r\n"):
            break
    assert received.endswith(b"0\r\n\r\n")
    for writer in (slow, fast):
        writer.transport.abort()
    assert await engine.drain() == 0

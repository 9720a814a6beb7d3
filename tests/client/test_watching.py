"""Watching nodes: the events in a stream, and a stream that breaks and goes on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.client import BadAnswer, Client, NodeEvent, ProblemError
from openred_central.client.watching import LINE_BYTES_MAX, EventReader
from tests.support.fake_server import Asked, FakeServer, Lost, Told

NODE = {"node_id": "a", "state": "active"}
NOW_IS = NodeEvent("a", ("now",), NODE, "2026-11-23T08:15:30.250Z")
GONE = NodeEvent("a", ("gone",), None, "2026-11-23T08:15:31.250Z")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def encoded(event: NodeEvent, end: str = "\n") -> bytes:
    document = {"at": event.at, "node_id": event.node_id, "what": event.what, "node": event.node}
    return f"event: node{end}data: {orjson.dumps(document).decode()}{end}{end}".encode()


def chunks(*pieces: bytes) -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


STREAM = b"retry: 2000\n\n: hello\n\n" + encoded(NOW_IS) + encoded(GONE) + b"id: 7-9\n\n"


@given(st.lists(st.integers(0, len(STREAM)), max_size=5))
def test_events_are_read_however_they_are_cut(cuts: list[int]) -> None:
    reader = EventReader()
    places = [0, *sorted(cuts), len(STREAM)]
    events = [event for first, last in pairwise(places) for event in reader.feed(STREAM[first:last])]
    assert events == [NOW_IS, GONE]
    assert reader.last_id == "7-9"


def test_lines_may_end_with_a_carriage_return() -> None:
    assert list(EventReader().feed(encoded(NOW_IS, "\r\n"))) == [NOW_IS]


@pytest.mark.parametrize(
    "content",
    [
        b"event: figures\ndata: {}\n\n",
        b"event: node\ndata: {\n\n",
        b"event: node\ndata: []\n\n",
        b"event: node\ndata: {}\n\n",
        b'event: node\ndata: {"node_id":1,"what":[],"node":null,"at":""}\n\n',
        b'event: node\ndata: {"node_id":"a","what":1,"node":null,"at":""}\n\n',
        b'event: node\ndata: {"node_id":"a","what":[],"node":1,"at":""}\n\n',
        b"event: node\ndata: \xff\n\n",
        b"\n\n\n",
    ],
)
def test_events_that_cannot_be_read_are_skipped(content: bytes) -> None:
    assert list(EventReader().feed(content + encoded(GONE))) == [GONE]


def test_an_id_that_no_header_can_have_is_not_kept() -> None:
    reader = EventReader("1-1")
    for wrong in ("7 9", "\x01", "x" * 200, "ä"):
        list(reader.feed(f"id: {wrong}\n\n".encode()))
        assert reader.last_id == ""


def test_an_unfinished_event_does_not_count_after_a_break() -> None:
    reader = EventReader()
    assert list(reader.feed(b"id: 7-9\n" + encoded(NOW_IS)[:-1])) == []
    reader.restart()
    assert list(reader.feed(encoded(GONE))) == [GONE]
    assert reader.last_id == ""


def test_a_line_without_end_is_refused() -> None:
    reader = EventReader()
    list(reader.feed(b"x" * LINE_BYTES_MAX))
    with pytest.raises(BadAnswer, match="more than"):
        list(reader.feed(b"x"))


def client(server: FakeServer) -> Client:
    return Client(
        server.connections(),
        clock=server.clock,
        entropy=random.Random(3).randbytes,
        node_id="me",
        sleep=server.sleep,
    )


async def watched(answers: Iterable[Told | None], count: int) -> tuple[FakeServer, list[NodeEvent]]:
    """Return the first events of two nodes, from a server that gives these answers; None is a lost one."""
    left = iter(answers)

    def handler(_: Asked) -> Told:
        answer = next(left)
        if answer is None:
            raise Lost
        return answer

    server, events = FakeServer(handler), list[NodeEvent]()
    server.ended = True
    async with client(server) as node, aclosing(node.watch(["a", "k-b"])) as stream:
        async for event in stream:
            events.append(event)
            if len(events) == count:
                break
    return server, events


async def test_a_stream_that_breaks_goes_on_where_it_was() -> None:
    first, second = chunks(encoded(NOW_IS) + b"id: 7-9\n\n"), chunks(encoded(GONE))
    server, events = await watched([None, first, None, second], 2)
    assert events == [NOW_IS, GONE]
    assert {request.target for request in server.asked} == {"/events?nodes=a,k-b"}
    assert [request.headers.get("last-event-id") for request in server.asked] == [None, None, "7-9", "7-9"]
    assert all(0 < waited_s <= 4 for waited_s in server.waited_s)
    assert all(stream.closed for stream in server.streams)


@pytest.mark.parametrize(
    "answer",
    [
        (503, {}, {"Retry-After": "30"}),
        (429, {}, {"Retry-After": "30"}),
        (502, {}),
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"garbage that is no answer\r\n\r\n",
        HEAD + b"zz\r\n",
        HEAD + b"0\r\n\r\n",
    ],
)
async def test_a_stream_goes_on_after_passing_failures(answer: Told) -> None:
    server, events = await watched([answer, answer, chunks(encoded(NOW_IS))], 1)
    assert events == [NOW_IS]
    assert len(server.waited_s) >= 2


@pytest.mark.parametrize("answer", [(400, {"message": "no"}), (404, {})])
async def test_a_refusal_of_the_directory_ends_it(answer: Any) -> None:
    with pytest.raises(ProblemError):
        await watched([answer], 1)


async def test_failures_in_a_row_lengthen_the_pause() -> None:
    server, _ = await watched([*([None] * 8), chunks(encoded(NOW_IS))], 1)
    assert server.waited_s[-1] > 10 * server.waited_s[0]

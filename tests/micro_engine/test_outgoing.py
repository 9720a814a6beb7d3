"""The write side of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from openred_central.micro_engine.outgoing import Outgoing
from openred_central.micro_engine.shared import Stats

from .harness import FakeTransport


@pytest.fixture
def transport() -> Iterator[FakeTransport]:
    loop = asyncio.new_event_loop()
    made = FakeTransport(loop)
    made.high = 1_000_000
    yield made
    loop.close()


@pytest.fixture
def out(transport: FakeTransport) -> Outgoing:
    return Outgoing(transport, Stats(), 0.0)


def test_added_responses_are_written_at_once_in_order(transport: FakeTransport, out: Outgoing) -> None:
    out.add(b"one ")
    out.add(b"two ")
    assert (transport.writes, out.bytes_ready) == ([], 8)
    out.flush()
    assert (transport.writes, out.bytes_ready, out.bytes_written) == ([b"one two "], 0, 8)


def test_empty_flush_writes_nothing(transport: FakeTransport, out: Outgoing) -> None:
    out.flush()
    assert transport.writes == []


def test_stall_is_the_time_in_which_nothing_was_read(transport: FakeTransport, out: Outgoing) -> None:
    transport.client_reads = False
    assert out.stalled_s(5.0) == 0
    out.add(b"x" * 100)
    out.flush()
    assert out.stalled_s(7.0) == 2
    assert out.stalled_s(8.0) == 3
    transport.take(1)
    assert out.stalled_s(9.0) == 0
    assert out.stalled_s(12.0) == 3
    transport.take(99)
    assert out.stalled_s(13.0) == 0
    assert out.stalled_s(99.0) == 0


def test_more_to_send_is_no_progress_of_the_client(transport: FakeTransport, out: Outgoing) -> None:
    transport.client_reads = False
    for second in range(10):
        out.add(b"x" * 10)
        out.flush()
        assert out.stalled_s(float(second)) == second


def test_waiting_ends_when_the_transport_takes_more(transport: FakeTransport, out: Outgoing) -> None:
    loop = transport.loop
    loop.run_until_complete(out.writable())

    async def wait() -> str:
        await out.writable()
        return "resumed"

    out.paused = True
    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    assert not task.done()
    out.resume()
    assert loop.run_until_complete(task) == "resumed"


def test_resume_after_a_cancelled_wait_does_nothing(transport: FakeTransport, out: Outgoing) -> None:
    out.paused = True
    task = transport.loop.create_task(out.writable())
    transport.loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    transport.loop.run_until_complete(asyncio.wait([task]))
    out.resume()
    assert not out.paused

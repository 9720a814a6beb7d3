"""The link between an owner and a worker: whole messages in order, and an end for whatever is none."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from openred_central.cluster import link as module
from openred_central.cluster.link import Kind, Link, LinkBroken, read_json


async def pair() -> tuple[Link, Link]:
    ours, theirs = socket.socketpair()
    return await Link.over(ours), await Link.over(theirs)


async def test_messages_come_whole_and_in_order() -> None:
    owner, worker = await pair()
    contents = [b"", b"x" * 3_000_000, b"end"]
    for content in contents:
        owner.send(Kind.FRAME, content)
    assert [await worker.receive() for _ in contents] == [(Kind.FRAME, content) for content in contents]
    worker.tell(Kind.FIGURES, {"requests": 1})
    kind, content = await owner.receive()
    assert read_json(kind, content) == {"requests": 1}
    await owner.close()
    await worker.close()


async def test_the_end_of_the_other_end_is_told() -> None:
    owner, worker = await pair()
    worker.send(Kind.READY)
    await worker.close()
    assert await owner.receive() == (Kind.READY, b"")
    with pytest.raises(LinkBroken, match="has ended"):
        await owner.receive()
    await owner.close()


async def test_nothing_is_sent_to_an_end_that_has_ended() -> None:
    owner, worker = await pair()
    owner.abort()
    await asyncio.sleep(0)
    with pytest.raises(LinkBroken, match="has ended"):
        owner.send(Kind.STOP)
    await worker.close()


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (struct.pack("<IB", 0, 99), "unknown kind"),
        (struct.pack("<IB", module.MESSAGE_BYTES_MAX + 1, Kind.FRAME), "are allowed"),
    ],
)
async def test_what_is_no_message_ends_the_link(head: bytes, why: str) -> None:
    ours, theirs = socket.socketpair()
    worker = await Link.over(theirs)
    with ours:
        ours.sendall(head)
        with pytest.raises(LinkBroken, match=why):
            await worker.receive()
    await worker.close()


async def test_a_stranger_may_say_little() -> None:
    leader, follower = await pair()
    follower.send(Kind.JOIN, b"x" * 4_096)
    assert await leader.receive(4_096) == (Kind.JOIN, b"x" * 4_096)
    follower.send(Kind.JOIN, b"x" * 4_097)
    with pytest.raises(LinkBroken, match="4097 bytes; 4096 are allowed"):
        await leader.receive(4_096)
    await leader.close()
    await follower.close()


async def test_an_end_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES_MAX", 1_000_000)
    owner, worker = await pair()

    async def send_on() -> None:
        for _ in range(100):
            owner.send(Kind.FRAME, bytes(500_000))
            await asyncio.sleep(0)

    with pytest.raises(LinkBroken, match="has not read"):
        await send_on()
    await worker.close()


def test_json_that_is_none_ends_the_link() -> None:
    with pytest.raises(LinkBroken, match="TICK is not JSON"):
        read_json(Kind.TICK, b"{")

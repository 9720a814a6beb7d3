"""An owner and its workers over real links, in one process: loads, frames, signs of life, and their ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from openred_central.clock import AttendedTime
from openred_central.cluster import link as link_module
from openred_central.cluster.hub import Hub, Member
from openred_central.cluster.link import Kind, Link, LinkBroken
from openred_central.cluster.replica import Replica
from openred_central.directory.following import Following
from openred_central.directory.frame import Check
from openred_central.directory.leading import Leading
from openred_central.directory.merging import Merger
from openred_central.storage.versions import LINK_VERSION
from tests.support.building import DictStore, beat, make_directory, register
from tests.support.clock import VirtualClock


class Owner:
    """The directory of an owner, its hub, and what its workers reported."""

    def __init__(self) -> None:
        self.clock = VirtualClock(monotonic_s=1_000.0)
        self.attended = AttendedTime(self.clock)
        self.directory = make_directory()
        self.store = DictStore()
        self.leading = Leading(self.directory)
        self.reported: list[tuple[str, Any]] = []
        self.hub = Hub(
            self.leading,
            Merger(self.directory),
            self.attended.now,
            hello=lambda: {"run": "run"},
            tick=lambda: {"attended_s": self.attended.now().attended_s, "attending": True},
            news=lambda cursor: ({"epoch": "run"}, 1),
            reported=lambda number, figures: self.reported.append((number, figures)),
        )

    def register(self, *names: str) -> None:
        for name in names:
            register(self.directory, name, self.attended.now())

    def commit(self) -> None:
        """Commit all changes as the saver does."""
        while (batch := self.directory.saving.take_changes(1_000, self.attended.now())) is not None:
            self.store.commit(batch)
            self.hub.committed(batch)
            if not self.directory.saving.pending:
                break


class Side:
    """One worker, as far as the link goes."""

    def __init__(self, owner: Owner, end: Link) -> None:
        self.directory = make_directory()
        self.attended = AttendedTime(owner.clock)
        self.told: list[dict[str, Any]] = []
        self.news: list[dict[str, Any]] = []
        self.renewed = 0
        self.link = end
        self.member: Member
        self.following: asyncio.Task[None]
        self.replica = Replica(
            end,
            Following(self.directory),
            self.attended,
            owner.clock,
            flush_s=60.0,
            ticked=self.told.append,
            events=self.news.append,
            renew=self.renew,
        )

    def renew(self) -> None:
        self.renewed += 1


async def until(ready: Callable[[], object]) -> None:
    """Let the loop turn until `ready`; a test that waits for nothing fails by its time."""
    while not ready():
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def worker(owner: Owner, number: int = 0, through_s: float | None = None) -> AsyncIterator[Side]:
    """Yield a loaded worker that follows; its link ends with it. `through_s` is as in `Member`."""
    ours, its = socket.socketpair()
    side = Side(owner, await Link.over(its))
    side.member = Member(f"worker {number}", await Link.over(ours), owner.attended.now(), through_s)
    serving = asyncio.create_task(owner.hub.serve(side.member))
    assert await side.link.receive() == (Kind.HELLO, b'{"run":"run"}')
    await side.replica.load()
    side.replica.ready(side.attended.now().attended_s)
    following = side.following = asyncio.create_task(side.replica.run())
    await until(side.member.ready.is_set)
    try:
        yield side
    finally:
        following.cancel()
        side.link.abort()
        with contextlib.suppress(asyncio.CancelledError, LinkBroken):
            await following
        await serving


def same(side: Side, owner: Owner) -> bool:
    one, other = side.directory.nodes, owner.directory.nodes
    return Check.of(one) == Check.of(other) and list(one.registry.last_seen_s) == list(
        other.registry.last_seen_s
    )


@pytest.fixture
def owner() -> Owner:
    return Owner()


async def test_a_worker_is_loaded_and_follows(owner: Owner) -> None:
    owner.register("a", "b")
    owner.commit()
    async with worker(owner) as side:
        assert same(side, owner)
        owner.register("c")
        owner.directory.leave("a", owner.attended.now())
        owner.directory.forget("b", owner.attended.now())
        owner.commit()
        await until(lambda: side.replica.seq == owner.leading.seq)
        assert same(side, owner)
        assert side.replica.lag.counts != [0] * len(side.replica.lag.counts)


async def test_changes_during_a_load_are_not_lost_and_no_fault(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("openred_central.directory.leading.LOAD_ROWS", 2)
    owner.register(*(f"node-{number}" for number in range(50)))
    owner.commit()
    load = owner.leading.load

    def changing() -> Any:
        for number, part in enumerate(load()):
            yield part
            if number < 20:
                owner.register(f"new-{number}")
            if number < 20 and number % 3 == 0:
                owner.directory.forget(f"node-{number}", owner.attended.now())
                owner.commit()
                # Not committed yet when the next part is made.
                owner.register(f"late-{number}")

        # Until then the load is ahead of the frames, and the worker does not serve yet.
        asyncio.get_running_loop().call_later(0.05, owner.commit)

    monkeypatch.setattr(owner.leading, "load", changing)
    async with worker(owner) as side:
        await until(lambda: side.replica.seq == owner.leading.seq)
        assert same(side, owner)
        assert side.replica.is_current
    assert caplog.text == ""


async def test_each_follower_is_told_in_the_version_of_its_link(owner: Owner) -> None:
    owner.register("a")
    owner.commit()
    followers = []
    for version in (LINK_VERSION, LINK_VERSION + 1):
        ours, its = socket.socketpair()
        member = Member("follower", await Link.over(ours), owner.attended.now())
        member.link.version = version
        serving = asyncio.create_task(owner.hub.serve(member))
        followers.append((version, await Link.over(its), serving))
    await until(lambda: len(owner.hub.members) == len(followers))
    owner.register("b")
    owner.commit()
    for version, link, serving in followers:
        versions = dict[Kind, int]()
        while Kind.FRAME not in versions or Kind.LOADED not in versions:
            kind, content = await link.receive()
            versions[kind] = content[0] if content else version
        assert versions[Kind.LOAD] == versions[Kind.FRAME] == version
        link.abort()
        await serving


async def test_signs_of_life_reach_the_owner_and_the_other_workers(owner: Owner) -> None:
    owner.register("a", "b")
    owner.commit()
    async with worker(owner, 0) as one, worker(owner, 1) as other:
        owner.clock.advance(1.0)
        heard_s = one.attended.now().attended_s
        beat(one.directory, "a", one.attended.now())
        await one.replica.flush()
        slot = owner.directory.slot("a", owner.attended.now())
        await until(lambda: owner.directory.nodes.registry.last_seen_s[slot] == heard_s)
        owner.commit()
        await until(lambda: other.replica.seq == owner.leading.seq)
        assert other.directory.nodes.registry.last_seen_s[slot] == heard_s
        assert other.directory.nodes.registry.last_seen_s[1 - slot] < heard_s


async def test_signs_of_life_that_the_owner_ignores_go_no_further(owner: Owner) -> None:
    owner.register("a", "b")
    owner.commit()
    async with worker(owner, 0) as one, worker(owner, 1) as other:
        owner.clock.advance(1.0)
        now = one.attended.now()
        beat(one.directory, "a", now)
        beat(one.directory, "b", now)
        # The workers do not know it yet.
        owner.directory.forget("a", now)
        await one.replica.flush()
        known = other.directory.nodes.registry
        await until(lambda: known.last_seen_s[other.directory.slot("b", now)] == now.attended_s)
        assert known.last_seen_s[other.directory.slot("a", now)] < now.attended_s


async def test_the_horizon_is_what_all_workers_have_delivered(owner: Owner) -> None:
    assert owner.hub.horizon_s() == owner.attended.now().attended_s
    async with worker(owner, 0) as one, worker(owner, 1) as other:
        ready_s = owner.attended.now().attended_s
        owner.clock.advance(1.0)
        await one.replica.flush()
        await until(lambda: one.member.through_s != ready_s)
        assert owner.hub.horizon_s() == ready_s
        await other.replica.flush()
        await until(lambda: owner.hub.horizon_s() > ready_s)
    assert owner.hub.horizon_s() == owner.attended.now().attended_s


async def test_a_follower_that_is_back_has_delivered_nothing_yet(owner: Owner) -> None:
    before_s = owner.attended.now().attended_s - 50.0
    async with worker(owner, through_s=before_s) as side:
        assert side.member.through_s == before_s
        await side.replica.flush()
        await until(lambda: side.member.through_s != before_s)


async def test_a_follower_that_drains_says_so(owner: Owner) -> None:
    async with worker(owner) as side:
        assert not side.member.has_drained
        side.replica.drained(2)
        await until(lambda: side.member.has_drained)
        assert side.member.cut == 2


async def test_a_missing_frame_ends_in_a_new_load(owner: Owner, caplog: pytest.LogCaptureFixture) -> None:
    owner.register("a")
    owner.commit()
    async with worker(owner) as side:
        link, side.member.link = side.member.link, _Losing()  # type: ignore[assignment]
        owner.register("b")
        owner.commit()
        side.member.link = link
        owner.register("c")
        owner.commit()
        await until(lambda: side.replica.seq == owner.leading.seq and side.replica.is_current)
        assert same(side, owner)
    assert "is read anew from the leader: frame 3 came after frame 1" in caplog.text


async def test_a_copy_that_differs_is_read_anew_and_logged(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    owner.register("a", "b")
    owner.commit()
    async with worker(owner) as side:
        # Memory that fails, or a bug.
        side.directory.nodes.clear(side.directory.slot("a", side.attended.now()))
        owner.register("c")
        owner.commit()
        await until(lambda: same(side, owner) and side.replica.is_current)
    errors = [line for line in caplog.records if line.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "read anew from the leader" in errors[0].getMessage()


async def test_a_worker_that_does_not_read_is_cut_off(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(owner) as side:
        monkeypatch.setattr(link_module, "QUEUE_BYTES_MAX", 1_000)
        side.link._reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
        await until(lambda: (owner.hub.send_all(Kind.FRAME, bytes(100_000)), not owner.hub.members)[1])
    assert "worker 0 is cut off: the other end has not read" in caplog.text


async def test_a_message_that_no_worker_sends_ends_the_link(owner: Owner) -> None:
    async with worker(owner) as side:
        side.link.send(Kind.FRAME, b"")
        await until(lambda: not owner.hub.members)


@pytest.mark.parametrize("content", [b"", b"x" * 40])
async def test_damaged_signs_of_life_end_the_link(owner: Owner, content: bytes) -> None:
    async with worker(owner) as side:
        side.link.send(Kind.SIGNS, content)
        await until(lambda: not owner.hub.members)


@pytest.mark.parametrize("content", [b"", b'"since noon"', b"[]", b"null"])
async def test_a_time_that_is_none_ends_the_link(owner: Owner, content: bytes) -> None:
    async with worker(owner) as side:
        side.link.send(Kind.READY, content)
        await until(lambda: not owner.hub.members)
        assert isinstance(side.member.through_s, float)


async def test_a_damaged_frame_ends_the_link(owner: Owner) -> None:
    async with worker(owner) as side:
        owner.hub.send_all(Kind.FRAME, b"\xff\xff")
        with pytest.raises(LinkBroken, match="cannot be read"):
            await side.following


async def test_ticks_and_news_and_commands_arrive(owner: Owner) -> None:
    async with worker(owner) as side:
        owner.clock.advance(0.5)
        owner.hub.tick()
        owner.hub.tick()
        await until(lambda: len(side.told) == 2)
        assert side.attended.now().attended_s == owner.attended.now().attended_s
        # The cursor did not move, so the news came once.
        assert side.news == [{"epoch": "run"}]
        owner.hub.send_all(Kind.RENEW)
        owner.hub.send_all(Kind.STOP)
        await side.replica.stopped.wait()
        assert side.renewed == 1
        side.replica.report({"requests": 3})
        await until(lambda: owner.reported == [("worker 0", {"requests": 3})])


async def test_without_a_word_of_the_owner_a_worker_is_not_current(owner: Owner) -> None:
    async with worker(owner) as side:
        owner.hub.tick()
        await until(lambda: side.told)
        assert side.replica.is_current
        owner.clock.advance(3.5)
        assert not side.replica.is_current


async def test_a_request_waits_for_its_change_and_no_longer_than_it_may(owner: Owner) -> None:
    async with worker(owner) as side:
        seq = side.replica.seq
        assert await side.replica.reached(seq, 0.0)
        assert not await side.replica.reached(seq + 1, 0.01)
        waiting = asyncio.create_task(side.replica.reached(seq + 1, 10.0))
        await asyncio.sleep(0)
        owner.register("a")
        owner.commit()
        assert await waiting
        await until(lambda: side.replica.waiting == 0)


class _Losing:
    """A link that loses what is sent."""

    version = LINK_VERSION

    def send(self, kind: Kind, content: bytes = b"") -> None: ...


async def test_a_request_that_waited_in_vain_waits_no_more(owner: Owner) -> None:
    async with worker(owner) as side:
        assert not await side.replica.reached(side.replica.seq + 5, 0.001)
        assert side.replica.waiting == 0


async def test_a_request_does_not_wait_for_a_leader_that_is_gone(owner: Owner) -> None:
    async with worker(owner) as side:
        missing = side.replica.seq + 1
        waiting = asyncio.create_task(side.replica.reached(missing, 3_600.0))
        await until(lambda: side.replica.waiting)
        side.link.abort()
        assert not await waiting
        assert not await side.replica.reached(missing, 3_600.0)
        assert await side.replica.reached(side.replica.seq, 0.0)


async def test_the_owner_knows_when_all_have_a_commit(owner: Owner) -> None:
    assert await owner.hub.known_to_all(1.0), "without followers there is nobody to ask"
    async with worker(owner, 0) as side, worker(owner, 1) as other:
        owner.register("a")
        owner.commit()
        assert await owner.hub.known_to_all(10.0)
        assert same(side, owner)
        assert same(other, owner)
        other.following.cancel()
        assert not await owner.hub.known_to_all(0.05), "one does not answer"

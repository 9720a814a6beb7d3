"""The generator times every due request, also against servers that are slow, close, or send nonsense."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import perf_counter
from typing import ClassVar, cast

import pytest

from benchmarks.load.generator import Generator, Schedule
from benchmarks.load.requests import LoadOptions
from benchmarks.load.tally import Tally

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
NONSENSE = b"SSH-2.0-OpenSSH\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\nup to the end"


class Misbehaving(asyncio.Protocol):
    """Answers the first requests of each connection with `answers`, and closes it after the last."""

    answers: tuple[bytes, ...] = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._left = list(self.answers)

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            if not self._left:
                return
            self._transport.write(self._left.pop(0))
            if not self._left:
                self._transport.close()


async def load(
    *answers: bytes, protocol: Callable[[], asyncio.Protocol] | None = None, **options: object
) -> Tally:
    """Load such a server, or one of `protocol`, for a moment over two connections."""
    serving = protocol or type("Here", (Misbehaving,), {"answers": answers})
    listener = await asyncio.get_running_loop().create_server(serving, "127.0.0.1", 0)
    given = {"mix": {"root": 1}, "duration_s": 0.3, "warm_up_s": 0.0, "connections": 2, **options}
    port = listener.sockets[0].getsockname()[1]
    generator = Generator(LoadOptions("127.0.0.1", port, **given), lambda second: None)  # type: ignore[arg-type]

    async def at_once() -> float:
        return perf_counter()

    tally = await generator.run(at_once)
    listener.close()
    return tally


@pytest.mark.parametrize("answers", [(CLOSING,), (ANSWER, ANSWER, CLOSING)])
async def test_connections_closed_in_order_are_replaced(answers: tuple[bytes, ...]) -> None:
    tally = await load(*answers)
    assert tally.answered > 6
    assert (tally.failed, tally.error) == (0, "")


class Counting(Misbehaving):
    """Answers every request, and notes for each connection what came over it."""

    all_came: ClassVar[list[list[bytes]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.came: list[bytes] = []
        self.all_came.append(self.came)

    def data_received(self, data: bytes) -> None:
        self.came.append(data)
        self._transport.write(ANSWER)


@pytest.mark.parametrize("rate", [None, 200.0])
async def test_kinds_with_fresh_connections_use_each_once(rate: float | None) -> None:
    Counting.all_came = []
    tally = await load(protocol=Counting, mix={"root": 1, "heartbeat": 1}, fresh=("heartbeat",), rate=rate)
    kept, fresh = Counting.all_came[:2], Counting.all_came[2:]
    assert all(data.startswith(b"GET / ") and b"Connection:" not in data for came in kept for data in came)
    assert len(fresh) > 5
    # The last ones may be on their way at the end.
    assert all(len(came) == 1 for came in fresh[:-2])
    assert all(came[0].endswith(b"\r\nConnection: close\r\n\r\n") for came in fresh if came)
    assert all(sum(statuses.values()) > 5 for statuses in tally.statuses)
    assert (tally.failed, tally.unanswered, tally.error) == (0, 0, "")


async def test_requests_lost_with_their_connection_are_counted() -> None:
    tally = await load(ANSWER, ANSWER, pipeline=4)
    assert tally.failed > 0


async def test_unanswered_requests_are_timed_up_to_the_end() -> None:
    tally = await load(rate=100.0)
    # Two are in flight. All others wait for a connection, and count although they were never sent.
    assert tally.answered == 0
    assert tally.unanswered == tally.all_times().count >= 29
    assert tally.all_times().quantile_us(0.5) > 1_000_000


async def test_unreadable_answer_ends_the_run_with_the_reason() -> None:
    assert (await load(NONSENSE)).error.startswith("an answer cannot be read: ")


async def test_answer_up_to_the_end_of_its_connection_counts_as_lost() -> None:
    tally = await load(ENDLESS)
    assert tally.answered == 0
    assert tally.error == "the server closed all connections"


async def test_answer_without_request_is_an_error() -> None:
    assert (await load(ANSWER * 2)).error == "an answer came without a request"


class Slow(asyncio.Protocol):
    """Answers every request after the measured time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        answers = ANSWER * data.count(b"\r\n\r\n")
        asyncio.get_running_loop().call_later(0.5, self._transport.write, answers)


async def test_late_answers_are_no_throughput() -> None:
    tally = await load(protocol=Slow, rate=100.0, connections=50)
    assert tally.answered == sum(tally.overdue) > 0
    assert tally.requests_per_s == 0
    assert tally.all_times().count == tally.answered + tally.unanswered


class Refusing(asyncio.Protocol):
    """Refuses every request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER.replace(b"200 OK", b"503 Busy"))


async def test_idle_connection_reports_a_refusal() -> None:
    tally = await load(protocol=Refusing, idle_connections=1, idle_requests=[b"GET / HTTP/1.1\r\n\r\n"])
    assert tally.error.startswith("an idle connection was answered b'HTTP/1.1 503")


def test_requests_are_due_evenly_from_the_start() -> None:
    schedule = Schedule(10.0, rate=4)
    assert schedule.take_due(9.99, 100) == []
    assert schedule.take_due(10.0, 100) == [10.0]
    assert schedule.next_s() == 10.25
    assert schedule.take_due(11.0, 100) == [10.25, 10.5, 10.75, 11.0]


def test_late_caller_gets_all_due_times() -> None:
    schedule = Schedule(0.0, rate=10)
    assert schedule.take_due(5.0, 3) == [0.0, 0.1, 0.2]
    assert len(schedule.take_due(5.0, 1_000)) == 48


def test_generators_share_the_rate_in_turns() -> None:
    schedules = [Schedule(0.0, 10, generator, 3) for generator in range(3)]
    due = sorted(due_s for schedule in schedules for due_s in schedule.take_due(2.95, 1_000))
    assert due == pytest.approx([number / 10 for number in range(30)])


def test_due_times_do_not_depend_on_the_calls(seed: int) -> None:
    chance, schedule = random.Random(seed), Schedule(3.0, rate=70)
    now_s, taken = 3.0, []
    while now_s < 8:
        taken += schedule.take_due(now_s, chance.randrange(1, 10))
        now_s += chance.random() / 5
    rest = schedule.take_due(8, 10_000)
    assert taken + rest == Schedule(3.0, rate=70).take_due(8, 10_000)

"""The generator against servers that behave badly: slow ones, such that close, such that talk nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import cast

import pytest
import uvloop

from benchmarks.load.generator import Generator, LoadOptions
from benchmarks.load.tally import Tally

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"


class Misbehaving(asyncio.Protocol):
    """Answers the first requests of each connection with `answers`, and closes it behind the last."""

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


def load(*answers: bytes, protocol: Callable[[], asyncio.Protocol] | None = None, **options: object) -> Tally:
    """Load such a server, or one of `protocol`, for a moment over two connections."""

    async def main() -> Tally:
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

    return uvloop.run(main())


@pytest.mark.parametrize("answers", [(CLOSING,), (ANSWER, ANSWER, CLOSING)])
def test_connections_that_the_server_closes_in_order_are_replaced(answers: tuple[bytes, ...]) -> None:
    tally = load(*answers)
    assert tally.answered > 6
    assert (tally.failed, tally.error) == (0, "")


def test_requests_that_are_lost_with_their_connection_are_counted() -> None:
    tally = load(ANSWER, ANSWER, pipeline=4)
    assert tally.failed > 0


def test_a_server_that_answers_nothing_leaves_its_requests_timed_up_to_the_end() -> None:
    tally = load(rate=100.0)
    # Two are in flight, all others wait for a connection: none is left out because it was never sent.
    assert tally.answered == 0
    assert tally.unanswered == tally.all_times().count >= 29
    assert tally.all_times().quantile_us(0.5) > 1_000_000


def test_what_is_no_answer_ends_the_run_with_the_reason() -> None:
    assert load(ENDLESS).error == "an answer has neither a Content-Length nor chunks"


def test_more_answers_than_requests_are_an_error() -> None:
    assert load(ANSWER * 2).error == "an answer came that nobody had asked for"


class Slow(asyncio.Protocol):
    """Answers every request, but none before the measured time is over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        answers = ANSWER * data.count(b"\r\n\r\n")
        asyncio.get_running_loop().call_later(0.5, self._transport.write, answers)


def test_answers_after_the_measured_time_are_no_throughput() -> None:
    tally = load(protocol=Slow, rate=100.0, connections=50)
    assert tally.answered == sum(tally.overdue) > 0
    assert tally.requests_per_s == 0
    assert tally.all_times().count == tally.answered + tally.unanswered

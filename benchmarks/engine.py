"""What the engine costs per request, beside a bare uvloop protocol that parses nothing.

    python -m benchmarks.engine

One server process after the other is loaded in a closed loop by this process, with 64 connections that are
kept alive: each sends its next request when the answer is there. Printed are the processor time of the
server per request, from its own resource usage, and how many times that is what the bare protocol needs. The
bar is 1.5, and not reached: see the README beside this. Takes about fifteen seconds.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
from multiprocessing.connection import Connection as Pipe
from typing import Final, NamedTuple, cast

import uvloop

from openred_central.micro_engine import Engine, Request
from openred_central.micro_engine.sockets import address_of, listen_tcp

CONNECTIONS: Final = 64
WARM_UP_S: Final = 0.3
MEASURED_S: Final = 1.0
ROUNDS: Final = 3

REQUEST: Final = (
    b"GET /hello/world HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n"
)
HEARTBEAT_BODY: Final = b'{"node_id":"0123456789abcdef","load":0.25,"services":["a","b"]}'
HEARTBEAT: Final = (
    b"POST /heartbeat HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: benchmark\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(HEARTBEAT_BODY), HEARTBEAT_BODY)
)


class Cost(NamedTuple):
    """One measurement: processor time of the server per request, and requests per second."""

    microseconds: float
    requests_per_s: float


class Bare(asyncio.Protocol):
    """Answers every piece of data with the same bytes: what an answer costs if nothing is looked at."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer)


def application() -> Engine:
    """An engine with trivial handlers, as an application would write them."""
    engine = Engine()

    @engine.route("/hello/{name}")
    async def hello(request: Request, name: str) -> dict[str, str]:
        return {"hello": name}

    @engine.route("/heartbeat", methods=["POST"])
    async def heartbeat(request: Request) -> dict[str, str]:
        return {"node_id": request.json()["node_id"]}

    return engine


async def serve_engine() -> list[str]:
    listeners = listen_tcp("127.0.0.1", 0, backlog=CONNECTIONS)
    return await application().start(listeners)


async def serve_bare() -> list[str]:
    Bare.answer = await one_answer()
    (listener,) = listen_tcp("127.0.0.1", 0, backlog=CONNECTIONS)
    await asyncio.get_running_loop().create_server(Bare, sock=listener)
    return [address_of(listener)]


async def one_answer() -> bytes:
    """What the engine answers to the first request: the bare protocol sends the same bytes."""
    engine = application()
    (address,) = await engine.start(listen_tcp("127.0.0.1", 0, backlog=1))
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(REQUEST)
    answer = await reader.readuntil(b"}")
    writer.close()
    await engine.drain()
    return answer


def server(pipe: Pipe, kind: str) -> None:
    """A server process: tells its address, and then its processor time whenever asked."""

    async def main() -> None:
        addresses = await (serve_engine() if kind == "engine" else serve_bare())
        pipe.send(addresses[0])
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def told() -> None:
            if pipe.recv() == "stop":
                stop.set()
                return
            usage = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send(usage.ru_utime + usage.ru_stime)

        loop.add_reader(pipe.fileno(), told)
        await stop.wait()

    uvloop.run(main())


class Client(asyncio.Protocol):
    """One connection of the load: the next request goes out when the answer to the last one is there."""

    answers = 0

    def __init__(self, request: bytes) -> None:
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        # Answers are small: each comes in one piece.
        self.answers += 1
        self.transport.write(self._request)

    def stop(self) -> None:
        self.transport.abort()


async def load(pipe: Pipe, address: str, request: bytes) -> Cost:
    """Load the server at `address` and measure the best of some rounds: the others were disturbed."""
    loop = asyncio.get_running_loop()
    host, port = address.split(":")
    clients = [
        (await loop.create_connection(lambda: Client(request), host, int(port)))[1]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(WARM_UP_S)
    costs = []
    for _ in range(ROUNDS):
        before_s, answers_before = processor_s(pipe), sum(client.answers for client in clients)
        await asyncio.sleep(MEASURED_S)
        spent_s, answers = processor_s(pipe) - before_s, sum(client.answers for client in clients)
        answers -= answers_before
        costs.append(Cost(spent_s / answers * 1e6, answers / MEASURED_S))
    for client in clients:
        client.stop()
    return min(costs)


def processor_s(pipe: Pipe) -> float:
    pipe.send("usage")
    return float(pipe.recv())


def measure(kind: str, request: bytes) -> Cost:
    """The cost of `request` at a fresh server process of `kind`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=server, args=(theirs, kind))
    process.start()
    try:
        return uvloop.run(load(ours, ours.recv(), request))
    finally:
        ours.send("stop")
        process.join(5)
        process.kill()


def main() -> None:
    bare = measure("bare", REQUEST)
    print(f"{'':24}{'µs per request':>16}{'times bare':>12}{'requests/s':>12}")
    rows = [("bare protocol", bare)]
    rows.append(("GET /hello/{name}", measure("engine", REQUEST)))
    rows.append(("POST /heartbeat, JSON", measure("engine", HEARTBEAT)))
    for name, cost in rows:
        times = cost.microseconds / bare.microseconds
        print(f"{name:24}{cost.microseconds:>16.1f}{times:>12.2f}{cost.requests_per_s:>12.0f}")


if __name__ == "__main__":
    main()

"""Runs of the load: nodes are registered, connections get sessions, generators start at the same moment."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from time import perf_counter, time

import orjson
import uvloop

from ..signers import ED25519
from .answers import AnswerReader
from .generator import Generator
from .requests import KINDS, LoadError, LoadOptions, keys_needed, tls_context
from .tally import Second, Tally

# Delay between the moment when the last process is ready and the start of all.
LEAD_S = 0.05
# Time beyond the run itself, for connecting and the last answers.
PATIENCE_S = 60.0
PREPARING_CONNECTIONS_MAX = 64
SHOWN_CHARACTERS = 300
# Timers of the loop are a millisecond coarse.
AFTER_SECOND_S = 0.01

OnSecond = Callable[[Second], None]


async def _at_once() -> float:
    return perf_counter()


async def _generate(
    options: LoadOptions,
    on_second: OnSecond,
    start: Callable[[], Awaitable[float]] = _at_once,
    edge: Callable[[], None] = lambda: None,
) -> Tally:
    options = options._replace(sessions=await _get_sessions(options))
    return await Generator(options, on_second).run(start, edge)


def run_here(
    options: LoadOptions,
    on_second: OnSecond = lambda second: None,
    edge: Callable[[], None] = lambda: None,
) -> Tally:
    """Run one generator in this process; `edge` is called where the measured time starts and ends.

    Raises `LoadError`.
    """
    try:
        return uvloop.run(_generate(options, on_second, edge=edge))
    except OSError as error:
        raise LoadError(_cannot_connect(options, error)) from error


def run_in_processes(
    options: LoadOptions, processes: int, on_second: OnSecond = lambda second: None
) -> Tally:
    """Run generators in several processes, which share rate and connections. Raises `LoadError`."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Pipe] = []
    children = []
    for part in shares(options, processes):
        ours, theirs = context.Pipe()
        children.append(context.Process(target=_child, args=(theirs, part), daemon=True))
        pipes.append(ours)
        children[-1].start()
        theirs.close()
    ends_s = perf_counter() + options.warm_up_s + options.duration_s + PATIENCE_S
    tally = Tally(list(options.mix))
    try:
        waiting, ready = set(pipes), 0
        while waiting:
            readable = wait(list(waiting), timeout=max(0.0, ends_s - perf_counter()))
            if not readable:
                raise LoadError(
                    f"the processes of the load did not end within {PATIENCE_S:g} s after the run"
                )
            for pipe in (each for each in pipes if each in readable):
                try:
                    message = pipe.recv()
                except EOFError:
                    raise LoadError("a process of the load died") from None
                if message == "ready":
                    ready += 1
                    if ready == processes:
                        for each in pipes:
                            each.send(perf_counter() + LEAD_S)
                elif isinstance(message, Second):
                    on_second(message)
                elif isinstance(message, Tally):
                    tally.merge(message)
                    waiting.discard(pipe)
                else:
                    raise LoadError(str(message))
        return tally
    finally:
        for child in children:
            child.join(1)
            child.kill()


def shares(options: LoadOptions, processes: int) -> list[LoadOptions]:
    """Return the options of each process: the rate is that of all, connections are dealt out evenly."""

    def dealt(total: int, process: int) -> int:
        return total // processes + (process < total % processes)

    return [
        options._replace(
            generator=process,
            generators=processes,
            connections=dealt(options.connections, process),
            idle_connections=dealt(options.idle_connections, process),
        )
        for process in range(processes)
    ]


def _child(pipe: Pipe, options: LoadOptions) -> None:
    async def start() -> float:
        pipe.send("ready")
        return float(await asyncio.get_running_loop().run_in_executor(None, pipe.recv))

    try:
        pipe.send(uvloop.run(_generate(options, pipe.send, start)))
    except OSError as error:
        pipe.send(_cannot_connect(options, error))
    except LoadError as error:
        pipe.send(str(error))


def _cannot_connect(options: LoadOptions, error: OSError) -> str:
    return f"cannot connect to {options.host}:{options.port}: {error.strerror or error}"


def register_nodes(
    options: LoadOptions, on_registered: Callable[[int], None] = lambda registered: None
) -> dict[int, int]:
    """Register the nodes of the run and return status → number; known nodes stay as they are.

    `on_registered` is called with the number of answers so far. Raises `LoadError`.
    """
    statuses: Counter[int] = Counter()

    def on_answer(status: int, body: bytes) -> None:
        statuses[status] += 1
        on_registered(statuses.total())

    async def register() -> None:
        if keys_needed(options.mix):
            # Times in signatures are whole seconds; the second of a server's start counts as before it.
            now_s = time()
            await asyncio.sleep(math.floor(now_s) + 1 - now_s + AFTER_SECOND_S)
        await _send_all(options, options.registrations(), on_answer)

    try:
        uvloop.run(register())
    except OSError as error:
        raise LoadError(_cannot_connect(options, error)) from error
    return dict(statuses)


def registered_number(options: LoadOptions) -> int:
    """Return how many nodes `register_nodes` registers."""
    return options.nodes * (any(KINDS[kind].of_nodes for kind in options.mix) + len(keys_needed(options.mix)))


async def _get_sessions(options: LoadOptions) -> dict[int, str]:
    """Get a session for each connection, if the mix needs them. Raises `LoadError` and `OSError`."""
    if not any(KINDS[kind].with_session for kind in options.mix):
        return {}
    by_node: dict[str, str] = {}

    def on_answer(status: int, body: bytes) -> None:
        if status != 200:
            shown = body[:SHOWN_CHARACTERS].decode(errors="replace")
            raise LoadError(f"the server granted no session, but answered {status}: {shown}")
        document = orjson.loads(body)
        by_node[document["node_id"]] = document["session"]

    await _send_all(options, options.session_requests(), on_answer)
    return {
        connection: by_node[options.proven_id(ED25519, options.own_node(connection))]
        for connection in range(options.connections)
    }


async def _send_all(
    options: LoadOptions, requests: Iterator[bytes], on_answer: Callable[[int, bytes], None]
) -> None:
    """Send all requests and pass status and body of every answer on, in any order."""

    async def client() -> None:
        context = tls_context() if options.tls else None
        reader, writer = await asyncio.open_connection(options.host, options.port, ssl=context)
        answers = AnswerReader()
        try:
            for request in requests:
                writer.write(request)
                while not (statuses := answers.feed(data := await reader.read(65_536))):
                    if not data:
                        raise ConnectionResetError("the server closed the connection")
                on_answer(statuses[0], answers.body)
        finally:
            writer.close()

    await asyncio.gather(*(client() for _ in range(min(options.connections, PREPARING_CONNECTIONS_MAX))))

"""Runs of the load: in this process, or in several that begin at the same moment."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from time import perf_counter

import uvloop

from . import preparing
from .generator import Generator, LoadOptions
from .tally import Second, Tally

# All processes are told to begin so much later than the last of them is ready.
LEAD_S = 0.05
# Beyond the run itself: connecting, the last answers.
PATIENCE_S = 60.0


class LoadError(Exception):
    """The load cannot be run. The message is one line that says why."""


def run_here(
    options: LoadOptions,
    second_told: Callable[[Second], None] = lambda second: None,
    edge: Callable[[], None] = lambda: None,
) -> Tally:
    """Run one generator in this process. Raises `LoadError` where it cannot connect, or gets no session."""

    async def start() -> float:
        return perf_counter()

    async def main() -> Tally:
        sessions = await preparing.get_sessions(options)
        return await Generator(options, second_told, sessions).run(start, edge)

    try:
        return uvloop.run(main())
    except OSError as error:
        raise LoadError(_cannot_connect(options, error)) from error
    except preparing.RefusedError as error:
        raise LoadError(str(error)) from error


def run_in_processes(
    options: LoadOptions, processes: int, second_told: Callable[[Second], None] = lambda second: None
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
            told = wait(list(waiting), timeout=max(0.0, ends_s - perf_counter()))
            if not told:
                raise LoadError("the processes of the load did not end in time")
            for pipe in (each for each in pipes if each in told):
                try:
                    message = pipe.recv()
                except EOFError:
                    raise LoadError("a process of the load has died") from None
                if message == "ready":
                    ready += 1
                    if ready == processes:
                        for each in pipes:
                            each.send(perf_counter() + LEAD_S)
                elif isinstance(message, Second):
                    second_told(message)
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
    """What each process does: connections are dealt out evenly, the rate is kept as that of all."""

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

    async def main() -> Tally:
        sessions = await preparing.get_sessions(options)
        return await Generator(options, pipe.send, sessions).run(start)

    try:
        pipe.send(uvloop.run(main()))
    except OSError as error:
        pipe.send(_cannot_connect(options, error))
    except preparing.RefusedError as error:
        pipe.send(str(error))


def _cannot_connect(options: LoadOptions, error: OSError) -> str:
    return f"cannot connect to {options.host}:{options.port}: {error.strerror or error}"


def register_nodes(
    options: LoadOptions, told: Callable[[int], None] = lambda registered: None
) -> dict[int, int]:
    """Register the nodes that the load speaks of, as `preparing.register_nodes` does. Raises `LoadError`."""
    try:
        return uvloop.run(preparing.register_nodes(options, told))
    except OSError as error:
        raise LoadError(_cannot_connect(options, error)) from error

"""Our server with a watcher on its loop: a timer that is due every millisecond while the server is ready.

    python -m benchmarks.suite.watched FILE --port=8000 ...       settings as for the server

At its end the server writes the lateness of the timer to FILE. A timer of the loop is a millisecond coarse:
less than that is no stall. Stalls after the signal to stop do not count.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import uvloop

from openred_central.server.server import Server
from openred_central.settings.config import load

from ..load.tally import Histogram

TICK_S = 0.001


class ReadyHandler(logging.Handler):
    """A log handler that sets `ready` at the line "ready", and clears it at the line "stopping"."""

    def __init__(self, ready: asyncio.Event) -> None:
        super().__init__()
        self._ready = ready

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("ready"):
            self._ready.set()
        elif str(record.msg).startswith("stopping"):
            self._ready.clear()


async def watch(ready: asyncio.Event, late: Histogram) -> None:
    """Count how late a timer is."""
    await ready.wait()
    while ready.is_set():
        due_s = perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        late.add(int((perf_counter() - due_s) * 1e6))


async def serve(flags: list[str], late: Histogram) -> None:
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    settings = {name.replace("-", "_"): value for name, value in given.items()}
    ready = asyncio.Event()
    logging.basicConfig(level="INFO")
    logging.getLogger("openred.server").addHandler(ReadyHandler(ready))
    watching = asyncio.create_task(watch(ready, late))
    await Server(load(settings, {})).run()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


def main() -> None:
    late = Histogram()
    uvloop.run(serve(sys.argv[2:], late))
    Path(sys.argv[1]).write_text(json.dumps(late.summary_ms()))


if __name__ == "__main__":
    main()

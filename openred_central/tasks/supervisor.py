"""Lets no background task end the server: one that fails is begun anew, after a pause.

Tasks meet files, keys, a disk, a system that has no thread or memory left. An error that one of them did not
expect must not take away what the others do. The end of the process would not mend it either: the cause is
mostly still there at the next start. So the log tells it in one line, a metric counts it, and the server goes
on with all that works. Only a `StartError` ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import PurePath

from ..clock import Clock
from ..listening import StartError

log = logging.getLogger("openred.tasks")

# The pause after a failure, doubled with each further one, and begun anew after a run of the longest pause.
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 60.0


class Supervisor:
    """Runs background tasks; `failures` counts by their names how often they failed. End it with `stop`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stopping = asyncio.Event()
        self.failures: Counter[str] = Counter()

    async def run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` until it ends by itself, or fails after `stop`. Raises `StartError` as it does."""
        self.failures[name] = 0
        pause_s = PAUSE_S_MIN
        while True:
            # Where it pauses at the stop it is begun once more: there may be something to bring to its end.
            is_last = self._stopping.is_set()
            began_s = self._clock.monotonic_s()
            try:
                await work()
                return
            except StartError:
                raise
            except Exception as error:  # noqa: BLE001
                if self._clock.monotonic_s() - began_s >= PAUSE_S_MAX:
                    pause_s = PAUSE_S_MIN
                self.failures[name] += 1
                if is_last:
                    log.error("the %s failed at the stop: %s", name, described(error))
                    return
                log.error("the %s failed, and begins anew in %g s: %s", name, pause_s, described(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def stop(self) -> None:
        """Pause no more, and begin nothing anew but once more what pauses."""
        self._stopping.set()


def described(error: Exception) -> str:
    """An error that nobody expected, in one line: what it is, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({PurePath(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{error!r}{where}"

"""The common parts of background tasks: loop, supervision, threads, and the log of lasting failures."""

from __future__ import annotations

import asyncio
import logging
import traceback
from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import PurePath
from typing import Final, TypeVar, TypeVarTuple

from ..clock import Clock
from ..listening import StartError
from ..wording import counted

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

log = logging.getLogger("openred.tasks")

# The pause after a failure. It doubles with each failure, and is short again after a long run.
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 60.0
# The beginning of a lasting failure is logged at most this often.
REPORT_S: Final = 60.0


class NoThread(Exception):
    """The system cannot start a thread at present."""


def in_thread(
    executor: Executor, work: Callable[[*Arguments], Result], *arguments: *Arguments
) -> asyncio.Future[Result]:
    """Start `work` in a thread of `executor`, and return the future of its result. Raises `NoThread`."""
    try:
        return asyncio.get_running_loop().run_in_executor(executor, work, *arguments)
    except RuntimeError as error:
        raise NoThread(f"the system cannot start a thread: {error}") from error


class StoppableTask:
    """A background task: `run` it, `stop` it at the end; `wake` ends its pause early."""

    def __init__(self) -> None:
        self.stopping = False
        self._woken = asyncio.Event()

    async def pause(self, pause_s: float | None) -> None:
        """Sleep for `pause_s` seconds, None for ever, or until `wake` or `stop`."""
        if pause_s == 0.0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._woken.wait()
        if not self.stopping:
            self._woken.clear()

    def wake(self) -> None:
        """End the pause, or skip the next one."""
        self._woken.set()

    def stop(self) -> None:
        """Let `run` end after the work at hand."""
        self.stopping = True
        self._woken.set()


class PeriodicTask(StoppableTask):
    """A task that calls `work` again and again."""

    @abstractmethod
    async def work(self) -> float | None:
        """Do what is due. Return the seconds until the next call, None to wait for `wake`."""

    async def run(self) -> None:
        """Work until `stop`."""
        while not self.stopping:
            await self.pause(await self.work())


class Supervisor:
    """The runner of background tasks: it restarts a task that fails, after a pause, until `stop`.

    Files, keys, a full disk, or a lack of threads or memory may make a task fail. Such an error must not end
    the other tasks, and a restart of the process would not fix its cause. So the log reports it in one line,
    `failures` counts it by the name of the task, and only a `StartError` ends the server.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stopping = asyncio.Event()
        self.failures: Counter[str] = Counter()

    async def run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` until it returns, or fails after `stop`. Raises `StartError` if `work` does."""
        self.failures[name] = 0
        pause_s = PAUSE_S_MIN
        while True:
            # After a stop during a pause, run the task once more: it may have to save something.
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
                log.error("the %s failed and is restarted in %g s: %s", name, pause_s, described(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def stop(self) -> None:
        """End all pauses; a task in a pause runs once more, and no other restarts."""
        self._stopping.set()


def described(error: Exception) -> str:
    """Return an unexpected error in one line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({PurePath(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{error!r}{where}"


class Trouble:
    """The log of a lasting failure: its beginning and its end, and nothing in between.

    A disk that is nearly full may accept one commit and refuse the next, many times a second. So a beginning
    is logged at most once in `REPORT_S`, and an end only if its beginning was; `works` is the text for it.
    `failures` counts all failures. `last_error` is None after a success.
    """

    def __init__(self, log: logging.Logger, monotonic_s: Callable[[], float], works: str) -> None:
        self._log = log
        self._monotonic_s = monotonic_s
        self._works = works
        self._reported = False
        self._reported_s: float | None = None
        self.failures = 0
        self.last_error: str | None = None

    def failed(self, what: str, error: Exception) -> None:
        """Count a failure, and log it if it begins; `what` says what failed."""
        self.failures += 1
        self.last_error = str(error) or repr(error)
        now_s = self._monotonic_s()
        if self._reported or (self._reported_s is not None and now_s - self._reported_s < REPORT_S):
            return
        self._reported, self._reported_s = True, now_s
        # Pass the error itself: the log shows more of an error than of a text.
        self._log.error("%s, to be tried again: %s", what, error if str(error) else repr(error))

    def worked(self) -> None:
        """Note a success, and log it if a failure was logged."""
        self.last_error = None
        if self._reported:
            self._reported = False
            self._log.warning("%s, after %s in all", self._works, counted(self.failures, "failure"))

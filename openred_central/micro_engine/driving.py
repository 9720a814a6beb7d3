"""Coroutines driven in place: one that never waits needs no turn of the loop, one that waits becomes a task.

A handler runs at once, within the callback that brought its request. Python 3.12 starts a task eagerly for
that. In Python 3.11, a stand-in is the current task until the handler first waits. From then on it forwards
everything to the task: `asyncio.timeout` and `asyncio.TaskGroup` keep what `asyncio.current_task` returned.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from typing import Any

# No coroutine can wait for this value.
_NOTHING: Any = object()


class StandIn:
    """The current task of a coroutine that has not waited yet, and may never need a task."""

    # Class attributes: hardly any stand-in is ever asked. Without slots it can also be referred to weakly, as
    # libraries do with tasks.
    _cancelled = 0
    task: asyncio.Task[Any] | None = None

    def cancel(self, msg: Any = None) -> bool:
        if self.task is not None:
            return self.task.cancel(msg)
        self._cancelled += 1
        return True

    def uncancel(self) -> int:
        if self.task is not None:
            return self.task.uncancel()
        self._cancelled = max(0, self._cancelled - 1)
        return self._cancelled

    def cancelling(self) -> int:
        return self._cancelled if self.task is None else self.task.cancelling()

    def __getattr__(self, name: str) -> Any:
        # Everything else is asked of the task after the first wait.
        return getattr(self.task, name)


class Resumed(Coroutine[Any, Any, Any]):
    """A coroutine that was started and waits for `awaited`, in a form that a task can take over.

    The first `send` returns `awaited`; everything else goes through. A task that is cancelled before its
    first step throws into the coroutine itself, which can clean up as always.
    """

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def send(self, value: Any) -> Any:
        awaited = self._awaited
        if awaited is _NOTHING:
            return self._coroutine.send(value)
        self._awaited = _NOTHING
        return awaited

    def throw(self, *error: Any) -> Any:
        self._awaited = _NOTHING
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("a resumed coroutine is run by a task")


def start(coroutine: Coroutine[Any, Any, Any]) -> tuple[asyncio.Task[Any] | None, Any]:
    """Run `coroutine` in place until it waits or ends. For callbacks of the loop, outside of any task.

    Returns the task that goes on with it if it waits; None and its result if it ended. Raises what
    `coroutine` raises.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        eager = asyncio.Task(coroutine, loop=loop, eager_start=True)
        return (None, eager.result()) if eager.done() else (eager, None)
    # A new one each time: a late cancel of one that was kept must not reach the coroutine of another.
    stand_in = StandIn()
    _enter_task(loop, stand_in)  # type: ignore[arg-type]
    try:
        awaited = coroutine.send(None)
    except StopIteration as done:
        return None, done.value
    finally:
        _leave_task(loop, stand_in)  # type: ignore[arg-type]
    task = loop.create_task(Resumed(coroutine, awaited))
    for _ in range(stand_in.cancelling()):
        task.cancel()
    stand_in.task = task
    return task, None

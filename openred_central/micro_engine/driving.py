"""Coroutines driven in place: one that never waits needs no task, one that waits becomes one.

A handler runs at once, within the callback that brought its request. `asyncio.current_task` must be true to
it from the first line on, since `asyncio.timeout` and `asyncio.TaskGroup` keep what it returns: so a stand-in
is the current task until the handler first waits, and passes on what it is told to the task made then.

Measured: a handler that does not wait costs 0.4 µs more than the bare coroutine, a task for it 3.5 µs.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from typing import Any

# Not a value that a coroutine could wait for.
_NOTHING: Any = object()


class StandIn:
    """The current task of a coroutine that has not waited yet, and whose task may never be needed."""

    # Set here and not for each: nearly none is ever told anything. Without slots it can also be kept weakly,
    # as libraries do with what belongs to a task.
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
        # Whatever else is asked of the task is asked after the first wait.
        return getattr(self.task, name)


class Resumed(Coroutine[Any, Any, Any]):
    """A coroutine that was started and waits for `awaited`, in the form in which a task can take it over.

    The first `send` hands out what is waited for already; everything else goes through. A task that is
    cancelled before its first step throws into the coroutine itself, which can clean up as always.
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


def start(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop
) -> tuple[asyncio.Task[Any] | None, Any]:
    """Run `coroutine` in place until it waits or ends.

    Returns the task on `loop` that goes on with it where it waits; None and its result where it ended.
    Raises what `coroutine` raises, and `RuntimeError` within a task, where nothing can be run in place.
    """
    # One for each (0.07 µs): whoever keeps it and cancels late must not reach the coroutine of another.
    stand_in = StandIn()
    try:
        _enter_task(loop, stand_in)  # type: ignore[arg-type]
    except RuntimeError:
        coroutine.close()
        raise
    try:
        awaited = coroutine.send(None)
    except StopIteration as done:
        # Letting it through to the caller takes 0.1 µs more.
        return None, done.value
    finally:
        _leave_task(loop, stand_in)  # type: ignore[arg-type]
    task = loop.create_task(Resumed(coroutine, awaited))
    for _ in range(stand_in.cancelling()):
        task.cancel()
    stand_in.task = task
    return task, None

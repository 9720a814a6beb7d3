"""Coroutines driven in place, and handed to a task when they wait."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from openred_central.micro_engine.driving import Resumed, start

pytestmark = pytest.mark.both_loops


async def run(
    coroutine: Coroutine[Any, Any, Any],
    then: Callable[[asyncio.Task[Any]], object] = lambda task: None,
) -> Any:
    """Return the result of `coroutine`, driven in a callback of the loop; `then` gets its task at once."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Any] = loop.create_future()

    def drive() -> None:
        try:
            task, result = start(coroutine)
        except (RuntimeError, TypeError) as error:
            outcome.set_exception(error)
            return
        if task is None:
            outcome.set_result(("in place", result))
            return
        then(task)
        task.add_done_callback(finished)

    def finished(task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            outcome.set_result(("cancelled", None))
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(("task", task.result()))

    loop.call_soon(drive)
    return await outcome


async def test_coroutine_that_never_waits_ends_in_place() -> None:
    async def quick() -> int:
        return 7

    assert await run(quick()) == ("in place", 7)


async def test_coroutine_that_waits_goes_on_in_a_task() -> None:
    lines = []

    async def waiting() -> str:
        lines.append("first")
        await asyncio.sleep(0)
        lines.append("second")
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "third")
        lines.append(await future)
        return "done"

    assert await run(waiting()) == ("task", "done")
    assert lines == ["first", "second", "third"]


async def test_awaited_future_may_be_done_before_the_task_begins() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def waiting() -> str:
        return await future

    assert await run(waiting(), lambda task: future.set_result("early")) == ("task", "early")


@pytest.mark.parametrize("waits", [False, True])
async def test_error_of_the_coroutine_comes_out(waits: bool) -> None:
    async def failing() -> None:
        if waits:
            await asyncio.sleep(0)
        raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        await run(failing())


async def test_timeout_entered_before_the_first_wait_works() -> None:
    async def late() -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            await asyncio.sleep(0)
            return "timed out"
        return "not reached"

    assert await run(late()) == ("task", "timed out")


async def test_timeout_not_reached_leaves_no_trace() -> None:
    async def in_time() -> int:
        async with asyncio.timeout(3600):
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert await run(in_time()) == ("task", 0)


async def test_task_group_entered_before_the_first_wait_works() -> None:
    async def part(value: int) -> int:
        await asyncio.sleep(0)
        if value < 0:
            raise ValueError(value)
        return value

    async def grouped(*values: int) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part(value)) for value in values]
        return [task.result() for task in tasks]

    assert await run(grouped(1, 2)) == ("task", [1, 2])
    with pytest.raises(ExceptionGroup):
        await run(grouped(1, -2))


async def test_cancel_before_the_first_step_of_the_task_lets_it_clean_up() -> None:
    lines = []

    async def cleaning() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            lines.append("clean")
            raise

    assert await run(cleaning(), lambda task: task.cancel()) == ("cancelled", None)
    assert lines == ["clean"]


async def test_coroutine_that_cancels_itself_is_cancelled_when_it_waits() -> None:
    async def stopping() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        raise AssertionError("not reached")

    assert await run(stopping()) == ("cancelled", None)


async def test_no_task_is_current_outside_of_it() -> None:
    loop = asyncio.get_running_loop()
    seen = []

    async def quick() -> None:
        seen.append(asyncio.current_task())

    def drive() -> None:
        for _ in range(2):
            start(quick())
            seen.append(asyncio.current_task())

    loop.call_soon(drive)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task is None for task in seen] == [False, True, False, True]


async def test_early_reference_to_the_task_stays_good() -> None:
    async def naming() -> str:
        early = asyncio.current_task()
        assert early is not None
        await asyncio.sleep(0)
        late = asyncio.current_task()
        assert late is not None
        assert early.get_name() == late.get_name()
        return "same"

    assert await run(naming()) == ("task", "same")


async def test_current_task_can_be_referred_to_weakly() -> None:
    async def kept() -> str:
        names = weakref.WeakKeyDictionary({asyncio.current_task(): "kept"})
        return names[asyncio.current_task()]

    assert await run(kept()) == ("in place", "kept")


def test_close_closes_the_coroutine_itself() -> None:
    lines = []

    async def closing() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            lines.append("closed")

    coroutine = closing()
    resumed = Resumed(coroutine, coroutine.send(None))
    resumed.close()
    assert lines == ["closed"]


def test_resumed_coroutine_cannot_be_awaited() -> None:
    async def never() -> None: ...

    coroutine = never()
    with pytest.raises(TypeError):
        Resumed(coroutine, None).__await__()
    coroutine.close()
